"""CEDD and GIST against slow implementations, and what they must see and not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.retrieval.slow_descriptors import edges, fuzzy, slow_cedd, slow_gist
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.randomness import generator
from countermove.retrieval.indexes.cedd import cedd, cedd_distances
from countermove.retrieval.indexes.gist import gist, gist_distances


def smooth(height: int, width: int, seed: int, count: int = 1, cells: int = 9) -> Tensor:
    """Pictures with large areas of colour, edges and a little grain."""
    source = generator(seed, "smooth")
    coarse = torch.rand(count, 3, cells, cells, generator=source) * 300 - 20
    large = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    steps = (torch.arange(width) // 7 % 2) * 40.0 + (torch.arange(height) // 11 % 2)[:, None] * 25.0
    grain = torch.rand(count, 3, height, width, generator=source) * 12
    return (large + steps + grain).clamp(0, 255).byte()


@pytest.mark.parametrize(
    ("height", "width"), [(80, 80), (97, 131), (166, 90), (79, 64), (40, 203), (39, 39), (8, 8), (9, 400), (2, 3)]
)
def test_cedd_is_the_slow_one(height: int, width: int) -> None:
    for pictures in (
        smooth(height, width, 1),
        torch.randint(0, 256, (1, 3, height, width), generator=generator(2, "x")),
    ):
        slow = slow_cedd(pictures[0].byte().numpy())
        assert cedd(pictures.byte())[0].int().tolist() == slow
        assert sum(slow) > 0


def test_the_slow_one_sees_what_the_paper_says() -> None:
    """So that it is a measure: known colours, known edges."""
    colours = {(0, 0, 0): 2, (128, 128, 128): 1, (255, 255, 255): 0, (255, 0, 0): 4, (0, 255, 0): 13, (0, 0, 255): 19}
    for colour, bin_ in colours.items():
        assert int(np.argmax(fuzzy(*colour))) == bin_
    assert edges([100, 101, 102, 100]) == [0]
    assert edges([200, 200, 0, 0]) == [2]
    assert edges([200, 0, 200, 0]) == [3]
    assert edges([200, 100, 100, 0]) == [4]
    assert edges([100, 200, 0, 100]) == [5]
    assert edges([200, 0, 0, 200]) == [1]


def test_cedd_of_gray_and_of_one_colour() -> None:
    gray = smooth(80, 90, 3)[:, :1].expand(-1, 3, -1, -1).contiguous()
    classes = cedd(gray)[0].view(6, 24)
    assert classes[:, 3:].sum() == 0
    assert classes.sum() > 0
    red = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    red[:, 0] = 255
    assert cedd(red)[0].nonzero()[:, 0].tolist() == [4]
    assert float(cedd(red)[0, 4]) == 7


def test_cedd_does_not_depend_on_the_batch() -> None:
    pictures = smooth(64, 50, 4, count=70)
    together = cedd(pictures)
    assert torch.equal(together, torch.cat([cedd(picture[None]) for picture in pictures]))
    assert together.unique(dim=0).shape[0] > 60
    assert cedd(pictures[:0]).shape == (0, 144)


def test_cedd_distances_by_hand() -> None:
    some = torch.zeros(4, 144)
    some[1, 0], some[2, 0], some[2, 1], some[3, 5] = 3, 2, 2, 7
    distances = cedd_distances(some, some)
    assert distances.diagonal().tolist() == pytest.approx([0, 0, 0, 0], abs=1e-12)
    assert float(distances[1, 2]) == pytest.approx(100 * (1 - 0.5 / (1 + 0.5 - 0.5)))
    assert float(distances[0, 1]) == float(distances[1, 3]) == 100


def test_gist_is_the_slow_one() -> None:
    pictures = smooth(32, 32, 5, count=2)
    ours = gist(pictures, side=32)
    for picture, numbers in zip(pictures, ours, strict=True):
        slow = slow_gist(picture.numpy())
        assert np.abs(numbers.numpy() - slow).max() < 1e-4 * np.abs(slow).max()
        assert slow.std() > 0.1 * slow.mean()


def test_gist_sees_orientation_and_place() -> None:
    """Stripes answer in another filter when they are turned, and only where they are."""
    stripes = (torch.arange(64) // 4 % 2 * 255).byte()[None, None, None, :].expand(1, 3, 64, 64).contiguous()
    upright, lying = (gist(x, side=64).view(32, 4, 4) for x in (stripes, stripes.transpose(2, 3).contiguous()))
    strongest = int(upright.mean((1, 2)).argmax())
    turned = int(lying.mean((1, 2)).argmax())
    assert strongest // 8 == turned // 8
    assert abs(strongest - turned) == 4
    half = stripes.clone()
    half[..., 32:, :] = 128
    place = gist(half, side=64).view(32, 4, 4)[strongest]
    assert place[0].min() > 3 * place[3].max()


def test_gist_keeps_brightness_gray_and_batches_apart() -> None:
    pictures = smooth(48, 70, 6, count=9)
    numbers = gist(pictures, side=48)
    assert numbers.shape == (9, 512)
    alone = torch.cat([gist(picture[None], side=48) for picture in pictures])
    assert torch.allclose(numbers, alone, atol=1e-5)
    darker = (pictures.float() / 2).byte()
    change = gist_distances(numbers, gist(darker, side=48))
    assert (change.diagonal() < 0.5 * change[~torch.eye(9, dtype=torch.bool)].min()).all()


@pytest.mark.parametrize("shape", [(8, 8), (8, 3000), (1, 1), (300, 9)])
def test_gist_of_odd_shapes_is_finite(shape: tuple[int, int]) -> None:
    pictures = torch.cat([torch.full((1, 3, *shape), 77, dtype=torch.uint8), smooth(*shape, 7)])
    numbers = gist(pictures, side=32)
    assert numbers.isfinite().all()
    assert numbers[0].abs().max() == 0


def test_gist_distances_by_hand() -> None:
    distances = gist_distances(torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0, 0.0], [0.0, 3.0]]))
    assert distances.tolist() == [[5, 0]]


def test_what_is_no_picture_is_refused() -> None:
    for describe in (cedd, gist):
        with pytest.raises(DataError, match="uint8"):
            describe(torch.rand(1, 3, 64, 64))
        with pytest.raises(DataError, match="uint8"):
            describe(torch.zeros(3, 64, 64, dtype=torch.uint8))
    for side in (16, 66, 5000):
        with pytest.raises(ConfigError, match="side"):
            gist(smooth(40, 40, 1), side=side)
