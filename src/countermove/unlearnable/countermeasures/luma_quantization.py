"""Few levels of luma, fewer of colour."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from countermove.pixels import squeezes
from countermove.unlearnable.countermeasure import Plan, ReplyContext, check_halves


@dataclass(frozen=True, kw_only=True)
class LumaQuantization:
    """Luma quantization, Liu et al. 2023, arXiv:2301.13838.

    The luma (ITU-R 601) keeps few levels, the two colour differences fewer still or none: gray and bit depth at once.

    levels: of the luma, 2 to 256, equidistant from black to white.
    chroma: levels of each colour difference, odd, 1 to 255; 1 drops the colours.
    train:  squeeze what was received.
    test:   squeeze the pictures that the trained model judges.

    Differs from the paper: a choice of ours. The paper speaks of other approaches that reduce colour differences; the
    table that lists them is not in the text that we have.
    """

    version: ClassVar[int] = 1

    levels: int = 16
    chroma: int = 1
    train: bool = True
    test: bool = False

    def __post_init__(self) -> None:
        squeezes.check_levels(self.levels, self.chroma)
        check_halves(self.train, self.test)

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        return plan.squeezed(
            partial(squeezes.luma_quantization, levels=self.levels, chroma=self.chroma),
            train=self.train,
            test=self.test,
        )
