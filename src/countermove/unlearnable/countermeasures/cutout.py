"""Cutout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.learning.augment import CutoutStep
from countermove.unlearnable.countermeasure import Plan, ReplyContext


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """Cutout, DeVries and Taylor 2017, arXiv:1708.04552.

    A square of every training picture is blanked, at a random place, after crop and flip.

    length: side of the square in pixels (paper: 16 on CIFAR-10).
    """

    version: ClassVar[int] = 1

    length: int = 16

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ConfigError(f"cutout: length = {self.length} is refused: at least 1 pixel")

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        return plan.with_step(CutoutStep(length=self.length))
