"""Alignment against scikit-image and slow loops; its gradients; there and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage import transform
from torch import Tensor

from countermove.errors import DataError
from countermove.faces.alignment import BOX_GROWTH, BOX_LIFT, paste, similarity, square, template, warp
from countermove.pixels.randomness import generator


def points(n: int, seed: int = 0) -> Tensor:
    """Draw five points a face: the template turned, scaled, shifted and jittered."""
    source = generator(seed, "points")
    angle = (torch.rand(n, generator=source, dtype=torch.float64) - 0.5) * 2 * math.pi
    scale = torch.rand(n, generator=source, dtype=torch.float64) * 2 + 0.3
    shift = torch.rand(n, 1, 2, generator=source, dtype=torch.float64) * 100
    noise = torch.randn(n, 5, 2, generator=source, dtype=torch.float64) * 3
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1) * scale[:, None, None]
    return (template(112) + noise) @ turn.mT + shift


def smooth(n: int, height: int, width: int) -> Tensor:
    """Make pictures without fine detail, which interpolation would lose: float64 [N, 3, H, W]."""
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    waves = [torch.sin(x / (9 + i) + i) * torch.cos(y / (11 + i)) * 0.4 + 0.5 for i in range(3 * n)]
    return torch.stack(waves).view(n, 3, height, width)


def by_hand(picture: Tensor, matrix: Tensor, side: int) -> Tensor:
    """Cut a crop out pixel by pixel."""
    back = torch.linalg.inv(torch.cat([matrix, torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)]))
    channels, height, width = picture.shape
    out = torch.zeros(channels, side, side, dtype=torch.float64)
    for row in range(side):
        for column in range(side):
            x, y, _ = (back @ torch.tensor([column, row, 1.0], dtype=torch.float64)).tolist()
            x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
            left, top = min(int(x), width - 2), min(int(y), height - 2)
            a, b = x - left, y - top
            corners = picture[:, top : top + 2, left : left + 2]
            weights = torch.tensor([[(1 - a) * (1 - b), a * (1 - b)], [(1 - a) * b, a * b]], dtype=torch.float64)
            out[:, row, column] = (corners * weights).sum((1, 2))
    return out


# --- the template and the matrices -----------------------------------------------------------------------------------


def test_the_template_is_arcfaces_and_scales_with_the_pixels_edges():
    assert template(112)[0].tolist() == pytest.approx([38.2946, 51.6963])
    assert template(112).shape == (5, 2)
    assert template(224)[2].tolist() == pytest.approx([2 * 56.5252 - 0.5, 2 * 72.2366 - 0.5])


def test_similarity_is_umeyamas():
    given_points = points(20)
    matrices = similarity(given_points, template(112))
    for found, p in zip(matrices, given_points, strict=True):
        wanted = transform.SimilarityTransform.from_estimate(p.numpy(), template(112).numpy())
        np.testing.assert_allclose(found.numpy(), wanted.params[:2], atol=1e-9)


@given(
    angle=st.floats(-180, 180),
    scale=st.floats(0.05, 20),
    x=st.floats(-500, 500),
    y=st.floats(-500, 500),
    k=st.integers(2, 6),
)
def test_a_similarity_is_found_again_exactly(angle: float, scale: float, x: float, y: float, k: int):
    start = torch.rand(1, k, 2, dtype=torch.float64, generator=generator(k, "start")) * 50
    true = transform.SimilarityTransform(scale=scale, rotation=math.radians(angle), translation=(x, y)).params[:2]
    matrix = torch.from_numpy(true)
    aim = start @ matrix[:, :2].T + matrix[:, 2]
    torch.testing.assert_close(similarity(start, aim)[0], matrix, rtol=1e-6, atol=1e-6)


def test_no_reflection_is_taken_even_where_it_would_fit():
    mirrored = template(112) * torch.tensor([-1.0, 1.0])
    matrix = similarity(mirrored[None], template(112))
    assert torch.linalg.det(matrix[:, :, :2]) > 0


def test_no_other_similarity_is_nearer():
    given_points, target = points(4), template(112)
    best = similarity(given_points, target)

    def miss(m: Tensor) -> Tensor:
        return (given_points @ m[:, :, :2].mT + m[:, None, :, 2] - target).square().sum((1, 2))

    for a, b, x, y in [(1e-3, 0, 0, 0), (0, 1e-3, 0, 0), (0, 0, 0.1, 0), (0, 0, 0, 0.1)]:
        for sign in (1, -1):
            step = sign * torch.tensor([[a, -b, x], [b, a, y]], dtype=torch.float64)
            assert (miss(best + step) > miss(best)).all()


def test_similarity_has_gradients():
    start = points(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: similarity(p, template(112)), start)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(1, 5, 2),
        torch.full((1, 5, 2), math.nan),
        torch.zeros(5, 2),
        torch.rand(1, 1, 2),
        torch.rand(1, 4, 2),
    ],
)
def test_points_that_are_no_face_are_refused(wrong: Tensor):
    with pytest.raises(DataError, match="points"):
        similarity(wrong, template(112))


# --- square crops ----------------------------------------------------------------------------------------------------


def test_a_square_crop_of_a_whole_picture_resizes_it():
    picture = smooth(1, 40, 40)
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0]], dtype=torch.float64)
    same = warp(picture, square(boxes, 40, growth=1, lift=0), 40)
    torch.testing.assert_close(same, picture)
    cut = warp(picture, square(torch.tensor([[4.0, 6.0, 10.0, 10.0]]).double(), 10, growth=1, lift=0), 10)
    torch.testing.assert_close(cut, picture[:, :, 6:16, 4:14])


def test_a_box_is_squared_by_its_longer_side_and_lifted():
    matrix = square(torch.tensor([[10.0, 20.0, 50.0, 100.0]], dtype=torch.float64), 80, growth=1, lift=0.1)[0]
    # The crop reaches from x = 35 - 50 to 35 + 50, and from y = 20 - 10 to 110, edges half a pixel outside the centres.
    for corner, wanted in (((-15.5, 9.5), (-0.5, -0.5)), ((84.5, 109.5), (79.5, 79.5))):
        found = matrix @ torch.tensor([*corner, 1.0], dtype=torch.float64)
        assert found.tolist() == pytest.approx(wanted)


def test_the_usual_crop_puts_the_average_eyes_of_lfw_where_the_template_has_them():
    matrix = square(torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64), 112)[0]
    eyes = torch.tensor([[0.303 - 0.5, 0.399 - 0.5], [0.685 - 0.5, 0.392 - 0.5]], dtype=torch.float64)
    found = eyes @ matrix[:, :2].T + matrix[:, 2]
    assert (found - template(112)[:2]).abs().max() < 1.5
    assert (BOX_GROWTH, BOX_LIFT) == (1.21, 0.057)


@pytest.mark.parametrize("angle", [90.0, -90.0, 180.0])
def test_a_turned_face_is_cropped_upright(angle: float):
    picture = smooth(1, 30, 30)
    turned = torch.rot90(picture, int(angle // 90), (2, 3))
    boxes = torch.tensor([[0.0, 0.0, 30.0, 30.0]], dtype=torch.float64)
    matrix = square(boxes, 30, angles=torch.tensor([angle]), growth=1, lift=0)
    torch.testing.assert_close(warp(turned, matrix, 30), picture)
    lifted = square(boxes, 30, angles=torch.tensor([angle]), growth=1, lift=0.1)
    torch.testing.assert_close(warp(turned, lifted, 30)[:, :, 3:], picture[:, :, :-3])


@pytest.mark.parametrize("wrong", [[[0.0, 0.0, 0.0, 5.0]], [0.0, 0.0, 5.0, 5.0], [[0.0, 0.0, math.nan, 5.0]]])
def test_boxes_that_are_none_are_refused(wrong: Any):
    with pytest.raises(DataError, match="boxes must be"):
        square(torch.tensor(wrong), 112)


# --- warping and pasting ---------------------------------------------------------------------------------------------


def test_warping_is_scikit_images_and_the_slow_loops():
    pictures = torch.rand(3, 3, 37, 52, dtype=torch.float64, generator=generator(0, "pictures"))
    matrices = similarity(points(3) * 0.3, template(24))
    crops = warp(pictures, matrices, 24)
    for picture, matrix, crop in zip(pictures, matrices, crops, strict=True):
        torch.testing.assert_close(crop, by_hand(picture, matrix, 24), atol=1e-9, rtol=0)
        back = transform.AffineTransform(np.vstack([matrix.numpy(), [0, 0, 1]])).inverse
        theirs = transform.warp(picture.permute(1, 2, 0).numpy(), back, output_shape=(24, 24), order=1, mode="edge")
        np.testing.assert_allclose(crop.permute(1, 2, 0).numpy(), theirs, atol=1e-9)


def test_pasting_is_scikit_images():
    change = torch.randn(2, 3, 20, 20, dtype=torch.float64, generator=generator(0, "change"))
    matrices = similarity(points(2) * 0.3, template(20))
    pasted = paste(change, matrices, 45, 60)
    for one, matrix, own in zip(change, matrices, pasted, strict=True):
        there = transform.AffineTransform(np.vstack([matrix.numpy(), [0, 0, 1]]))
        theirs = transform.warp(
            one.permute(1, 2, 0).numpy(), there, output_shape=(45, 60), order=1, mode="constant", cval=0
        )
        np.testing.assert_allclose(own.permute(1, 2, 0).numpy(), theirs, atol=1e-9)


def test_a_change_comes_back_from_a_turned_scaled_and_shifted_face():
    photo = smooth(1, 160, 200)
    true = transform.SimilarityTransform(scale=0.8, rotation=0.5, translation=(-30, -60)).params[:2]
    matrix = torch.from_numpy(true)[None]
    change = smooth(1, 64, 64)[:, :, :, :] * 0.1
    moved = photo + paste(change, matrix, 160, 200)
    found = warp(moved, matrix, 64) - warp(photo, matrix, 64)
    torch.testing.assert_close(found[..., 3:-3, 3:-3], change[..., 3:-3, 3:-3], atol=2e-3, rtol=0)
    y, x = torch.meshgrid(torch.arange(160).double(), torch.arange(200).double(), indexing="ij")
    inside = torch.stack([x, y], 2) @ matrix[0, :, :2].T + matrix[0, :, 2]
    outside = ((inside < -1) | (inside > 64)).any(2)
    assert outside.any()
    assert (moved - photo)[:, :, outside].abs().max() == 0


def test_pasting_a_whole_crop_of_the_same_size_is_exact():
    change = torch.randn(2, 3, 16, 16, generator=generator(0, "change"))
    matrices = torch.eye(3)[:2].expand(2, 2, 3).clone()
    torch.testing.assert_close(paste(change, matrices, 16, 16), change, atol=1e-5, rtol=0)
    matrices[:, 0, 2] = -5
    torch.testing.assert_close(paste(change, matrices, 16, 30)[..., 5:21], change, atol=1e-4, rtol=0)


def test_every_face_of_a_batch_is_warped_and_pasted_alone():
    pictures = torch.rand(3, 3, 30, 30, generator=generator(0, "pictures"))
    matrices = similarity(points(3).float() * 0.3, template(16))
    alone = torch.cat([warp(p[None], m[None], 16) for p, m in zip(pictures, matrices, strict=True)])
    torch.testing.assert_close(warp(pictures, matrices, 16), alone)
    back = torch.cat([paste(c[None], m[None], 30, 31) for c, m in zip(alone, matrices, strict=True)])
    torch.testing.assert_close(paste(alone, matrices, 30, 31), back)
    assert warp(pictures, matrices, 16).dtype == torch.float32


def test_warping_and_pasting_have_gradients():
    matrices = similarity(points(2) * 0.1, template(8))
    pictures = torch.rand(2, 1, 9, 11, dtype=torch.float64, generator=generator(0, "pictures")).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: warp(p, matrices, 8), pictures)
    change = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=generator(0, "change")).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: paste(c, matrices, 9, 11), change)


@pytest.mark.parametrize("matrices", [torch.zeros(1, 2, 3), torch.full((1, 2, 3), math.nan), torch.zeros(2, 2, 3)])
def test_matrices_that_do_not_fit_are_refused(matrices: Tensor):
    with pytest.raises(DataError, match="matri"):
        warp(torch.zeros(1, 3, 8, 8), matrices, 8)
