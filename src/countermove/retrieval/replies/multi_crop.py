"""Several looks at a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from countermove.errors import ConfigError
from countermove.retrieval.plan import Plan


@dataclass(frozen=True, kw_only=True)
class MultiCrop:
    """Four corners, the middle and the whole of a query are searched for, and their scores averaged.

    share: of both sides that a crop has.
    flip:  also of the mirrored query.
    """

    version: ClassVar[int] = 1
    share: float = 0.75
    flip: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(f"countermove 'multi-crop': share = {self.share:g} is refused; it lies in 0..1")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the views."""
        plan.once("multi-crop", "views")
        return replace(plan, views=self._views)

    def _views(self, picture: Tensor) -> Sequence[Tensor]:
        height, width = (max(1, round(self.share * side)) for side in picture.shape[1:])
        down, right = picture.shape[1] - height, picture.shape[2] - width
        corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        views = [picture, *(picture[:, top : top + height, left : left + width] for top, left in corners)]
        return [*views, *(view.flip(2) for view in views)] if self.flip else views
