"""The middle of a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from countermove.errors import ConfigError
from countermove.retrieval.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Crop:
    """The middle of every query is searched for (thesis, table 5.4: 100 to 40 %).

    share: of both sides that is left; at least one pixel.
    """

    version: ClassVar[int] = 1
    share: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"countermove 'crop': share = {self.share:g} is refused; it lies in 0..1, above 0")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more edit."""
        return plan.edited(self._edited)

    def _edited(self, picture: Tensor, _name: str, _seed: int) -> Tensor:
        height, width = (max(1, round(self.share * side)) for side in picture.shape[1:])
        top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
        return picture[:, top : top + height, left : left + width]
