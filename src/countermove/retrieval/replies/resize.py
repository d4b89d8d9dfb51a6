"""Another size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.rounding import to_float, to_uint8
from countermove.retrieval.plan import Plan

SMALLEST = 8


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Queries are searched for at another size (thesis, table 5.4: 50 to 200 %).

    scale: factor on both sides; bilinear, with antialiasing where it shrinks. A side keeps at least 8 pixels.
    """

    version: ClassVar[int] = 1
    scale: float = 0.5

    def __post_init__(self) -> None:
        if not 0.05 <= self.scale <= 4:
            raise ConfigError(f"countermove 'resize': scale = {self.scale:g} is refused; it lies in 0.05..4")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more edit."""
        return plan.edited(self._edited)

    def _edited(self, picture: Tensor, _name: str, _seed: int) -> Tensor:
        return resized(picture, self.scale)


def resized(picture: Tensor, scale: float) -> Tensor:
    """Return a picture uint8 [3, H, W] at another size, no side under 8 pixels unless it was."""
    height, width = (max(min(SMALLEST, side), round(scale * side)) for side in picture.shape[1:])
    if (height, width) == tuple(picture.shape[1:]):
        return picture
    shown = F.interpolate(to_float(picture[None]), size=(height, width), mode="bilinear", antialias=True)
    return to_uint8(shown)[0]
