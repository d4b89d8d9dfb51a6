"""Median filter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from countermove.pixels import squeezes
from countermove.unlearnable.countermeasure import Plan, ReplyContext, check_halves


@dataclass(frozen=True, kw_only=True)
class Median:
    """Median filter, Liu et al. 2023, arXiv:2301.13838.

    Every value becomes the median of its neighbourhood in its channel.

    size:    side of the neighbourhood in pixels, odd (paper: 3).
    train:   squeeze what was received.
    test:    squeeze the pictures that the trained model judges.

    Differs from the released code, which filters an array laid out the other way round: there the filter runs over
    channels and rows.
    """

    version: ClassVar[int] = 1

    size: int = 3
    train: bool = True
    test: bool = False

    def __post_init__(self) -> None:
        squeezes.check_size(self.size)
        check_halves(self.train, self.test)

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        return plan.squeezed(partial(squeezes.median, size=self.size), train=self.train, test=self.test)
