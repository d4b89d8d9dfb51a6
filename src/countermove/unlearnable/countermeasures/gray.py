"""Gray pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.pixels import squeezes
from countermove.unlearnable.countermeasure import Plan, ReplyContext, check_halves


@dataclass(frozen=True, kw_only=True)
class Gray:
    """Gray pictures, Liu et al. 2023, arXiv:2301.13838.

    Every picture becomes its luma (ITU-R 601, as Pillow's), in three equal channels.

    train: squeeze what was received.
    test:  squeeze the pictures that the trained model judges.
    """

    version: ClassVar[int] = 1

    train: bool = True
    test: bool = False

    def __post_init__(self) -> None:
        check_halves(self.train, self.test)

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        return plan.squeezed(squeezes.gray, train=self.train, test=self.test)
