"""JPEG compression."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from countermove.pixels.jpeg import check_quality, jpeg
from countermove.unlearnable.countermeasure import Plan, ReplyContext, check_halves


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """JPEG compression, Liu et al. 2023, arXiv:2301.13838.

    Every picture goes once through the real codec with 4:2:0 subsampling.

    quality: 1 (strong) to 95 (paper: 10).
    train:   squeeze what was received.
    test:    squeeze the pictures that the trained model judges.
    """

    version: ClassVar[int] = 1

    quality: int = 10
    train: bool = True
    test: bool = False

    def __post_init__(self) -> None:
        check_quality(self.quality)
        check_halves(self.train, self.test)

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        return plan.squeezed(partial(jpeg, quality=self.quality), train=self.train, test=self.test)
