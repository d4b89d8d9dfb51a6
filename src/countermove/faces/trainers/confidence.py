"""The robust extractor where the accurate one is not sure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.faces.trainer import Plan
from countermove.faces.trainers.top_2 import joined


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """A photo that is near to nothing in the gallery is named by the adapted extractor, Radiya-Dixit et al. 2022.

    arXiv:2106.14851, section 3.5. Stands behind adaptive: adaptive+confidence. The threshold is set on the gallery
    itself: how near its photos, as they were taken, are to their nearest other one. For nearest neighbours alone.

    quantile: the share of the gallery's photos that are less near than the threshold; a higher one asks the adapted
              extractor more often.
    """

    version: ClassVar[int] = 1
    quantile: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ConfigError(f"countermove 'confidence': quantile = {self.quantile} is refused; it is between 0 and 1")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the threshold."""
        return replace(joined(plan, "confidence"), mixture="confidence", quantile=self.quantile)
