"""The shape of a scene: how much of every orientation and scale there is in every part of a picture.

Legend: N pictures, F filters; S the side of a padded picture.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError, DataError

ORIENTATIONS = (8, 8, 8, 8)
"""How many orientations each scale has, from fine to coarse."""
PARTS = 4
DIM = PARTS**2 * sum(ORIENTATIONS)
LEAST_SIDE = 32

_CYCLES = 4
"""The low-pass of the prefilter is half down at so many cycles a picture."""
_MARGIN, _PAD = 5, 32
_LONGEST = 8
_AT_ONCE = 8


def gist(pictures: Tensor, *, side: int = 256) -> Tensor:
    """Return GIST, Oliva and Torralba 2001, as the authors' MATLAB code LMgist computes it, float32 [N, 512].

    The mean of the channels is resized to side x side (bilinear with antialiasing, the longer side's ends cut off),
    stretched to 0..255 and prefiltered: local contrast is made even. 32 Gabor filters (8 orientations at 4 scales)
    follow in the frequency domain; the magnitudes are averaged over 4 x 4 parts. Numbers are ordered by filter, then
    row, then column.

    Args:
        pictures: uint8 [N, 3, H, W].
        side:     at least 32, a multiple of 4 (the demonstration's: 256).

    Raises:
        DataError: when these are no 8-bit pictures.
        ConfigError: a side that is no such number.
    """
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3:
        raise DataError(f"pictures must be uint8 [N, 3, H, W]; got {pictures.dtype} {list(pictures.shape)}")
    check_side(side)
    parts = [_described(part, side) for part in pictures.split(_AT_ONCE)]
    return torch.cat(parts) if parts else pictures.new_zeros((0, DIM), dtype=torch.float32)


def gist_distances(queries: Tensor, others: Tensor) -> Tensor:
    """Return Euclidean distances, float64 [Q, M]."""
    return torch.cdist(queries.double(), others.double(), compute_mode="donot_use_mm_for_euclid_dist")


def check_side(side: int) -> int:
    """Return a side that can be cut into parts; ConfigError otherwise."""
    if side < LEAST_SIDE or side > 1024 or side % PARTS:
        raise ConfigError(f"side = {side} is refused: GIST takes {LEAST_SIDE} to 1024 pixels, a multiple of {PARTS}")
    return side


def _described(pictures: Tensor, side: int) -> Tensor:
    even = _prefiltered(_stretched(_square(pictures, side)))
    padded = _mirrored(even, _PAD)
    spectrum = torch.fft.fft2(padded)
    filters = _filters(side + 2 * _PAD).to(pictures.device)
    inside = slice(_PAD, _PAD + side)
    found = []
    for of_scale in filters.split(ORIENTATIONS[0]):
        answers = torch.fft.ifft2(spectrum[:, None] * of_scale)[..., inside, inside].abs()
        found.append(F.avg_pool2d(answers, side // PARTS).flatten(1))
    return torch.cat(found, dim=1)


def _square(pictures: Tensor, side: int) -> Tensor:
    """Return gray pictures [N, side, side] whose ends are cut off, in levels."""
    shorter = min(pictures.shape[2:])
    # All but the middle of a long strip would be enlarged only to be cut off.
    pictures = _middle(pictures, _LONGEST * shorter, _LONGEST * shorter)
    gray = pictures.float().mean(1, keepdim=True)
    height, width = gray.shape[2:]
    scale = side / min(height, width)
    size = (max(side, round(height * scale)), max(side, round(width * scale)))
    if size != (height, width):
        gray = F.interpolate(gray, size=size, mode="bilinear", antialias=True, align_corners=False)
    return _middle(gray, side, side)[:, 0]


def _middle(pictures: Tensor, tall: int, wide: int) -> Tensor:
    height, width = pictures.shape[2:]
    top, left = max(0, height - tall) // 2, max(0, width - wide) // 2
    return pictures[:, :, top : top + tall, left : left + wide]


def _stretched(gray: Tensor) -> Tensor:
    gray = gray - gray.amin((1, 2), keepdim=True)
    most = gray.amax((1, 2), keepdim=True)
    return torch.where(most > 0, 255 * gray / most.clamp(min=1e-6), 0.0)


def _prefiltered(gray: Tensor) -> Tensor:
    side = gray.shape[-1]
    logs = _mirrored((gray + 1).log(), _MARGIN)
    passed = _low_pass(logs.shape[-1]).to(gray.device)
    high = logs - _filtered(logs, passed).real
    deviation = _filtered(high.square(), passed).abs().sqrt()
    inside = slice(_MARGIN, _MARGIN + side)
    return (high / (0.2 + deviation))[:, inside, inside]


def _filtered(gray: Tensor, by: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(gray) * by)


def _mirrored(gray: Tensor, width: int) -> Tensor:
    """Continue pictures beyond their borders, the outermost pixel twice."""
    side = gray.shape[-1]
    places = torch.arange(-width, side + width, device=gray.device)
    places = torch.where(places < 0, -1 - places, torch.where(places >= side, 2 * side - 1 - places, places))
    return gray[:, places][:, :, places]


@lru_cache(maxsize=4)
def _low_pass(size: int) -> Tensor:
    width = _CYCLES / math.sqrt(math.log(2))
    across = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
    return (-(across[:, None].square() + across.square()) / width**2).exp().float()


@lru_cache(maxsize=4)
def _filters(size: int) -> Tensor:
    """Return the Gabor filters [F, S, S]. Each looks to one half of the spectrum only."""
    across = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
    radius = torch.hypot(across[:, None], across)
    angle = torch.atan2(across[:, None], across)
    filters = []
    for scale, count in enumerate(ORIENTATIONS):
        away = radius / (size * 0.3 / 1.85**scale) - 1
        for turn in range(count):
            theta = angle + math.pi * turn / count
            theta = torch.where(theta > math.pi, theta - 2 * math.pi, theta)
            steep = 16 * count**2 / 32**2
            filters.append((-3.5 * away.square() - 2 * math.pi * steep * theta.square()).exp())
    return torch.stack(filters).float()
