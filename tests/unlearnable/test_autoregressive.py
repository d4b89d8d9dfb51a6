"""Autoregressive noise against a slow loop, and the conditions that its filters keep."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context
from countermove.unlearnable.poisons import autoregressive
from countermove.unlearnable.poisons.autoregressive import (
    MARGIN,
    NORM_BOUND,
    Autoregressive,
    answers,
    does_not_grow,
    draw_filters,
    multiply,
    propose,
    start_entries,
    transfer,
    unroll,
    usable,
)

EASY = Autoregressive(eps=0.5, response=3)


def slow_loop(filters: Tensor, starts: Tensor, height: int, width: int) -> Tensor:
    """Compute every value by itself, from filters [C, 3, 3] and the start [C, B] of one picture."""
    rows, columns = height + MARGIN, width + MARGIN
    field = np.zeros((len(filters), rows, columns))
    for channel, (weights, start) in enumerate(zip(filters.numpy(), starts.tolist(), strict=True)):
        upper, left = start[: 2 * columns], start[2 * columns :]
        for i in range(rows):
            for j in range(columns):
                if i < 2:
                    field[channel, i, j] = upper[i * columns + j]
                elif j < 2:
                    field[channel, i, j] = left[(i - 2) * 2 + j]
                else:
                    window = field[channel, i - 2 : i + 1, j - 2 : j + 1].copy()
                    window[2, 2] = 0
                    field[channel, i, j] = float((window * weights).sum())
    return torch.from_numpy(field[:, MARGIN:, MARGIN:])


def drawn(count: int, *, stable: bool = True) -> Tensor:
    pool, _ = usable(propose(100, generator(1)), generator(2), stable=stable)
    return pool[:count]


def starts_for(count: int, height: int, width: int) -> Tensor:
    return torch.randn(count, 3, start_entries(height, width), generator=generator(3), dtype=torch.float64)


def gray_pictures(count: int, side: int, classes: int = 3) -> Batch:
    return Batch(
        pictures=torch.full((count, 3, side, side), 0.5),
        labels=torch.arange(count) % classes,
        ids=tuple(f"gray-{i}" for i in range(count)),
        classes=tuple("abcdefgh"[:classes]),
    )


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 14), (1, 3)])
def test_the_matrix_and_the_unrolled_recursion_are_the_slow_loop(height: int, width: int) -> None:
    filters, starts = drawn(3), starts_for(4, height, width)
    slow = torch.stack([slow_loop(filters, start, height, width) for start in starts])
    assert slow.abs().max() > 0.1
    matrix = transfer(filters, height, width)
    assert matrix.shape == (3, start_entries(height, width), height * width)
    assert torch.allclose(multiply(matrix, starts, (height, width)), slow, rtol=0, atol=1e-10)
    assert torch.allclose(unroll(filters[None], starts, height, width), slow, rtol=0, atol=1e-10)


def test_every_picture_can_have_its_own_filters() -> None:
    filters, starts = drawn(12).view(4, 3, 3, 3), starts_for(4, 8, 8)
    slow = torch.stack([slow_loop(own, start, 8, 8) for own, start in zip(filters, starts, strict=True)])
    assert torch.allclose(unroll(filters, starts, 8, 8), slow, rtol=0, atol=1e-10)


def test_noise_has_the_radius_and_is_made_by_its_classs_filters() -> None:
    batch = gray_pictures(9, 12)
    noise = (EASY(batch, context=Context(seed=4)).pictures - 0.5).double()
    assert torch.allclose(noise.flatten(1).norm(dim=1), torch.tensor(0.5, dtype=torch.float64), atol=1e-5)
    own = torch.nn.functional.one_hot(batch.labels).bool()
    answered = answers(EASY.filters(3, 4), noise)
    assert answered[own].max() < 1e-3
    assert answered[~own].min() > 0.1
    assert len({tuple(row.flatten().tolist()) for row in noise}) == len(batch)


def test_many_pictures_of_a_class_get_the_same_noise_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.tensor([0, 0, 1, 0, 2, 0, 0] * 12)
    batch = dataclasses.replace(gray_pictures(84, 4), labels=labels)
    assert torch.bincount(labels).ge(start_entries(4, 4)).tolist() == [True, False, False]
    products = []
    monkeypatch.setattr(autoregressive, "multiply", lambda *given: products.append(len(given[1])) or multiply(*given))
    whole = EASY(batch, context=Context(seed=0)).pictures
    assert products == [60]
    monkeypatch.setattr(autoregressive, "_ENTRIES_AT_ONCE", 1000)
    portions = [EASY(batch.select(range(i, i + 12)), context=Context(seed=0)).pictures for i in range(0, 84, 12)]
    assert len(products) == 1
    only = batch.select((labels == 0).nonzero().flatten())
    assert torch.equal(EASY(only, context=Context(seed=0)).pictures, whole[labels == 0])
    assert torch.allclose(torch.cat(portions), whole, rtol=0, atol=1e-6)


def test_filters_keep_the_conditions_of_their_draw() -> None:
    filters = draw_filters(0, 4, 5.0, False, 50_000)
    assert filters.shape == (4, 3, 3, 3)
    assert torch.equal(filters[..., 2, 2], torch.zeros(4, 3, dtype=torch.float64))
    assert torch.allclose(filters.sum((2, 3)), torch.ones(4, 3, dtype=torch.float64))
    assert len({tuple(channel.flatten().tolist()) for channel in filters.flatten(0, 1)}) == 12
    noise = unroll(filters, starts_for(4, 32, 32), 32, 32)  # from other starts than the draw's
    assert noise.flatten(1).norm(dim=1).max() < 2 * NORM_BOUND
    answered = answers(filters, noise / noise.flatten(1).norm(dim=1)[:, None, None, None])
    assert answered.diag().max() < 1e-9
    assert answered.tril(-1)[answered.tril(-1) > 0].min() > 0.5 * 5.0


def test_the_filters_of_the_first_classes_stay_when_classes_are_added() -> None:
    assert torch.equal(draw_filters(0, 5, 3.0, False, 10_000)[:3], draw_filters(0, 3, 3.0, False, 10_000))
    assert not torch.equal(draw_filters(0, 3, 3.0, False, 10_000), draw_filters(1, 3, 3.0, False, 10_000))


def test_the_required_response_is_the_smallest_positive_part_of_a_convolution() -> None:
    filters, noise = drawn(6).view(2, 3, 3, 3), torch.randn(2, 3, 7, 6, generator=generator(5), dtype=torch.float64)
    answered = answers(filters, noise)
    for n in range(2):
        for k in range(2):
            matching = filters[k].clone()
            matching[:, 2, 2] = -1
            windows = [noise[n, :, i : i + 3, j : j + 3] for i in range(5) for j in range(4)]
            slow = sum(max(0.0, float((window * matching).sum())) for window in windows)
            assert float(answered[n, k]) == pytest.approx(slow, rel=1e-12)


def test_filters_that_are_not_finite_or_diverge_are_refused() -> None:
    good = torch.full((3, 3), 1 / 8, dtype=torch.float64)
    good[2, 2] = 0
    filters = good.repeat(5, 1, 1)
    filters[0, 1, 1] = torch.nan
    filters[1, 0, 0] = torch.inf
    filters[2] *= 4  # sum 4: every row is larger than the one above
    filters[4, 0, 2] = -torch.inf
    kept, noise = usable(filters, generator(0), stable=False)
    assert torch.equal(kept, good[None])
    assert noise.isfinite().all()


def test_stable_filters_do_not_grow_with_the_picture() -> None:
    def one(**entries: float) -> Tensor:
        filters = torch.zeros(1, 3, 3, dtype=torch.float64)
        for place, value in entries.items():
            filters[0, int(place[1]), int(place[2])] = value
        return filters

    assert does_not_grow(one(_12=1.5, _02=-0.5)).item()  # down a column: roots 1 and 0.5
    assert not does_not_grow(one(_12=2.2, _02=-1.2)).item()  # 1 and 1.2
    assert not does_not_grow(one(_21=2.2, _20=-1.2)).item()  # the same along a row
    assert not does_not_grow(one(_12=-1.1, _11=2.1)).item()  # every even row is kept, the finest wave grows

    pool, _ = usable(propose(200, generator(1)), generator(2), stable=False)
    noise = unroll(pool[:, None], starts_for(len(pool), 150, 150)[:, :1], 150, 150)
    longest = noise[:, 0, -8:].flatten(1).norm(dim=1) / noise[:, 0, :24].flatten(1).norm(dim=1)
    stable = does_not_grow(pool)
    assert 0 < stable.sum() < len(pool)
    assert longest[stable].max() < 2
    assert longest[~stable].median() > 10


def test_too_few_draws_end_with_advice() -> None:
    with pytest.raises(DataError, match=r"gave only 0 of the 3 classes.*lower response, such as 3, or more draws"):
        METHODS.compose("move", "autoregressive(draws=2)").method(gray_pictures(3, 8), context=Context(seed=0))
    with pytest.raises(DataError, match="of the 8 classes one that the others' filters answer to with 90"):
        Autoregressive(response=90, draws=1000)(gray_pictures(8, 8, 8), context=Context(seed=0))
    with pytest.raises(ConfigError, match="at least one filter"):
        Autoregressive(draws=0)


def test_noise_that_diverges_on_large_pictures_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    growing = torch.zeros(3, 3, 3, 3, dtype=torch.float64)
    growing[:, :, 1, 2], growing[:, :, 0, 2] = 2.2, -1.2
    monkeypatch.setattr(autoregressive, "draw_filters", lambda *_: growing)
    assert EASY(gray_pictures(3, 8), context=Context(seed=0)).pictures.isfinite().all()
    with pytest.raises(DataError, match="diverge on pictures of 96 x 96; set stable=true"):
        EASY(gray_pictures(3, 96), context=Context(seed=0))
