"""Compression."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from countermove.faces.trainer import On, Plan, check_on
from countermove.pixels.jpeg import check_quality, jpeg


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """JPEG before photos are embedded.

    quality: of the compression.
    on:      "gallery" (what was collected), or "all" (also the photos to be named).
    """

    version: ClassVar[int] = 1
    quality: int = 10
    on: On = "all"

    def __post_init__(self) -> None:
        check_quality(self.quality)
        check_on("jpeg", self.on)

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more squeeze."""
        return plan.squeezed(partial(jpeg, quality=self.quality), self.on)
