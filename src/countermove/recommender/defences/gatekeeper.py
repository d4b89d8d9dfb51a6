"""A gatekeeper at the upload."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.jpeg import check_quality, jpeg
from countermove.recommender.defence import Gate, Plan


@dataclass(frozen=True, kw_only=True)
class Gatekeeper:
    """Uploads that compression moves too far are refused, Xu et al. 2018, arXiv:1704.01155.

    Feature squeezing at the gate. A perturbed picture's embedding moves further under JPEG than an honest one's. The
    limit is set so that most of the catalogue would pass; what is refused gets into no list. Semantic promotions have
    nothing to notice. The thesis names a gatekeeper as outlook; `insa(gatekeeper=...)` is the promotion that knows it.

    quality: of the JPEG it compares with.
    passed:  share of the catalogue that must pass.
    """

    version: ClassVar[int] = 1
    quality: int = 75
    passed: float = 0.95

    def __post_init__(self) -> None:
        check_quality(self.quality)
        if not 0 < self.passed < 1:
            raise ConfigError(f"countermove 'gatekeeper': passed = {self.passed} is refused; it is between 0 and 1")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the gate."""
        if plan.gate is not None:
            raise ConfigError("two gatekeepers stand at one gate; name one")

        def squeeze(pictures: Tensor) -> Tensor:
            return jpeg(pictures, self.quality)

        return replace(plan, gate=Gate(squeeze=squeeze, passed=self.passed))
