"""Blur."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.squeezes import gaussian, gaussian_weights
from countermove.retrieval.plan import On, Plan, check_on


@dataclass(frozen=True, kw_only=True)
class Blur:
    """A Gaussian blur of the query.

    sigma: in pixels; the window ends at three of them.
    on:    "query", or "all" (indexed pictures too).
    """

    version: ClassVar[int] = 1
    sigma: float = 1.0
    on: On = "query"

    def __post_init__(self) -> None:
        gaussian_weights(_window(self.sigma), self.sigma)
        check_on("blur", self.on)

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more edit."""
        return plan.edited(partial(blur, sigma=self.sigma), self.on)


def blur(picture: Tensor, name: str = "", seed: int = 0, *, sigma: float) -> Tensor:
    """Return a blurred picture uint8 [3, H, W]; on a very small one the window is as large as can be mirrored."""
    size = min(_window(sigma), 2 * min(picture.shape[1:]) - 1)
    return picture if size < 3 else to_uint8(gaussian(to_float(picture)[None], size, sigma)[0])


def _window(sigma: float) -> int:
    return 2 * max(1, math.ceil(3 * sigma)) + 1 if math.isfinite(sigma) else 3
