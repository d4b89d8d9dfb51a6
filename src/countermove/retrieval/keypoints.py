"""Where SIFT finds keypoints, how strong they are, and what of the picture makes them so.

The scale space is OpenCV's: the picture is doubled, every octave has three layers in which extrema are looked for, and
what OpenCV's ``SIFT_create`` with its own settings finds is found here (without directions), with what it does not
tell: the sign of the difference of Gaussians (DoG), the sample it stands on, and extrema that are too weak.

Pictures are gray here, float32 or uint8 [H, W], in levels 0 to 255; DoG values are in such levels too. Legend: K
keypoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from countermove.errors import ConfigError

Gray = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LAYERS = 3
SIGMA = 1.6
CONTRAST = 0.04 / LAYERS * 255
"""OpenCV's threshold of the interpolated DoG, in levels: 3.4."""
EDGE = 10.0
_CAMERA = 0.5  # the blur that a picture is taken to have
_BORDER = 5
_STEPS = 5
_ENTRIES_AT_ONCE = 1 << 22
# what a doubled picture's linear interpolation blurs by, and what is not blurred because the camera did, in pixels^2
_EXTRA_VARIANCE = 0.1875 - _CAMERA**2


def opencv() -> Any:
    """Import OpenCV.

    Raises:
        ConfigError: when it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise ConfigError("SIFT needs OpenCV, which is not installed: pip install 'countermove[retrieval]'") from error
    return cv2


@dataclass(frozen=True, kw_only=True, eq=False)
class Keypoints:
    """Extrema of the difference of Gaussians.

    x, y:   interpolated position in pixels of the picture, [K]; whole numbers are centres of pixels.
    sigma:  interpolated scale in pixels; the DoG is the Gaussian of 2^(1/3) sigma less that of sigma.
    value:  interpolated DoG, signed, in levels.
    octave: 0 is the doubled picture, 1 the picture, 2 half of it.
    layer, row, column: the sample in its octave that is the extremum.
    """

    x: Floats
    y: Floats
    sigma: Floats
    value: Floats
    octave: Ints
    layer: Ints
    row: Ints
    column: Ints

    def __len__(self) -> int:
        return len(self.x)

    def where(self, chosen: NDArray[Any]) -> Keypoints:
        """Return some of them, by a mask or by rows."""
        return Keypoints(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    @staticmethod
    def joined(parts: list[Keypoints]) -> Keypoints:
        """Return several as one."""
        floats, ints = np.zeros(0), np.zeros(0, np.int64)
        empty = Keypoints(
            x=floats, y=floats, sigma=floats, value=floats, octave=ints, layer=ints, row=ints, column=ints
        )
        return Keypoints(
            **{f.name: np.concatenate([getattr(p, f.name) for p in [empty, *parts]]) for f in fields(empty)}
        )


def octave_count(height: int, width: int) -> int:
    """Return how many octaves OpenCV's SIFT has for a picture."""
    return max(1, round(math.log2(2 * min(height, width)) - 2) + 1)


def differences(gray: NDArray[Any], octaves: Sequence[int] | None = None) -> dict[int, Gray]:
    """Return the DoG of octaves, float32 [5, h, w] each; of those asked for, or of all, as far as they are there."""
    cv2 = opencv()
    height, width = gray.shape
    count = octave_count(height, width)
    wanted = [i for i in range(count) if octaves is None or i in octaves]
    level = cv2.resize(np.ascontiguousarray(gray, np.float32), (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
    level = cv2.GaussianBlur(level, (0, 0), math.sqrt(SIGMA**2 - (2 * _CAMERA) ** 2))
    factor = 2 ** (1 / LAYERS)
    steps = [SIGMA * factor**i * math.sqrt(factor**2 - 1) for i in range(LAYERS + 2)]
    found = {}
    for octave in range(max(wanted, default=-1) + 1):
        stack = [level]
        for step in steps if octave in wanted else steps[:LAYERS]:
            stack.append(cv2.GaussianBlur(stack[-1], (0, 0), step))
        if octave in wanted:
            found[octave] = np.stack([b - a for a, b in pairwise(stack)])
        h, w = stack[LAYERS].shape
        if octave + 1 < count:
            level = cv2.resize(stack[LAYERS], (w // 2, h // 2), interpolation=cv2.INTER_NEAREST)
    return found


def detect(
    gray: NDArray[Any], *, contrast: float = CONTRAST, edge: float = EDGE, octaves: Sequence[int] | None = None
) -> Keypoints:
    """Return the keypoints of a gray picture.

    Args:
        gray: [H, W] in levels.
        contrast: how large the interpolated DoG is at least, in levels.
        edge: above this ratio of curvatures an extremum is an edge.
        octaves: those to look in, 0 the doubled picture; None: all.
    """
    return found_in(differences(gray, octaves), contrast, edge)


def found_in(differences: Mapping[int, Gray], contrast: float = CONTRAST, edge: float = EDGE) -> Keypoints:
    """Return the keypoints of octaves whose DoG is there; see `detect`."""
    return Keypoints.joined([_in_octave(dog, octave, contrast, edge) for octave, dog in differences.items()])


def _in_octave(dog: Gray, octave: int, contrast: float, edge: float) -> Keypoints:
    height, width = dog.shape[1:]
    if min(height, width) <= 2 * _BORDER:
        return Keypoints.joined([])
    # OpenCV drops samples below half of the threshold, in whole levels, before it interpolates
    layer, row, column = _extrema(dog, math.floor(0.5 * contrast))
    extremum = np.stack([layer, row, column], 1)
    at, offset, active = extremum.copy(), np.zeros((len(layer), 3)), np.ones(len(layer), bool)
    lost = np.zeros(len(layer), bool)
    for _ in range(_STEPS):
        rows = active.nonzero()[0]
        if not len(rows):
            break
        gradient, hessian = _derivatives(dog, at[rows])
        step = _solved(hessian, gradient)
        offset[rows] = step
        done = (np.abs(step) < 0.5).all(1)
        active[rows[done]] = False
        moving = rows[~done]
        target = at[moving] + np.rint(np.clip(step[~done], -1e6, 1e6)).astype(np.int64)
        inside = (target >= [1, _BORDER, _BORDER]).all(1) & (target <= [LAYERS, height, width] - _EDGE_AWAY).all(1)
        at[moving[inside]] = target[inside]
        lost[moving[~inside]], active[moving[~inside]] = True, False
    lost |= active
    kept = ~lost
    at, offset, extremum = at[kept], offset[kept], extremum[kept]
    gradient, hessian = _derivatives(dog, at)
    value = dog[at[:, 0], at[:, 1], at[:, 2]] + 0.5 * (gradient * offset).sum(1)
    yy, xx, xy = hessian[:, 1, 1], hessian[:, 2, 2], hessian[:, 1, 2]
    determinant = xx * yy - xy * xy
    strong = (np.abs(value) >= contrast) & (determinant > 0)
    strong &= (xx + yy) ** 2 * edge < (edge + 1) ** 2 * determinant
    # two samples may be moved to the same place, which is then one keypoint
    _, first = np.unique(at, axis=0, return_index=True)
    unique = np.zeros(len(at), bool)
    unique[first] = True
    kept = strong & unique
    at, offset, extremum, value = at[kept], offset[kept], extremum[kept], value[kept]
    place = at + offset
    return Keypoints(
        x=place[:, 2] * 2.0**octave / 2 - 0.25,
        y=place[:, 1] * 2.0**octave / 2 - 0.25,
        sigma=SIGMA * 2 ** (place[:, 0] / LAYERS) * 2.0**octave / 2,
        value=value,
        octave=np.full(len(at), octave, np.int64),
        layer=extremum[:, 0],
        row=extremum[:, 1],
        column=extremum[:, 2],
    )


_EDGE_AWAY = np.array([0, _BORDER + 1, _BORDER + 1])


def _extrema(dog: Gray, threshold: float) -> tuple[Ints, Ints, Ints]:
    """Return layers, rows and columns of samples that none of their 26 neighbours exceeds."""
    cv2 = opencv()
    square = np.ones((3, 3), np.uint8)
    high = [cv2.dilate(layer, square) for layer in dog]
    low = [cv2.erode(layer, square) for layer in dog]
    found = []
    for i in range(1, LAYERS + 1):
        top = np.maximum(np.maximum(high[i - 1], high[i]), high[i + 1])
        bottom = np.minimum(np.minimum(low[i - 1], low[i]), low[i + 1])
        mask = ((dog[i] > threshold) & (dog[i] == top)) | ((dog[i] < -threshold) & (dog[i] == bottom))
        rows, columns = mask[_BORDER:-_BORDER, _BORDER:-_BORDER].nonzero()
        found.append(np.stack([np.full(len(rows), i), rows + _BORDER, columns + _BORDER], 1))
    layer, row, column = np.concatenate(found).T
    return layer, row, column


def _derivatives(dog: Gray, at: Ints) -> tuple[Floats, Floats]:
    """Return gradients [K, 3] and Hessians [K, 3, 3] by layer, row and column, from central differences."""
    layer, row, column = at.T
    around = np.empty((len(at), 3, 3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                around[:, i, j, k] = dog[layer + i - 1, row + j - 1, column + k - 1]
    centre = around[:, 1, 1, 1]
    gradient, hessian = np.empty((len(at), 3)), np.empty((len(at), 3, 3))
    for a in range(3):
        along = np.moveaxis(around, a + 1, 1)[:, :, 1, 1]
        gradient[:, a] = (along[:, 2] - along[:, 0]) / 2
        hessian[:, a, a] = along[:, 2] + along[:, 0] - 2 * centre
        for b in range(a):
            face = np.moveaxis(around, (a + 1, b + 1), (1, 2))[..., 1]
            mixed = (face[:, 2, 2] - face[:, 2, 0] - face[:, 0, 2] + face[:, 0, 0]) / 4
            hessian[:, a, b] = hessian[:, b, a] = mixed
    return gradient, hessian


def _solved(hessian: Floats, gradient: Floats) -> Floats:
    """Return where the parabola has its extremum; where it has none, far away."""
    flat = np.abs(np.linalg.det(hessian)) < 1e-12
    hessian = np.where(flat[:, None, None], np.eye(3), hessian)
    step = -np.linalg.solve(hessian, gradient[..., None])[..., 0]
    return np.where(flat[:, None], 1e6, step)


def surviving(before: Keypoints, after: Keypoints, *, reach: float = 1.5) -> NDArray[np.bool_]:
    """Return which keypoints are still there: less than so many pixels away, at less than half an octave's distance."""
    if not len(before) or not len(after):
        return np.zeros(len(before), bool)
    from scipy.spatial import KDTree

    # half an octave is as far as the reach in the third direction, and the largest distance counts
    def places(points: Keypoints) -> Floats:
        return np.stack([points.x, points.y, 2 * reach * np.log2(points.sigma)], 1)

    distance, _ = KDTree(places(after)).query(places(before), p=np.inf, distance_upper_bound=reach)
    return np.isfinite(distance)


def added_patches(shape: tuple[int, int], points: Keypoints, change: Floats, *, reach: float = 3.0) -> Floats:
    """Return what must be added to a picture so that the DoG at each keypoint changes by so much, at least norm.

    Among all patches with that effect the one of least norm is the DoG's own kernel, scaled. Neighbouring keypoints
    are taken one by one; where patches overlap, the effects add up.

    Args:
        shape: of the picture.
        points: where.
        change: of the DoG in levels, [K].
        reach: how far a patch goes, in sigmas.
    """
    height, width = shape
    total = np.zeros(height * width)
    radii = np.ceil(reach * points.sigma).astype(np.int64)
    for radius in np.unique(radii):
        same = (radii == radius).nonzero()[0]
        for rows in np.array_split(same, 1 + len(same) * (2 * int(radius) + 1) ** 2 // _ENTRIES_AT_ONCE):
            some = points.where(rows)
            y, row_kernels = _profiles(some.y, some.sigma, int(radius))
            x, column_kernels = _profiles(some.x, some.sigma, int(radius))
            inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
            outer, inner = (r[:, :, None] * c[:, None, :] for r, c in zip(row_kernels, column_kernels, strict=True))
            kernel = np.where(inside, outer - inner, 0.0)
            kernel *= (change[rows] / np.maximum((kernel**2).sum((1, 2)), 1e-12))[:, None, None]
            places = (y[:, :, None] * width + x[:, None, :])[inside]
            total += np.bincount(places, kernel[inside], height * width)
    return total.reshape(height, width)


def _profiles(centre: Floats, sigma: Floats, radius: int) -> tuple[Ints, list[Floats]]:
    """Return pixels [K, 2 radius + 1] around centres, and the weights there of the wider and the narrower Gaussian."""
    pixels = np.rint(centre).astype(np.int64)[:, None] + np.arange(-radius, radius + 1)
    square = (pixels - centre[:, None]) ** 2
    weights = []
    for factor in (2 ** (1 / LAYERS), 1.0):
        variance = ((factor * sigma) ** 2 + _EXTRA_VARIANCE)[:, None]
        weights.append(np.exp(-square / (2 * variance)) / np.sqrt(2 * np.pi * variance))
    return pixels, weights


def smoothed(gray: NDArray[Any], points: Keypoints, *, sigma: float, radius: int) -> Gray:
    """Return the picture with a Gaussian blur in the squares around keypoints, side 2 radius + 1."""
    cv2 = opencv()
    source = np.ascontiguousarray(gray, np.float32)
    mask = np.zeros(source.shape, np.uint8)
    height, width = source.shape
    rows = np.clip(np.rint(points.y).astype(np.int64), 0, height - 1)
    mask[rows, np.clip(np.rint(points.x).astype(np.int64), 0, width - 1)] = 1
    mask = cv2.dilate(mask, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8))
    return np.where(mask > 0, cv2.GaussianBlur(source, (0, 0), sigma), source)
