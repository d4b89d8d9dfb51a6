"""Blur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.squeezes import gaussian
from countermove.retrieval.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Blur:
    """Queries are blurred with a Gaussian before they are searched for.

    sigma: in pixels of the query.
    """

    version: ClassVar[int] = 1
    sigma: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= 20:
            raise ConfigError(f"countermove 'blur': sigma = {self.sigma:g} is refused; it lies in 0..20 pixels")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more edit."""
        return plan.edited(self._edited)

    def _edited(self, picture: Tensor, _name: str, _seed: int) -> Tensor:
        window = 2 * max(1, round(3 * self.sigma)) + 1
        return to_uint8(gaussian(to_float(picture[None]), window, self.sigma))[0]
