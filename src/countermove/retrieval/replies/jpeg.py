"""Compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from countermove.pixels.jpeg import check_quality, jpeg
from countermove.pixels.rounding import to_float, to_uint8
from countermove.retrieval.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """Queries are compressed with JPEG before they are searched for.

    quality: of the compression.
    """

    version: ClassVar[int] = 1
    quality: int = 10

    def __post_init__(self) -> None:
        check_quality(self.quality)

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more edit."""
        return plan.edited(self._edited)

    def _edited(self, picture: Tensor, _name: str, _seed: int) -> Tensor:
        return to_uint8(jpeg(to_float(picture[None]), quality=self.quality))[0]
