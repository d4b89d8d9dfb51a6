"""Queries in another size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.rounding import to_float, to_uint8
from countermove.retrieval.plan import On, Plan, check_on

LARGEST = 4.0


@dataclass(frozen=True, kw_only=True)
class Resize:
    """The query arrives smaller or larger, Liu et al. 2019, arXiv:1901.10332.

    Bicubic, with antialiasing where it becomes smaller. It stays in that size, so that an engine with a size of its
    own brings it back.

    share: of the sides (paper: 0.5, 0.8, 1.5, 2); up to 4.
    on:    "query", or "all" (indexed pictures too).

    Inferred: the filter, which the paper does not name.
    """

    version: ClassVar[int] = 1
    share: float = 0.5
    on: On = "query"

    def __post_init__(self) -> None:
        check_on("resize", self.on)
        if not 0 < self.share <= LARGEST:
            raise ConfigError(f"countermove 'resize': share = {self.share:g} is refused; above 0, and 4 at most")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more edit."""
        return plan.edited(partial(resize, share=self.share), self.on)


def resize(picture: Tensor, name: str = "", seed: int = 0, *, share: float) -> Tensor:
    """Return a picture uint8 [3, H, W] with sides of that share, at least a pixel each."""
    size = [max(1, round(share * side)) for side in picture.shape[1:]]
    if size == list(picture.shape[1:]):
        return picture
    pixels = F.interpolate(to_float(picture)[None], size, mode="bicubic", antialias=True, align_corners=False)
    return to_uint8(pixels[0].clamp(0, 1))
