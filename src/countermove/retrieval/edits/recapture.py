"""A photo of the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.jpeg import check_quality
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float, to_uint8
from countermove.retrieval.edits.blur import blur
from countermove.retrieval.edits.jpeg import compress
from countermove.retrieval.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Recapture:
    """The query is photographed from a screen or from paper and sent as a JPEG.

    Seen a little from the side and turned, somewhat out of focus, with another gamma and with noise. What is drawn
    depends on the picture's id and the seed alone. All numbers are ours.

    warp:    how far corners move into the picture, at most, in shares of its sides.
    turn:    in degrees, at most, either way.
    blur:    sigma of the blur in pixels; 0: none.
    gamma:   the exponent is drawn between 1 / (1 + gamma) and 1 + gamma.
    noise:   standard deviation of every value, in [0, 1] pixel units.
    quality: of the JPEG.
    """

    version: ClassVar[int] = 1
    warp: float = 0.04
    turn: float = 2.0
    blur: float = 0.7
    gamma: float = 0.2
    noise: float = 0.02
    quality: int = 85

    def __post_init__(self) -> None:
        check_quality(self.quality)
        if not 0 <= self.warp < 0.25 or not 0 <= self.turn <= 45 or not 0 <= self.noise <= 0.5:
            raise ConfigError("countermove 'recapture': warp is 0 to 0.25, turn 0 to 45 degrees, noise 0 to 0.5")
        if not 0 <= self.gamma <= 2 or not (self.blur == 0 or 0.3 <= self.blur <= 10):
            raise ConfigError("countermove 'recapture': gamma is 0 to 2, blur 0 or 0.3 to 10")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more edit."""
        edit = partial(
            recapture,
            warp=self.warp,
            turn=self.turn,
            sigma=self.blur,
            gamma=self.gamma,
            noise=self.noise,
            quality=self.quality,
        )
        return plan.edited(edit)


def recapture(
    picture: Tensor,
    name: str,
    seed: int,
    *,
    warp: float,
    turn: float,
    sigma: float,
    gamma: float,
    noise: float,
    quality: int,
) -> Tensor:
    """Return a photo of a picture uint8 [3, H, W], in its size."""
    source = generator(seed, "recapture", name)
    inwards, angle, exponent = torch.rand(4, 2, generator=source), *torch.rand(2, generator=source).tolist()
    seen = _seen(to_float(picture), warp * inwards, math.radians(turn * (2 * angle - 1)))
    seen = to_float(blur(to_uint8(seen), sigma=sigma)) if sigma else seen
    seen = seen ** ((1 + gamma) ** (2 * exponent - 1))
    seen = seen + noise * torch.randn(seen.shape, generator=source)
    return compress(to_uint8(seen.clamp(0, 1)), quality=quality)


def _seen(picture: Tensor, inwards: Tensor, angle: float) -> Tensor:
    """Return a float picture from the side.

    Args:
        picture: [3, H, W].
        inwards: how far each corner of what is seen is inside, [4, 2], in shares of the sides.
        angle: in radians.
    """
    height, width = picture.shape[1:]
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)
    aimed = corners * (1 - 2 * inwards.double())
    # turned in pixels, not in shares of sides that differ
    sides = torch.tensor([width, height], dtype=torch.float64)
    cosine, sine = math.cos(angle), math.sin(angle)
    turned = (aimed * sides) @ torch.tensor([[cosine, sine], [-sine, cosine]], dtype=torch.float64) / sides
    matrix = _homography(corners, turned)
    y, x = torch.meshgrid(
        *((torch.arange(n, dtype=torch.float64) * 2 + 1) / n - 1 for n in (height, width)), indexing="ij"
    )
    points = torch.stack([x, y, torch.ones_like(x)], -1) @ matrix.T
    grid = (points[..., :2] / points[..., 2:]).to(picture.dtype)
    return F.grid_sample(picture[None], grid[None], "bilinear", "border", align_corners=False)[0].clamp(0, 1)


def _homography(start: Tensor, end: Tensor) -> Tensor:
    """Return the projective map [3, 3] that takes four points [4, 2] to four others."""
    rows, right = [], []
    for (x, y), (u, v) in zip(start.tolist(), end.tolist(), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    found = torch.linalg.solve(torch.tensor(rows, dtype=torch.float64), torch.tensor(right, dtype=torch.float64))
    return torch.cat([found, torch.ones(1, dtype=torch.float64)]).view(3, 3)
