"""Cutting 8-bit crops of faces out of photos of any size, and putting changes back. Little more than the face is held.

Legend: F faces of a photo of H x W, S side of a crop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from countermove.faces.alignment import paste, warp
from countermove.pixels.balls import Ball
from countermove.pixels.rounding import quantize_move, to_float, to_uint8

BAND_PIXELS = 1 << 20
_FINEST = 4
"""Samples a crop's pixel and side: a larger face is first shrunk by whole numbers."""


def whole(height: int, width: int, side: int) -> Tensor:
    """Return the matrix [2, 3] that takes a whole photo for the crop, whatever its proportions."""
    x, y = side / width, side / height
    return torch.tensor([[x, 0.0, x / 2 - 0.5], [0.0, y, y / 2 - 0.5]], dtype=torch.float64)


def cut(picture: np.ndarray, matrix: Tensor, side: int) -> Tensor:
    """Cut an aligned crop, uint8 [3, S, S], out of uint8 [H, W, 3]; outside, the edge goes on.

    Unlike `alignment.warp` it averages where the face is larger than the crop, as resizing does.
    """
    top, bottom, left, right = _region(picture, matrix, side)
    margin = math.ceil(_scale(matrix)) + 2
    top, left = max(0, top - margin), max(0, left - margin)
    part = Image.fromarray(np.ascontiguousarray(picture[top : bottom + margin, left : right + margin]))
    shrink = max(1, int(_scale(matrix) / _FINEST))
    if shrink > 1:
        part = part.reduce(shrink)
    # the matrix for the shrunk part: its pixel q lies at shrink (q + 1/2) - 1/2 of the part
    middle = torch.tensor([left, top], dtype=torch.float64) + (shrink - 1) / 2
    turn, shift = matrix[:, :2] * shrink, matrix[:, 2] + matrix[:, :2] @ middle
    fine = max(1, math.ceil(_scale(turn) - 1e-6))
    finer = torch.cat([fine * turn, (fine * shift + (fine - 1) / 2)[:, None]], 1)
    pixels = to_float(torch.from_numpy(np.array(part)).permute(2, 0, 1)[None].contiguous())
    return to_uint8(F.avg_pool2d(warp(pixels, finer[None], fine * side), fine))[0]


def is_gray(picture: np.ndarray) -> bool:
    """Whether the three channels of uint8 [H, W, 3] are the same."""
    return bool((picture == picture[:, :, :1]).all())


def put_back(picture: np.ndarray, changes: Tensor, matrices: Tensor, ball: Ball | None) -> np.ndarray:
    """Return a photo, uint8 [H, W, 3], with the changes [F, 3, S, S] of its crops added, inside the ball.

    Changes add up where crops overlap. A gray photo stays gray: it gets their mean over channels.

    Args:
        picture: uint8 [H, W, 3].
        changes: in [0, 1] pixel units.
        matrices: [F, 2, 3], those that the crops were cut out with.
        ball: L-infinity, or None where nothing is promised.
    """
    stored, side = picture.copy(), changes.shape[-1]
    if is_gray(picture):
        changes = changes.mean(1, keepdim=True).expand_as(changes)
    regions = [_region(picture, matrix, side) for matrix in matrices]
    rows = max(1, BAND_PIXELS // picture.shape[1])
    for top in range(min(region[0] for region in regions), max(region[1] for region in regions), rows):
        bottom = min(top + rows, picture.shape[0])
        touched = [i for i, region in enumerate(regions) if region[0] < bottom and region[1] > top]
        if not touched:
            continue
        left, right = min(regions[i][2] for i in touched), max(regions[i][3] for i in touched)
        band = torch.from_numpy(picture[top:bottom, left:right].copy()).permute(2, 0, 1)[None]
        clean = to_float(band.contiguous())
        moved = clean.clone()
        for i in touched:
            here = _seen_from(matrices[i], left, top)
            moved += paste(changes[i : i + 1], here[None], bottom - top, right - left)
        rounded = to_uint8(moved if ball is None else quantize_move(moved, clean, ball))
        stored[top:bottom, left:right] = rounded[0].permute(1, 2, 0).numpy()
    return stored


def largest_change(one: np.ndarray, other: np.ndarray) -> int:
    """Return by how many levels two uint8 pictures differ at most."""
    rows = max(1, BAND_PIXELS // one.shape[1])
    bands = (slice(top, top + rows) for top in range(0, len(one), rows))
    return max(int(np.abs(one[band].astype(np.int16) - other[band]).max()) for band in bands)


def _region(picture: np.ndarray, matrix: Tensor, side: int) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of where a pasted crop reaches in a photo, at least one pixel of it."""
    ends: Sequence[float] = (-1.0, float(side))  # `paste` fades out over the pixel around the crop
    corners = torch.tensor([[x, y] for x in ends for y in ends], dtype=torch.float64)
    x, y = torch.linalg.solve(matrix[:, :2].double(), (corners - matrix[:, 2]).T)
    height, width = picture.shape[:2]
    top, left = (min(max(0, math.floor(v.min())), most - 1) for v, most in ((y, height), (x, width)))
    bottom, right = (max(1, math.ceil(v.max()) + 1) for v in (y, x))
    return top, max(top + 1, min(bottom, height)), left, max(left + 1, min(right, width))


def _scale(matrix: Tensor) -> float:
    """Return how many pixels of the photo go into one of the crop, along the longer way."""
    back = torch.linalg.inv(matrix[:, :2].double())
    return float(back.norm(dim=0).max())


def _seen_from(matrix: Tensor, left: int, top: int) -> Tensor:
    """Return the matrix for a part of the photo that begins there."""
    corner = torch.tensor([left, top], dtype=torch.float64)
    return torch.cat([matrix[:, :2], (matrix[:, 2] + matrix[:, :2] @ corner)[:, None]], 1)
