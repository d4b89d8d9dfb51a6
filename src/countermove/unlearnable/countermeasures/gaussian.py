"""Gaussian filter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from countermove.pixels import squeezes
from countermove.unlearnable.countermeasure import Plan, ReplyContext, check_halves


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Gaussian filter, Liu et al. 2023, arXiv:2301.13838.

    size:    side of the kernel in pixels, odd (paper: 3).
    sigma:   width in pixels. A width that changes nothing in 8 bits is refused.
    train:   squeeze what was received.
    test:    squeeze the pictures that the trained model judges.

    Differs from the released code, whose sigma of 0.1 gives neighbours a weight of 2e-22: it filters nothing.
    """

    version: ClassVar[int] = 1

    size: int = 3
    sigma: float = 1.0
    train: bool = True
    test: bool = False

    def __post_init__(self) -> None:
        squeezes.gaussian_weights(self.size, self.sigma)
        check_halves(self.train, self.test)

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        return plan.squeezed(
            partial(squeezes.gaussian, size=self.size, sigma=self.sigma), train=self.train, test=self.test
        )
