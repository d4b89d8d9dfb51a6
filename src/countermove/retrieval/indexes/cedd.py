"""Colour and edge directivity, 144 numbers from 0 to 7 a picture; blocks are reshaped, no pixel is looped over.

Legend: N pictures, B blocks of one, C classes of edges.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import DataError

DIM = 144
LEAST_EDGE = 14
"""Blocks whose five edge strengths are all below this have no edge."""
SHARES = (0.68, 0.98, 0.98, 0.98, 0.98)
"""From which share of the strongest on an edge counts: non-directional, horizontal, vertical, 45 and 135 degrees."""

_HUES = (
    (0, 0, 5, 10),
    (5, 10, 35, 50),
    (35, 50, 70, 85),
    (70, 85, 150, 165),
    (150, 165, 195, 205),
    (195, 205, 265, 280),
    (265, 280, 315, 330),
    (315, 330, 360, 360),
)
_SATURATIONS = ((0, 0, 10, 75), (10, 75, 255, 255))
_VALUES = ((0, 0, 10, 75), (10, 75, 180, 220), (180, 220, 255, 255))
_HALVES = ((0, 0, 68, 188), (68, 188, 255, 255))
_CODEWORDS = (
    (180.2, 23730, 61457.2, 113918.6, 179122.5, 260980.3, 341795.9, 554730),
    (209.3, 22490.6, 60250.9, 120705.8, 181128.1, 234132.1, 325660.6, 520702.2),
    (405.5, 4878, 10882.2, 18167.2, 27043.4, 38129.4, 52675.2, 79555.4),
    (968.9, 10725.2, 24161.2, 41555.9, 62895.6, 93066.3, 136976.1, 262897.9),
)
"""Millionths."""
_CODEBOOK = (0, 1, 2, 2, 3, 3)
"""Which codewords each class has."""
_AT_ONCE = 32


def cedd(pictures: Tensor) -> Tensor:
    """Return the Color and Edge Directivity Descriptor, Chatzichristofis and Boutalis 2008, as LIRE computes it.

    A picture is cut into 40 x 40 blocks (20 x 20 below 80 pixels on the shorter side, blocks of 2 x 2 pixels below
    40). A block belongs to classes of edges by the four quadrants' brightness, and to colours by fuzzy rules on hue,
    saturation and value. The histogram of 6 classes x 24 colours is quantised to 8 levels.

    Sums are integers, so that a picture's descriptor does not depend on what else is in the batch.

    Args:
        pictures: uint8 [N, 3, H, W].

    Returns:
        whole numbers from 0 to 7, float64 [N, 144]. Zeros where a side is a single pixel.

    Raises:
        DataError: when these are no 8-bit pictures.
    """
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3:
        raise DataError(f"pictures must be uint8 [N, 3, H, W]; got {pictures.dtype} {list(pictures.shape)}")
    parts = [_described(part) for part in pictures.split(_AT_ONCE)]
    return torch.cat(parts) if parts else pictures.new_zeros((0, DIM), dtype=torch.float64)


def cedd_distances(queries: Tensor, others: Tensor) -> Tensor:
    """Return 100 times one minus Tanimoto's coefficient of descriptors that sum to one, float64 [Q, M].

    Two empty descriptors have the distance 0, an empty one and another 100.
    """
    a, b = (F.normalize(x.double(), p=1, dim=1, eps=1e-12) for x in (queries, others))
    common = a @ b.T
    union = a.square().sum(1)[:, None] + b.square().sum(1) - common
    return 100 * (1 - torch.where(union > 0, common / union.clamp(min=1e-300), 1.0))


def _described(pictures: Tensor) -> Tensor:
    quadrants, pixels = _quadrants(pictures)
    weights = torch.tensor([299, 587, 114], device=pictures.device)[:, None, None]
    luma = (quadrants * weights).sum(1).div(1000 * pixels, rounding_mode="floor")
    colours = quadrants.sum(-1).div(4 * pixels, rounding_mode="floor")
    histogram = torch.einsum("nbc,nbk->nck", _classes(luma), _colours(colours)).flatten(1)
    return _quantised(F.normalize(histogram, p=1, dim=1, eps=1e-12))


def _quadrants(pictures: Tensor) -> tuple[Tensor, int]:
    """Return sums over the blocks' quadrants, int64 [N, 3, B, 4], and how many pixels a quadrant has."""
    count, _, height, width = pictures.shape
    shorter = min(height, width)
    if shorter >= 40:
        down = across = 40 if shorter >= 80 else 20
        tall, wide = (side // down - side // down % 2 for side in (height, width))
    else:
        tall = wide = 2
        down, across = height // 2, width // 2
    blocks = pictures[:, :, : down * tall, : across * wide]
    halves = blocks.reshape(count, 3, down, 2, tall // 2, across, 2, wide // 2)
    sums = halves.sum(dim=(4, 7), dtype=torch.int64)
    return sums.transpose(3, 4).reshape(count, 3, down * across, 4), tall * wide // 4


def _classes(luma: Tensor) -> Tensor:
    """Return which classes of edges blocks belong to, float64 [N, B, 6], from their quadrants [N, B, 4]."""
    a1, a2, a3, a4 = luma.double().unbind(-1)
    strengths = torch.stack(
        [
            2 * (a1 - a2 - a3 + a4).abs(),
            (a1 + a2 - a3 - a4).abs(),
            (a1 - a2 + a3 - a4).abs(),
            math.sqrt(2) * (a1 - a4).abs(),
            math.sqrt(2) * (a2 - a3).abs(),
        ],
        dim=-1,
    )
    strongest = strengths.amax(-1, keepdim=True)
    none = strongest < LEAST_EDGE
    edges = ~none & (strengths / strongest.clamp(min=LEAST_EDGE) > strengths.new_tensor(SHARES))
    return torch.cat([none, edges], dim=-1).double()


def _colours(rgb: Tensor) -> Tensor:
    """Return how much of each of the 24 colours blocks have, float64 [N, B, 24], from mean colours [N, 3, B]."""
    hue, saturation, value = _hsv(rgb)
    hues, strong, bright = _member(hue, _HUES), _member(saturation, _SATURATIONS), _member(value, _VALUES)
    # Red is at both ends of the scale of hues. Two of its sets are never active at once, so adding loses no rule.
    rules = torch.minimum(
        torch.minimum(hues[..., :, None, None], strong[..., None, :, None]), bright[..., None, None, :]
    )
    dark = rules[..., 0].sum((-2, -1))
    gray, white = rules[..., 0, 1].sum(-1), rules[..., 0, 2].sum(-1)
    coloured = rules[..., 1, 1:].sum(-1)
    coloured = torch.cat([coloured[..., :1] + coloured[..., 7:], coloured[..., 1:7]], dim=-1)
    strong, bright = _member(saturation, _HALVES), _member(value, _HALVES)
    pairs = torch.minimum(strong[..., :, None], bright[..., None, :])
    shades = torch.stack([pairs[..., 0, 1], pairs[..., 1, 1], pairs[..., :, 0].sum(-1)], dim=-1)
    shaded = (coloured[..., :, None] * shades[..., None, :]).flatten(-2)
    return torch.cat([torch.stack([white, gray, dark], dim=-1), shaded], dim=-1)


def _hsv(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue 0..359, saturation and value 0..255, int64 [N, B], from whole colours [N, 3, B]."""
    red, green, blue = rgb.unbind(1)
    value, least = rgb.amax(1), rgb.amin(1)
    span = (value - least).clamp(min=1)
    saturation = (255 * (value - least)).div(value.clamp(min=1), rounding_mode="floor")
    saturation = torch.where(value > 0, saturation, 0)
    is_red, is_green = value == red, value == green
    offset = torch.where(is_red, torch.where(green >= blue, 0, 359), torch.where(is_green, 119, 239))
    difference = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green))
    hue = (offset * span + 60 * difference).div(span, rounding_mode="floor")
    return torch.where(value > least, hue, 0), saturation, value


def _member(values: Tensor, sets: tuple[tuple[int, int, int, int], ...]) -> Tensor:
    """Return how far values belong to trapezoids, float64 [..., S]."""
    left, top, end, right = values.new_tensor(sets).double().unbind(-1)
    x = values.double()[..., None]
    up = torch.where(x >= top, 1.0, (x - left) / (top - left).clamp(min=1))
    down = torch.where(x <= end, 1.0, (right - x) / (right - end).clamp(min=1))
    return torch.minimum(up, down).clamp(0, 1)


def _quantised(histogram: Tensor) -> Tensor:
    levels = histogram.new_tensor(_CODEWORDS)[list(_CODEBOOK)] / 1e6
    distances = (histogram.view(-1, 6, 24, 1) - levels[:, None, :]).abs()
    return distances.argmin(-1).flatten(1).double()
