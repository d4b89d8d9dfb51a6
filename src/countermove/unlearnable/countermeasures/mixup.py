"""MixUp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.learning.augment import MixUpStep
from countermove.unlearnable.countermeasure import Plan, ReplyContext


@dataclass(frozen=True, kw_only=True)
class MixUp:
    """MixUp, Zhang et al. 2018, arXiv:1710.09412.

    Every training picture is averaged with another one; labels likewise.

    alpha:       of the Beta distribution of the weight (paper: 1).
    probability: that a picture is mixed at all (Huang et al. 2021 use 0.5).
    """

    version: ClassVar[int] = 1

    alpha: float = 1.0
    probability: float = 0.5

    def __post_init__(self) -> None:
        if self.alpha <= 0 or not 0 <= self.probability <= 1:
            raise ConfigError("mixup: alpha is above 0 and probability in [0, 1]")

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        return plan.with_step(MixUpStep(alpha=self.alpha, probability=self.probability))
