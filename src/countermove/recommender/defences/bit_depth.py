"""Fewer bits a channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from countermove.pixels.squeezes import bit_depth, check_bits
from countermove.recommender.defence import On, Plan, check_on


@dataclass(frozen=True, kw_only=True)
class BitDepth:
    """Bit depth reduction before a picture is embedded, Liu and Larson 2021, arXiv:2006.01888.

    bits: kept of each value, 1 to 7 (paper: 7 to 2).
    on:   "new" pictures only, or "all", see `jpeg`.
    """

    version: ClassVar[int] = 1
    bits: int = 2
    on: On = "new"

    def __post_init__(self) -> None:
        check_bits(self.bits)
        check_on("bit-depth", self.on)

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the squeeze."""

        def squeeze(pictures: Tensor) -> Tensor:
            return bit_depth(pictures, self.bits)

        return plan.squeezed(squeeze, self.on)
