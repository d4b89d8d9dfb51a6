"""A photo of the photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.jpeg import check_quality, jpeg
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.squeezes import gaussian
from countermove.retrieval.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Recapture:
    """Queries are photographed from a screen or a print: a slight turn, blur, another exposure, noise, JPEG.

    degrees: largest turn to either side.
    sigma:   of the blur, in pixels.
    gamma:   the exposure's exponent lies between 1 / gamma and gamma.
    noise:   standard deviation, in [0, 1] pixel units.
    quality: of the JPEG.

    Each query's draw follows its id.
    """

    version: ClassVar[int] = 1
    degrees: float = 2.0
    sigma: float = 0.7
    gamma: float = 1.15
    noise: float = 0.02
    quality: int = 75

    def __post_init__(self) -> None:
        check_quality(self.quality)
        if min(self.degrees, self.noise) < 0 or self.sigma <= 0 or self.gamma < 1:
            raise ConfigError("countermove 'recapture': degrees and noise are not below 0, sigma above 0, gamma from 1")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more edit."""
        return plan.edited(self._edited)

    def _edited(self, picture: Tensor, name: str, seed: int) -> Tensor:
        source = generator(seed, "recapture", name)
        turn, exposure = (2 * torch.rand(2, generator=source) - 1).tolist()
        shown = turned(to_float(picture[None]), self.degrees * turn)
        shown = gaussian(shown, 2 * max(1, round(3 * self.sigma)) + 1, self.sigma)
        shown = shown.clamp(0, 1) ** (self.gamma**exposure)
        shown = (shown + self.noise * torch.randn(shown.shape, generator=source)).clamp(0, 1)
        return to_uint8(jpeg(shown, quality=self.quality))[0]


def turned(pictures: Tensor, degrees: float) -> Tensor:
    """Return pictures [N, 3, H, W] turned about their middle, borders repeated."""
    angle = torch.tensor(degrees).deg2rad()
    ratio = pictures.shape[2] / pictures.shape[3]
    cos, sin = float(angle.cos()), float(angle.sin())
    move = torch.tensor([[cos, -sin * ratio, 0.0], [sin / ratio, cos, 0.0]]).expand(len(pictures), -1, -1)
    grid = F.affine_grid(move, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
