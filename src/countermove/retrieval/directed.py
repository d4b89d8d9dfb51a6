"""From a keypoint out of its pit: the directed graph of RDG, and the constraints that follow from it.

Around a keypoint lie 5 x 5 samples in each of the three layers where extrema are looked for. One more row, column and
layer on every side are their neighbours: 7 x 7 samples of all five layers of the difference of Gaussians (DoG).
Legend: K keypoints, S = 245 samples, V = 75 of them inside, D = 49 blocks of pixels.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from countermove.retrieval.keypoints import Floats, Gray, Ints, Keypoints, differences

SIDE, LEVELS = 7, 5
_HALF = SIDE // 2
_GRID = np.arange(LEVELS * SIDE * SIDE).reshape(LEVELS, SIDE, SIDE)
INSIDE = _GRID[1:-1, 1:-1, 1:-1].ravel()
KEYPOINT = _GRID[:, _HALF, _HALF]
"""The keypoint's sample, by its layer."""
_OUTER = np.concatenate([_GRID[0].ravel(), _GRID[-1].ravel()])
_STEP = np.array([(i * SIDE + j) * SIDE + k for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)])
_STEP = _STEP[_STEP != 0]
NEIGHBOURS = INSIDE[:, None] + _STEP
"""Of the samples inside, [V, 26]."""
_EACH_STEP = 1e-9


def block_of(octave: int) -> int:
    """Return the side of a block of pixels that is changed as one; one sample of the octave, at least a pixel."""
    return 2 ** max(0, octave - 1)


def blocks(points: Keypoints, octave: int) -> tuple[Ints, Ints]:
    """Return first rows and first columns of the blocks around keypoints of one octave, [K, 7] each."""
    offsets, side = np.arange(-_HALF, _HALF + 1), block_of(octave)
    if octave == 0:
        return points.row[:, None] // 2 + offsets, points.column[:, None] // 2 + offsets
    rows, columns = ((at[:, None] + offsets) * side - side // 2 for at in (points.row, points.column))
    return rows, columns


def samples(dog: Gray, points: Keypoints) -> Floats:
    """Return the DoG around keypoints of one octave, [K, S]."""
    offsets = np.arange(-_HALF, _HALF + 1)
    rows, columns = points.row[:, None] + offsets, points.column[:, None] + offsets
    around = dog[:, rows[:, :, None], columns[:, None, :]]
    return np.moveaxis(around, 0, 1).reshape(len(points), -1).astype(np.float64)


def operators(points: Keypoints, octave: int) -> Tensor:
    """Return what blocks change in samples, float64 [K, S, D]; the same for keypoints away from the border."""
    if octave > 0:
        return _operator(octave, 0, 0).expand(len(points), -1, -1)
    table = torch.stack([_operator(0, i, j) for i in (0, 1) for j in (0, 1)])
    return table[torch.from_numpy(2 * (points.row % 2) + points.column % 2)]


@cache
def _operator(octave: int, row_phase: int, column_phase: int) -> Tensor:
    """Shift the response to one block, as the DoG is the same linear map everywhere."""
    response, centre, step = _response(octave)
    offsets = np.arange(-_HALF, _HALF + 1)
    rows = centre + row_phase + offsets[:, None] - step * offsets[None, :]
    columns = centre + column_phase + offsets[:, None] - step * offsets[None, :]
    table = response[:, rows[:, None, :, None], columns[None, :, None, :]]
    return torch.from_numpy(table.reshape(LEVELS * SIDE * SIDE, SIDE * SIDE).astype(np.float64))


def _response(octave: int) -> tuple[Gray, int, int]:
    """Return the DoG of a single block of ones, the sample of that block, and samples from one block to the next."""
    side, away = block_of(octave), 32
    picture = np.zeros((2 * away * side, 2 * away * side), np.float32)
    first = away * side - side // 2
    picture[first : first + side, first : first + side] = 1.0
    response = differences(picture, (octave,))[octave]
    return response, (2 * away if octave == 0 else away), (2 if octave == 0 else 1)


def pointers(values: Floats, layer: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Say which neighbour every sample inside shall stay above, and which below.

    Mostly its lowest and its highest neighbour. The keypoint, a minimum here, and those on the way out of its pit
    shall be above the next one on that way; the way is the one with the least climb that ends at a sample from
    where one gets down elsewhere, or in an outer layer, where no keypoints are looked for.

    Args:
        values: the DoG, its sign such that the keypoint is a minimum, [K, S].
        layer: of the keypoint, 1 to 3, [K].

    Returns:
        Samples that are to be lower and higher, int64 [K, V], -1 where a sample is an extremum that is no business of
        ours; and whether there is a way out, [K].
    """
    count = len(values)
    own, around = values[:, INSIDE], values[:, NEIGHBOURS]
    lower, higher = (NEIGHBOURS[np.arange(len(INSIDE)), index] for index in (around.argmin(2), around.argmax(2)))
    lower, higher = np.where(around.min(2) < own, lower, -1), np.where(around.max(2) > own, higher, -1)
    key = KEYPOINT[layer]
    every = np.arange(count)[:, None]
    root = np.tile(np.arange(values.shape[1]), (count, 1))
    root[:, INSIDE] = np.where(lower >= 0, lower, INSIDE)
    for _ in range(6):  # pointer jumping: 2^6 steps down are more than there are samples on a way
        root = np.take_along_axis(root, root, 1)
    pit = np.zeros(values.shape, bool)
    pit[:, INSIDE] = root[:, INSIDE] == key[:, None]

    climb = np.full(values.shape, np.inf)
    climb[every[:, 0], key] = 0.0
    came = np.full(values.shape, -1)
    walls = np.pad(np.where(pit, 0.0, np.inf), ((0, 0), (-_STEP.min(), _STEP.max())), constant_values=np.inf)
    first = -int(_STEP.min())
    sample = np.arange(values.shape[1])
    for _ in range(2 * SIDE):
        padded = np.pad(climb, ((0, 0), (first, first)), constant_values=np.inf) + walls
        heights = np.pad(values, ((0, 0), (first, first)))
        before = climb
        for step in _STEP:
            # only samples inside and in the pit are left, so that no step goes over the edge of the block
            there = slice(first - step, first - step + len(sample))
            cost = padded[:, there] + np.maximum(values - heights[:, there], 0) + _EACH_STEP
            better = cost < climb
            climb, came = np.where(better, cost, climb), np.where(better, sample - step, came)
        if np.array_equal(before, climb):
            break
    out = np.full(values.shape, np.inf)
    goals = np.union1d(INSIDE, _OUTER)
    out[:, goals] = np.where(pit[:, goals], np.inf, climb[:, goals])
    end = out.argmin(1)
    escapes = np.isfinite(out[every[:, 0], end])
    position = np.full(values.shape[1], -1)
    position[INSIDE] = np.arange(len(INSIDE))
    at, walking = end.copy(), escapes.copy()
    for _ in range(len(INSIDE)):
        walking &= at != key
        rows = walking.nonzero()[0]
        if not len(rows):
            break
        source = came[rows, at[rows]]
        lower[rows, position[source]] = at[rows]
        at[rows] = source
    return lower, higher, escapes


def constraints(
    values: Floats, lower: Ints, higher: Ints, sign: Floats, operator: Tensor, *, margin: float
) -> tuple[Tensor, Tensor]:
    """Return linear constraints on blocks of pixels, [K, 2 V, D] and [K, 2 V].

    Args:
        values: the DoG as it is, times sign, [K, S].
        lower: samples that shall be lower than those inside, [K, V]; -1: none.
        higher: samples that shall be higher.
        sign: 1 where the keypoint is a minimum, -1 where it is a maximum, [K].
        operator: what blocks change in samples, [K, S, D].
        margin: by how much, in levels.
    """
    normals, bounds = [], []
    own, table = torch.from_numpy(INSIDE).expand(len(values), -1), torch.from_numpy(values)
    signed = operator * torch.from_numpy(sign)[:, None, None]
    for other, direction in ((lower, 1.0), (higher, -1.0)):
        there, other_rows = torch.from_numpy(other >= 0), torch.from_numpy(other).clamp(min=0)
        rows = [r[..., None].expand(-1, -1, operator.shape[2]) for r in (own, other_rows)]
        apart = direction * (signed.gather(1, rows[0]) - signed.gather(1, rows[1]))
        now = direction * (table.gather(1, own) - table.gather(1, other_rows))
        normals.append(apart * there[..., None])
        bounds.append(margin - now)
    return torch.cat(normals, 1), torch.cat(bounds, 1)
