"""The mean of the channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.pixels import squeezes
from countermove.unlearnable.countermeasure import Plan, ReplyContext, check_halves


@dataclass(frozen=True, kw_only=True)
class ChannelMean:
    """Mean of the channels, Liu et al. 2023, arXiv:2301.13838.

    Every pixel becomes the mean of its red, green and blue, in three equal channels: gray without the eye's weights.

    train: squeeze what was received.
    test:  squeeze the pictures that the trained model judges.

    Differs from the paper: a choice of ours. The paper speaks of other approaches that reduce colour differences; the
    table that lists them is not in the text that we have.
    """

    version: ClassVar[int] = 1

    train: bool = True
    test: bool = False

    def __post_init__(self) -> None:
        check_halves(self.train, self.test)

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        return plan.squeezed(squeezes.channel_mean, train=self.train, test=self.test)
