"""Clouds against the algorithm point by point."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from countermove.pixels.clouds import clouds
from countermove.pixels.randomness import generator


def slowly(side: int, roughness: float, source: torch.Generator) -> Tensor:
    """Return one cloud [side, side], one point after the other; side is a power of two plus one."""
    field, level = torch.rand(1, 1, 2, 2, generator=source)[0, 0], 0
    while len(field) < side:
        size = 2 * len(field) - 1
        noise = torch.rand(1, 1, size, size, generator=source)[0, 0]
        weight = roughness**level if level else 0.0
        fine = torch.full((size, size), torch.nan)
        fine[::2, ::2] = field
        for odd in (2, 1):  # first the centres, then what lies between
            around = [(-1, -1), (-1, 1), (1, -1), (1, 1)] if odd == 2 else [(-1, 0), (1, 0), (0, -1), (0, 1)]
            for i in range(size):
                for j in range(size):
                    if i % 2 + j % 2 == odd:
                        near = [fine[i + a, j + b] for a, b in around if 0 <= i + a < size and 0 <= j + b < size]
                        fine[i, j] = (1 - weight) * torch.stack(near).mean() + weight * noise[i, j]
        field, level = fine, level + 1
    return field


@pytest.mark.parametrize("roughness", [0.0, 0.3, 0.7, 1.0])
def test_clouds_are_made_point_by_point(roughness: float) -> None:
    found = clouds(torch.zeros(1, 1, 17, 17), torch.tensor([roughness]), generator(0))
    assert (found[0, 0] - slowly(17, roughness, generator(0))).abs().max() < 1e-6


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (20, 33), (33, 20), (32, 32)])
def test_any_shape_is_cut_from_a_square(height: int, width: int) -> None:
    like = torch.zeros(5, 3, height, width, dtype=torch.float64)
    found = clouds(like, torch.full((5,), 0.5), generator(1))
    assert (found.shape, found.dtype) == (like.shape, like.dtype)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert len(found.flatten(2).flatten(0, 1).unique(dim=0)) == 15  # every channel of every picture has its own
    assert clouds(like[:0], torch.zeros(0), generator(1)).shape == (0, 3, height, width)


def test_each_picture_is_as_rough_as_asked_and_nothing_global_is_drawn() -> None:
    before = torch.get_rng_state()
    found = clouds(torch.zeros(60, 3, 32, 32), torch.linspace(0, 1, 60), generator(2))
    assert torch.equal(torch.get_rng_state(), before)
    steps = found.diff(dim=3).abs().mean((1, 2, 3))
    assert steps[:20].mean() < steps[20:40].mean() < 0.5 * steps[40:].mean()
    assert float(found.mean()) == pytest.approx(0.5, abs=0.03)
