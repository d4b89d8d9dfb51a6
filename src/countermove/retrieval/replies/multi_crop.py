"""Several looks at a query."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.retrieval.edits.crop import check_share
from countermove.retrieval.edits.resize import LARGEST
from countermove.retrieval.plan import Plan, Views


@dataclass(frozen=True, kw_only=True)
class MultiCrop:
    """Crops, sizes and the mirror image of a query are searched for, and their scores averaged.

    Resizing and cropping bring part of the untouched query's results back (Liu et al. 2019,
    arXiv:1901.10332), so that an owner may do both without being asked.

    crops:  shares of the sides that are left of the middle.
    scales: of each crop's sides.
    flip:   whether each is also mirrored.
    """

    version: ClassVar[int] = 1
    crops: tuple[float, ...] = (1.0, 0.8, 0.6)
    scales: tuple[float, ...] = (1.0, 0.5)
    flip: bool = True

    def __post_init__(self) -> None:
        for share in self.crops:
            check_share("multi-crop", share)
        if not self.crops or not self.scales or any(not 0 < scale <= LARGEST for scale in self.scales):
            raise ConfigError("countermove 'multi-crop': name crops, and scales above 0 and 4 at most, such as [1.0]")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with several views."""
        if plan.views is not None:
            raise ConfigError("countermove 'multi-crop' stands twice in a reply; name all crops in one: crops=[...]")
        return replace(plan, views=Views(crops=self.crops, scales=self.scales, flip=self.flip))
