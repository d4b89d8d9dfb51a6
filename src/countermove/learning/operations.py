"""Simple operations with a strength for each picture: what augmentation policies are made of.

Every operation takes pictures [N, 3, H, W] in [0, 1] and strengths [N] and returns pictures of the same kind. Names,
units and borders are those of Pillow and torchvision (`torchvision.transforms.AutoAugment`). There every picture has
its own call, here one call serves all that share an operation. Values are not rounded between operations, except where
the operation counts levels (Posterize, Equalize).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.learning.augment import CutoutStep
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.squeezes import gray_soft

Operation = Callable[[Tensor, Tensor], Tensor]


def apply(pictures: Tensor, names: Sequence[str], which: Tensor, strength: Tensor) -> Tensor:
    """Do one operation to every picture.

    Args:
        pictures: float [N, 3, H, W] in [0, 1].
        names: keys of `OPERATIONS`.
        which: int64 [N], positions in names; negative leaves the picture as it is.
        strength: float [N].
    """
    changed = pictures.clone()
    for position, name in enumerate(names):
        rows = (which == position).nonzero().flatten()
        if len(rows):
            here = rows.to(pictures.device)
            changed[here] = OPERATIONS[name](pictures[here], strength[rows].to(pictures.device))
    return changed


def _identity(pictures: Tensor, strength: Tensor) -> Tensor:
    return pictures


def _shear_x(pictures: Tensor, strength: Tensor) -> Tensor:
    """Move every row by strength x its distance from the top; the strength is the tangent of the angle."""
    half = pictures.shape[2] / 2
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    return _affine(pictures, [one, strength, strength * half], [zero, one, zero])


def _shear_y(pictures: Tensor, strength: Tensor) -> Tensor:
    """Move every column by strength x its distance from the left."""
    half = pictures.shape[3] / 2
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    return _affine(pictures, [one, zero, zero], [strength, one, strength * half])


def _translate_x(pictures: Tensor, strength: Tensor) -> Tensor:
    """Move to the right by whole pixels; the rest is black."""
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    return _affine(pictures, [one, zero, -strength.trunc()], [zero, one, zero])


def _translate_y(pictures: Tensor, strength: Tensor) -> Tensor:
    """Move down by whole pixels; the rest is black."""
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    return _affine(pictures, [one, zero, zero], [zero, one, -strength.trunc()])


def _rotate(pictures: Tensor, strength: Tensor) -> Tensor:
    """Turn counter-clockwise around the centre, in degrees; the rest is black."""
    angle = torch.deg2rad(strength)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(strength)
    return _affine(pictures, [cosine, -sine, zero], [sine, cosine, zero])


def _affine(pictures: Tensor, x_row: list[Tensor], y_row: list[Tensor]) -> Tensor:
    """Take every pixel from its nearest one at (x', y') = A (x, y, 1), in pixels from the centre; black outside."""
    height, width = pictures.shape[2:]
    x = torch.arange(width, device=pictures.device, dtype=pictures.dtype) + 0.5 - width / 2
    y = (torch.arange(height, device=pictures.device, dtype=pictures.dtype) + 0.5 - height / 2)[:, None]
    at_x, at_y = (
        a[:, None, None] * x + b[:, None, None] * y + c[:, None, None] for a, b, c in (tuple(x_row), tuple(y_row))
    )
    grid = torch.stack([at_x * (2 / width), at_y * (2 / height)], -1)
    return F.grid_sample(pictures, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _blend(pictures: Tensor, other: Tensor, strength: Tensor) -> Tensor:
    """Go from the other pictures (strength -1) through these (0) and beyond."""
    factor = (1 + strength)[:, None, None, None]
    return (factor * pictures + (1 - factor) * other).clamp(0, 1)


def _brightness(pictures: Tensor, strength: Tensor) -> Tensor:
    return _blend(pictures, torch.zeros_like(pictures), strength)


def _color(pictures: Tensor, strength: Tensor) -> Tensor:
    return _blend(pictures, gray_soft(pictures), strength)


def _contrast(pictures: Tensor, strength: Tensor) -> Tensor:
    return _blend(pictures, gray_soft(pictures).mean((1, 2, 3), keepdim=True), strength)


def _sharpness(pictures: Tensor, strength: Tensor) -> Tensor:
    smooth = pictures.clone()  # the border stays
    inner = smooth[:, :, 1:-1, 1:-1]
    inner.copy_((9 * F.avg_pool2d(pictures, 3, stride=1) + 4 * inner) / 13)  # weights 1, and 5 in the middle
    return _blend(pictures, smooth, strength)


def _posterize(pictures: Tensor, strength: Tensor) -> Tensor:
    """Keep so many of the highest bits."""
    dropped = 2 ** (8 - strength.int())[:, None, None, None]
    levels = to_uint8(pictures).int()
    return to_float(levels - levels % dropped)


def _solarize(pictures: Tensor, strength: Tensor) -> Tensor:
    """Invert the values from a threshold on, in levels."""
    return torch.where(pictures * 255 >= strength[:, None, None, None], 1 - pictures, pictures)


def _autocontrast(pictures: Tensor, strength: Tensor) -> Tensor:
    """Stretch every channel over the whole range; a constant one stays."""
    low, high = pictures.amin((2, 3), keepdim=True), pictures.amax((2, 3), keepdim=True)
    stretched = (pictures - low) / (high - low).clamp_min(1e-6)
    return torch.where(high > low, stretched, pictures)


def _equalize(pictures: Tensor, strength: Tensor) -> Tensor:
    """Give every channel a flat histogram, by Pillow's rule in whole levels."""
    levels = to_uint8(pictures).flatten(2).flatten(0, 1).long()  # a row for each channel of each picture
    histogram = torch.zeros(len(levels), 256, dtype=torch.int64, device=levels.device)
    histogram.scatter_add_(1, levels, torch.ones_like(levels))
    brightest = histogram.gather(1, levels.amax(1, keepdim=True))
    step = (levels.shape[1] - brightest).div(255, rounding_mode="floor")
    darker = histogram.cumsum(1) - histogram
    table = (darker + step.div(2, rounding_mode="floor")).div(step.clamp_min(1), rounding_mode="floor").clamp(max=255)
    flat = torch.where(step > 0, table.gather(1, levels), levels)
    return to_float(flat.to(torch.uint8)).view_as(pictures)


def _invert(pictures: Tensor, strength: Tensor) -> Tensor:
    return 1 - pictures


OPERATIONS: MappingProxyType[str, Operation] = MappingProxyType(
    {
        "Identity": _identity,
        "ShearX": _shear_x,
        "ShearY": _shear_y,
        "TranslateX": _translate_x,
        "TranslateY": _translate_y,
        "Rotate": _rotate,
        "Brightness": _brightness,
        "Color": _color,
        "Contrast": _contrast,
        "Sharpness": _sharpness,
        "Posterize": _posterize,
        "Solarize": _solarize,
        "AutoContrast": _autocontrast,
        "Equalize": _equalize,
        "Invert": _invert,
    }
)


@dataclass(frozen=True)
class Strong:
    """Colours, sharpness and small turns at random, then a hole of a quarter of the side."""

    def __call__(self, pictures: Tensor, targets: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the changed batch."""
        for names, most in ((("Color", "Brightness", "Contrast", "Sharpness"), 0.7), (("Rotate", "ShearX"), 1.0)):
            which = torch.randint(-1, len(names), (len(pictures),), generator=generator)
            strength = most * (2 * torch.rand(len(pictures), generator=generator) - 1)
            if "Rotate" in names:
                strength = torch.where(which == 0, 15 * strength, 0.2 * strength)
            pictures = apply(pictures, names, which, strength)
        return CutoutStep(length=pictures.shape[-1] // 4)(pictures, targets, generator=generator)
