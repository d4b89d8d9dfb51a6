"""Compression of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from countermove.pixels.jpeg import check_quality, jpeg
from countermove.pixels.squeezes import squeeze_uint8
from countermove.profiles.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """JPEG of every picture before its features are computed, those of training profiles too.

    quality: of the compression.
    """

    version: ClassVar[int] = 1
    quality: int = 10

    def __post_init__(self) -> None:
        check_quality(self.quality)

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more squeeze."""
        quality = self.quality

        def squeeze(items: Tensor, _rate: int) -> Tensor:
            return squeeze_uint8(items, partial(jpeg, quality=quality))

        return plan.squeezed(f"jpeg {quality}", "picture", squeeze)
