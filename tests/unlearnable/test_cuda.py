"""CUDA's own budget, which no radius describes: one filter a class, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float
from countermove.unlearnable.play import move_and_round
from countermove.unlearnable.poison import Context
from countermove.unlearnable.poisons.cuda import Cuda, filtered


def shifted_nine_ways(pictures: Tensor) -> Tensor:
    """Return what each of the nine entries of a filter sees, [N, 3, H, W, 9]."""
    seen = torch.nn.functional.unfold(pictures, 3, padding=1).unflatten(1, (3, 9)).movedim(2, -1)
    return seen.unflatten(2, pictures.shape[-2:])


def test_it_is_a_convolution_with_black_beyond_the_border() -> None:
    pictures = torch.rand(5, 3, 9, 7, generator=generator(0))
    entries = torch.rand(3, 3, generator=generator(1))
    usual = torch.nn.functional.conv2d(pictures, entries.expand(3, 1, 3, 3), padding=1, groups=3)
    assert torch.allclose(filtered(pictures, entries), usual, atol=1e-6)


@pytest.mark.parametrize("blur", [0.0, 0.1, 0.3, 1.0])
def test_the_budget_is_one_filter_a_class_as_stored_with_8_bits(pictures: Batch, blur: float) -> None:
    poison = Cuda(blur=blur)
    stored, _ = move_and_round(poison, pictures, Context(seed=3))
    moved = to_float(stored).double()
    assert torch.equal(moved.flatten(1).amax(1), torch.ones(len(pictures), dtype=torch.float64))
    for label in range(3):
        rows = pictures.labels == label
        seen = shifted_nine_ways(pictures.pictures[rows]).double()
        filters = []
        for own, found in zip(seen, moved[rows], strict=True):
            # The filter, up to the picture's scale, from nothing but the two pictures.
            entries = torch.linalg.lstsq(own.reshape(-1, 9), found.reshape(-1, 1), driver="gelsd").solution.flatten()
            filters.append(entries / entries.max())
            scaled = own @ entries
            assert (scaled - found).abs().max() < 1.5 / 255, "something else than a filter was applied"
        together = torch.stack(filters)
        mean = together.mean(0)
        assert (together - mean).abs().max() < 0.05, "pictures of one class got different filters"
        assert float(mean.max()) == pytest.approx(1, abs=0.02)
        if blur < 1:
            assert mean.topk(2).values[1] <= blur + 0.02
        assert mean.min() >= -0.02


def test_filters_have_one_entry_of_1_and_others_below_the_blur() -> None:
    classes = tuple(f"class {i}" for i in range(200))
    filters = Cuda(blur=0.3).filters(classes, 0).flatten(1)
    ones = filters == 1
    assert ones.sum(1).tolist() == [1] * 200
    assert filters[~ones].min() >= 0
    assert 0.29 < float(filters[~ones].max()) <= 0.3
    assert float(filters[~ones].mean()) == pytest.approx(0.15, abs=0.01)
    assert set(ones.float().argmax(1).tolist()) == set(range(9))


def test_without_blur_it_shifts_by_one_pixel_and_stretches(pictures: Batch) -> None:
    moved = Cuda(blur=0.0)(pictures, context=Context(seed=0)).pictures
    filters = Cuda(blur=0.0).filters(pictures.classes, 0)
    for i, label in enumerate(pictures.labels.tolist()):
        row, column = divmod(int(filters[label].argmax()), 3)
        shift = torch.nn.functional.pad(pictures.pictures[i], (1, 1, 1, 1))[:, row : row + 16, column : column + 16]
        assert torch.allclose(moved[i], shift / shift.max(), atol=1e-6)


def test_black_pictures_stay_black(pictures: Batch) -> None:
    black = pictures.with_pictures(torch.zeros_like(pictures.pictures))
    assert not Cuda()(black, context=Context(seed=0)).pictures.any()


def test_test_pictures_get_the_filters_of_their_classes(pictures: Batch) -> None:
    test = Batch(
        pictures=pictures.pictures.flip(3),
        labels=pictures.labels,
        ids=tuple(f"test-{i}" for i in range(24)),
        classes=pictures.classes,
    )
    moved = Cuda()(test, context=Context(seed=5)).pictures
    entries = Cuda().filters(pictures.classes, 5)[test.labels].double().flatten(1)
    expected = torch.einsum("nchwk,nk->nchw", shifted_nine_ways(test.pictures).double(), entries)
    expected /= expected.flatten(1).amax(1)[:, None, None, None]
    assert torch.allclose(moved.double(), expected, atol=1e-6)


@pytest.mark.parametrize("blur", [-0.1, 1.1, float("nan")])
def test_a_blur_that_makes_no_sense_is_refused(blur: float) -> None:
    with pytest.raises(ConfigError, match="from 0 to 1, such as"):
        Cuda(blur=blur)
