"""CutMix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.learning.augment import CutMixStep
from countermove.unlearnable.countermeasure import Plan, ReplyContext


@dataclass(frozen=True, kw_only=True)
class CutMix:
    """CutMix, Yun et al. 2019, arXiv:1905.04899.

    A box of every training picture comes from another one; labels are mixed by area.

    alpha:       of the Beta distribution of the area that stays (paper: 1).
    probability: that a picture is mixed at all (Huang et al. 2021 use 0.5).
    """

    version: ClassVar[int] = 1

    alpha: float = 1.0
    probability: float = 0.5

    def __post_init__(self) -> None:
        if self.alpha <= 0 or not 0 <= self.probability <= 1:
            raise ConfigError("cutmix: alpha is above 0 and probability in [0, 1]")

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        return plan.with_step(CutMixStep(alpha=self.alpha, probability=self.probability))
