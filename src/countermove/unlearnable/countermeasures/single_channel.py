"""One channel only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from countermove.pixels import squeezes
from countermove.unlearnable.countermeasure import Plan, ReplyContext, check_halves


@dataclass(frozen=True, kw_only=True)
class SingleChannel:
    """One channel, Liu et al. 2023, arXiv:2301.13838.

    One of red, green and blue stands in all three channels; what a move wrote into the other two is gone.

    channel: "r", "g" or "b". Green is nearest to the luma.
    train:   squeeze what was received.
    test:    squeeze the pictures that the trained model judges.

    Differs from the paper: a choice of ours. The paper speaks of other approaches that reduce colour differences; the
    table that lists them is not in the text that we have.
    """

    version: ClassVar[int] = 1

    channel: Literal["r", "g", "b"] = "g"
    train: bool = True
    test: bool = False

    def __post_init__(self) -> None:
        squeezes.check_channel(self.channel)
        check_halves(self.train, self.test)

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        return plan.squeezed(partial(squeezes.single_channel, channel=self.channel), train=self.train, test=self.test)
