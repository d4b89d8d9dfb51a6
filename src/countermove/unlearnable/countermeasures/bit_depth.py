"""Bit depth reduction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from countermove.pixels import squeezes
from countermove.unlearnable.countermeasure import Plan, ReplyContext, check_halves


@dataclass(frozen=True, kw_only=True)
class BitDepth:
    """Bit depth reduction, Liu et al. 2023, arXiv:2301.13838.

    Only the highest bits of every value are kept.

    bits:    how many (paper: 2), 1 to 7.
    train:   squeeze what was received.
    test:    squeeze the pictures that the trained model judges.
    """

    version: ClassVar[int] = 1

    bits: int = 2
    train: bool = True
    test: bool = False

    def __post_init__(self) -> None:
        squeezes.check_bits(self.bits)
        check_halves(self.train, self.test)

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        return plan.squeezed(partial(squeezes.bit_depth, bits=self.bits), train=self.train, test=self.test)
