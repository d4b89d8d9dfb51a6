"""Compression."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from countermove.pixels.jpeg import check_quality, jpeg
from countermove.pixels.rounding import to_float, to_uint8
from countermove.retrieval.plan import On, Plan, check_on


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """The query arrives as a JPEG file, with the usual 4:2:0 subsampling.

    quality: of the compression.
    on:      "query", or "all" (indexed pictures too).
    """

    version: ClassVar[int] = 1
    quality: int = 75
    on: On = "query"

    def __post_init__(self) -> None:
        check_quality(self.quality)
        check_on("jpeg", self.on)

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more edit."""
        return plan.edited(partial(compress, quality=self.quality), self.on)


def compress(picture: Tensor, name: str = "", seed: int = 0, *, quality: int) -> Tensor:
    """Return a picture uint8 [3, H, W] as it comes out of a JPEG file."""
    return to_uint8(jpeg(to_float(picture)[None], quality, threads=1)[0])
