"""JPEG compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from countermove.pixels.jpeg import check_quality, jpeg
from countermove.recommender.defence import On, Plan, check_on


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """JPEG compression before a picture is embedded, Liu and Larson 2021, arXiv:2006.01888.

    quality: 10 to 95 (paper: 90, 70, 50, 30, 10).
    on:      "new" pictures only, which no owner can tell from attacked ones (the paper squeezes these), or "all":
             then the catalogue is embedded anew; the ranker is not fitted again.
    """

    version: ClassVar[int] = 1
    quality: int = 10
    on: On = "new"

    def __post_init__(self) -> None:
        check_quality(self.quality)
        check_on("jpeg", self.on)

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the squeeze."""

        def squeeze(pictures: Tensor) -> Tensor:
            return jpeg(pictures, self.quality)

        return plan.squeezed(squeeze, self.on)
