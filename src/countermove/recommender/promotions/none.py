"""The cooperative merchant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.pixels.batch import Batch
from countermove.recommender.promotion import PromotionContext


@dataclass(frozen=True, kw_only=True)
class NoPromotion:
    """The pictures as they are: the cooperative merchant every promotion is compared with."""

    version: ClassVar[int] = 1
    norm: ClassVar[None] = None
    knows: ClassVar[str] = ""

    def __call__(self, batch: Batch, *, context: PromotionContext) -> Batch:
        """Return the batch."""
        return batch
