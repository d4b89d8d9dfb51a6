"""Crop, flip and label mixing against slow loops over single pictures."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from countermove.learning.augment import BatchStep, CutMixStep, CutoutStep, MixUpStep, Window, padded
from countermove.pixels.randomness import generator

STEPS: dict[str, BatchStep] = {
    "cutout": CutoutStep(length=5),
    "cutmix": CutMixStep(alpha=1.0, probability=0.7),
    "mixup": MixUpStep(alpha=0.4, probability=0.7),
}


def made_up(n: int, height: int, width: int) -> Tensor:
    """Return pictures whose every value is another one, so that each says where it came from."""
    return (torch.randperm(n * 3 * height * width, generator=generator(n, "values")) + 1.0).view(
        n, 3, height, width
    ) / (2 * n * 3 * height * width)


def slow_pad(pictures: np.ndarray, crop: int) -> np.ndarray:
    return np.pad(pictures, ((0, 0), (0, 0), (crop, crop), (crop, crop)))


def slow_look(pictures: Tensor, window: Window, crop: int) -> Tensor:
    """Crop and mirror one picture after the other, by slices; read the offsets off the window."""
    height, width = pictures.shape[2:]
    seen = []
    whole = torch.nn.functional.pad(pictures, (crop,) * 4) if crop else pictures
    for i in range(len(window.rows)):
        top, left = int(window.rows[i].min()), int(window.columns[i].min())
        cut = whole[i, :, top : top + height, left : left + width]
        seen.append(cut.flip(-1) if window.columns[i, 0] > window.columns[i, -1] else cut)
    return torch.stack(seen)


@given(
    n=st.integers(1, 5),
    height=st.integers(5, 9),
    width=st.integers(5, 9),
    crop=st.integers(0, 4),
    flip=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_windows_are_crops_and_flips_of_single_pictures(
    n: int, height: int, width: int, crop: int, flip: bool, seed: int
) -> None:
    pictures = made_up(n, height, width)
    window = Window.draw(n, height, width, crop=crop, flip=flip, generator=generator(seed))
    seen = window.look(padded(pictures, crop))
    assert torch.equal(seen, slow_look(pictures, window, crop))
    assert seen.is_contiguous(memory_format=torch.channels_last)
    for line, most in ((window.rows, height), (window.columns, width)):
        assert line.shape == (n, most)
        assert int(line.min()) >= 0
        assert int(line.max()) < most + 2 * crop
    assert (window.rows.diff(dim=1) == 1).all()
    assert (window.columns.diff(dim=1).abs() == 1).all()
    if not flip:
        assert (window.columns.diff(dim=1) == 1).all()


def test_all_offsets_and_both_directions_are_drawn_evenly() -> None:
    window = Window.draw(6000, 8, 8, crop=2, flip=True, generator=generator(0))
    mirrored = window.columns[:, 0] > window.columns[:, -1]
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.03)
    for offset in (window.rows.amin(1), window.columns.amin(1)):
        shares = torch.bincount(offset, minlength=5) / 6000
        assert shares.tolist() == pytest.approx([0.2] * 5, abs=0.03)


def test_a_window_chooses_rows_of_a_larger_set() -> None:
    pictures, index = made_up(9, 6, 6), torch.tensor([7, 2, 2, 0])
    window = Window.draw(4, 6, 6, crop=3, flip=True, generator=generator(1))
    laid_out = padded(pictures, 3)
    assert torch.equal(window.look(laid_out, index), window.look(laid_out[index]))


@pytest.mark.parametrize("crop", [0, 1, 4])
def test_padding_is_black_for_floats_and_bytes_alike(crop: int) -> None:
    levels = torch.randint(0, 256, (3, 3, 6, 7), generator=generator(3), dtype=torch.uint8)
    expected = slow_pad(levels.numpy(), crop).transpose(0, 2, 3, 1)
    as_bytes = padded(levels, crop)
    assert as_bytes.dtype == torch.uint8
    np.testing.assert_array_equal(as_bytes.numpy(), expected)
    np.testing.assert_array_equal(padded(levels.float(), crop).numpy(), expected)


def test_the_gradient_is_that_of_the_slow_version() -> None:
    window = Window.draw(4, 7, 6, crop=3, flip=True, generator=generator(5))
    weights = torch.rand(4, 3, 7, 6, generator=generator(6), dtype=torch.float64)
    gradients = []
    for look in (lambda x: window.look(padded(x, 3)), lambda x: slow_look(x, window, 3)):
        leaf = made_up(4, 7, 6).double().requires_grad_()
        (gradient,) = torch.autograd.grad((look(leaf).square() * weights).sum(), leaf)
        gradients.append(gradient)
    assert torch.allclose(*gradients, rtol=1e-12, atol=0)
    # A pixel cropped away and never reflected has none; if all had one, nothing would have been cropped.
    assert (gradients[0] == 0).any()


def one_hot(n: int, classes: int) -> Tensor:
    """Return targets in which every picture of a batch has a class of its own, where there are enough."""
    return torch.nn.functional.one_hot(torch.arange(n) % classes, classes).float()


def owners(mixed: Tensor, pictures: Tensor) -> Tensor:
    """Return which picture of the batch each pixel comes from, [N, H, W]; -1 where it comes from none."""
    same = (mixed[:, None] == pictures[None]).all(2)  # [N, N, H, W]
    assert (same.sum(1) <= 1).all()
    return torch.where(same.any(1), same.int().argmax(1), -1)


@pytest.mark.parametrize("seed", range(6))
def test_cutmix_labels_are_the_shares_of_the_pixels_really_mixed(seed: int) -> None:
    n, side = 8, 11
    pictures = made_up(n, side, side)
    mixed, targets = STEPS["cutmix"](pictures, one_hot(n, n), generator=generator(seed))
    owner = owners(mixed, pictures)
    assert (owner >= 0).all()
    for i in range(n):
        shares = torch.bincount(owner[i].flatten(), minlength=n) / side**2
        assert targets[i].tolist() == pytest.approx(shares.tolist(), abs=1e-6)
        foreign = owner[i] != i
        rows, columns = foreign.any(1).nonzero().flatten(), foreign.any(0).nonzero().flatten()
        if len(rows):  # what is foreign fills a rectangle
            assert foreign[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    if seed == 0:
        assert (owner != torch.arange(n)[:, None, None]).any()


@pytest.mark.parametrize("seed", range(6))
def test_mixup_labels_are_the_weights_of_the_pictures(seed: int) -> None:
    n = 8
    pictures = made_up(n, 5, 5).double()
    mixed, targets = STEPS["mixup"](pictures.float(), one_hot(n, n), generator=generator(seed))
    # Each mixed picture is a sum of the batch's pictures; the weights that solve for it must be its label.
    weights = torch.linalg.lstsq(pictures.flatten(1).T, mixed.double().flatten(1).T).solution.T
    assert torch.allclose(weights, targets.double(), atol=1e-4)
    assert torch.allclose(targets.sum(1), torch.ones(n))
    assert ((targets > 0).sum(1) <= 2).all()


def test_mixing_weights_follow_the_beta_distribution() -> None:
    n = 4000
    labels = one_hot(n, 2)
    for alpha in (0.2, 1.0):
        step = MixUpStep(alpha=alpha, probability=1.0)
        _, targets = step(torch.zeros(n, 3, 1, 1), torch.arange(n)[:, None].float(), generator=generator(0))
        assert targets.shape == (n, 1)
        _, mixed = step(torch.zeros(n, 3, 1, 1), labels, generator=generator(0))
        other = mixed[mixed.amin(1) > 0].amin(1)  # the smaller weight, where the partner has another label
        untouched = (mixed.amin(1) == 0).float().mean().item()
        assert untouched == pytest.approx(0.5, abs=0.05)
        # min(w, 1 - w) has mean 1/4 for the uniform Beta(1, 1) and is far smaller for Beta(0.2, 0.2).
        expected = np.minimum(b := np.random.default_rng(1).beta(alpha, alpha, 20_000), 1 - b).mean()
        assert float(other.mean()) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("length", [1, 4, 5, 16, 40])
def test_cutout_blanks_one_clipped_square(length: int) -> None:
    n, side = 200, 12
    pictures = made_up(n, side, side) * 0.9  # never 0.5
    targets = one_hot(n, 10)
    cut, same = CutoutStep(length=length)(pictures, targets, generator=generator(length))
    assert torch.equal(same, targets)
    hole = (cut != pictures).any(1)
    assert (cut[:, 0][hole] == 0.5).all()
    sizes = []
    for mask in hole:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        height, width = len(rows), len(columns)
        sizes.append((height, width))
        for lowest, highest, extent in ((rows[0], rows[-1], height), (columns[0], columns[-1], width)):
            at_border = lowest == 0 or highest == side - 1
            assert extent == length or (at_border and length // 2 - 1 <= extent <= length) or extent == side
    assert max(sizes) == (min(length, side), min(length, side))


@pytest.mark.parametrize("step", [CutMixStep(alpha=1.0, probability=0.0), MixUpStep(alpha=1.0, probability=0.0)])
def test_probability_zero_changes_nothing(step: BatchStep) -> None:
    pictures, targets = made_up(7, 8, 8), one_hot(7, 3)
    mixed, labels = step(pictures, targets, generator=generator(0))
    assert torch.equal(mixed, pictures)
    assert torch.equal(labels, targets)


@pytest.mark.parametrize("name", list(STEPS))
def test_steps_draw_from_the_given_generator_alone(name: str) -> None:
    pictures, targets = made_up(16, 8, 8), one_hot(16, 4)
    kept = pictures.clone(), targets.clone()
    before = _global_states()
    runs = [STEPS[name](pictures, targets, generator=generator(seed)) for seed in (0, 0, 1)]
    assert _global_states() == before
    assert torch.equal(pictures, kept[0])
    assert torch.equal(targets, kept[1])
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not torch.equal(runs[0][0], runs[2][0])
    for mixed, labels in runs:
        assert mixed.shape == pictures.shape
        assert mixed.dtype == pictures.dtype
        assert torch.allclose(labels.sum(1), torch.ones(16))


def test_windows_draw_from_the_given_generator_alone() -> None:
    before = _global_states()
    first, second, other = (Window.draw(32, 8, 8, crop=4, flip=True, generator=generator(seed)) for seed in (0, 0, 1))
    assert _global_states() == before
    assert torch.equal(first.rows, second.rows)
    assert torch.equal(first.columns, second.columns)
    assert not torch.equal(first.rows, other.rows)


def _global_states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return torch.get_rng_state().tolist(), name, np.asarray(keys).tolist(), tuple(rest), random.getstate()
