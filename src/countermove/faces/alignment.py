"""Bringing faces to one place and size, and changes back to where the faces were. Everything is differentiable.

Points are (x, y) in pixels, (0, 0) being the centre of the first pixel, as OpenCV and scikit-image count. A matrix
[2, 3] maps points of a photo to points of the aligned crop.

Legend: N faces, K points of each, S side of the crop.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import DataError

TEMPLATE_SIDE = 112
_TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))

BOX_GROWTH = 1.21
BOX_LIFT = 0.057
"""Together: the square crop whose eyes lie, on average, where the template's do. From the boxes of OpenCV's frontal
cascade and the eyes found in them, 95 of 200 photos of LFW: eyes at (.303, .399) and (.685, .392) of the box."""


def template(side: int) -> Tensor:
    """Return where ArcFace wants the eyes, the nose and the corners of the mouth, left before right: [5, 2].

    The numbers are insightface's for 112 pixels. For another side the crop is that one enlarged: the pixels' edges are
    scaled. insightface scales their centres, which shifts the crop by less than half a pixel of the smaller one.
    """
    return (torch.tensor(_TEMPLATE, dtype=torch.float64) + 0.5) * (side / TEMPLATE_SIDE) - 0.5


def similarity(points: Tensor, target: Tensor) -> Tensor:
    """Return the scaling, rotation and shift that bring points nearest to a target in the least-squares sense.

    Umeyama 1991 without reflection. In the plane it has a closed form without singular values: points are complex
    numbers, and scaling with rotation is a multiplication.

    Args:
        points: [N, K, 2], K at least 2.
        target: [K, 2] or [N, K, 2].

    Returns:
        Matrices [N, 2, 3] in the points' dtype.

    Raises:
        DataError: when the shapes do not fit, or the points of a face are not finite or all the same.
    """
    target = target.to(points)
    if points.ndim != 3 or points.shape[1] < 2 or points.shape[2] != 2 or points.shape[-2:] != target.shape[-2:]:
        raise DataError(
            f"points {list(points.shape)} cannot be brought to {list(target.shape)}; give [N, K, 2], K >= 2"
        )
    centre, aim = points.mean(1), target.mean(-2)
    p, t = points - centre[:, None], target - aim[..., None, :]
    spread = p.square().sum((1, 2))
    if not (spread > 0).all():
        bad = (~(spread > 0)).nonzero().flatten().tolist()
        raise DataError(f"the points of the faces {bad[:8]} are not finite or all the same; leave these faces out")
    cos = (p * t).sum((1, 2)) / spread
    sin = (p[..., 0] * t[..., 1] - p[..., 1] * t[..., 0]).sum(1) / spread
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    shift = aim - (turn @ centre[:, :, None])[:, :, 0]
    return torch.cat([turn, shift[:, :, None]], 2)


def square(
    boxes: Tensor, side: int, *, angles: Tensor | None = None, growth: float = BOX_GROWTH, lift: float = BOX_LIFT
) -> Tensor:
    """Return the matrices of square crops around boxes: all the alignment there is without facial points.

    The face keeps its tilt, but for the angle at which the detector found it.

    Args:
        boxes:  [N, 4] as x, y, width, height in pixels, edge to edge.
        side:   S.
        angles: [N], how far each face is turned counterclockwise, in degrees; 0 unless given.
        growth: side of the crop in sides of the box (the longer ones).
        lift:   how far the crop lies above the box, in sides of the box, upward being the face's own.

    Returns:
        Matrices [N, 2, 3] in the boxes' dtype.

    Raises:
        DataError: when the boxes have no such shape, or one is empty.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point() or not (boxes[:, 2:] > 0).all():
        raise DataError(
            f"boxes must be float [N, 4]: x, y, positive width and height; got {boxes.dtype} {boxes.tolist()}"
        )
    angle = torch.zeros_like(boxes[:, 0]) if angles is None else angles.to(boxes).deg2rad()
    length = boxes[:, 2:].amax(1)
    scale = side / (growth * length)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    middle = boxes[:, :2] + boxes[:, 2:] / 2 - 0.5
    up = torch.stack([torch.zeros_like(length), lift * length * scale], 1)
    shift = side / 2 - 0.5 + up - (turn @ middle[:, :, None])[:, :, 0]
    return torch.cat([turn, shift[:, :, None]], 2)


def warp(pictures: Tensor, matrices: Tensor, side: int) -> Tensor:
    """Cut aligned crops [N, C, side, side] out of pictures [N, C, H, W], bilinearly; outside, the edge goes on.

    A face larger than the crop is sampled and not averaged, as insightface does.

    Raises:
        DataError: when there is not one invertible matrix [2, 3] a picture.
    """
    _check(pictures, matrices)
    height, width = pictures.shape[2:]
    return _sample(pictures, _inverse(matrices), side, side, from_size=(height, width), padding="border")


def paste(change: Tensor, matrices: Tensor, height: int, width: int) -> Tensor:
    """Bring a change [N, C, S, S] of aligned crops back to their photos' grid [N, C, height, width], bilinearly.

    Outside the crop nothing is changed. Adding the result to the photo and warping again gives the change back up to
    interpolation, where the crop lies inside the photo.

    Raises:
        DataError: when there is not one matrix [2, 3] a change.
    """
    _check(change, matrices)
    return _sample(change, matrices, height, width, from_size=(change.shape[2], change.shape[3]), padding="zeros")


def _sample(
    pictures: Tensor, to_source: Tensor, height: int, width: int, *, from_size: tuple[int, int], padding: str
) -> Tensor:
    """Read a picture at the places to which a matrix in pixels maps every pixel of the output."""
    # torch counts from -1 to 1 between the outer edges: pixel i of n is (2 i + 1) / n - 1.
    m = to_source.to(torch.float64)
    out = m.new_tensor([[width / 2, 0, (width - 1) / 2], [0, height / 2, (height - 1) / 2], [0, 0, 1]])
    rows, columns = from_size
    scale = m.new_tensor([2 / columns, 2 / rows])
    edge = m.new_tensor([1 / columns - 1, 1 / rows - 1])
    theta = (m @ out) * scale[:, None] + torch.stack([torch.zeros_like(edge), torch.zeros_like(edge), edge], 1)
    size = [len(pictures), pictures.shape[1], height, width]
    grid = F.affine_grid(theta, size, align_corners=False).to(pictures.dtype)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _inverse(matrices: Tensor) -> Tensor:
    turn, shift = matrices[:, :, :2].to(torch.float64), matrices[:, :, 2:].to(torch.float64)
    if not (torch.linalg.det(turn).abs() > 0).all():
        raise DataError(
            "a matrix cannot be inverted: it maps the photo to a line, or holds numbers that are not finite"
        )
    back = torch.linalg.inv(turn)
    return torch.cat([back, -back @ shift], 2)


def _check(pictures: Tensor, matrices: Tensor) -> None:
    if pictures.ndim != 4 or matrices.shape != (len(pictures), 2, 3):
        raise DataError(
            f"pictures {list(pictures.shape)} and matrices {list(matrices.shape)} do not fit; "
            "give [N, C, H, W] and one [2, 3] each"
        )
