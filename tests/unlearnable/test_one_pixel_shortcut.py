"""One-pixel shortcut: scores from moments against scoring every colour at every position over all pictures."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context
from countermove.unlearnable.poisons.one_pixel_shortcut import (
    COLOURS,
    OnePixelShortcut,
    Pixel,
    Score,
    find_pixels,
    moments,
    scores,
)


def slow_scores(pictures: Tensor, score: Score) -> np.ndarray:
    """Score each of 8 colours at each position by itself, [8, P]."""
    images = pictures.double().numpy()
    _, _, height, width = images.shape
    found = np.zeros((8, height * width))
    for k, colour in enumerate(itertools.product((0, 1), repeat=3)):
        for position, (i, j) in enumerate(itertools.product(range(height), range(width))):
            deviation = np.abs(np.array(colour) - images[:, :, i, j])
            if score == "code":
                found[k, position] = deviation.mean() / deviation.std()
            else:
                found[k, position] = deviation.sum(1).mean() / deviation.sum(1).var()
    return found


@pytest.fixture
def varied() -> Batch:
    """40 pictures of 6 x 5 whose channels go together in some places and not in others."""
    base = torch.rand(40, 1, 6, 5, generator=generator(1))
    own = torch.rand(40, 3, 6, 5, generator=generator(2))
    share = torch.rand(1, 1, 6, 5, generator=generator(3))
    pictures = ((base * share + own * (1 - share)) * 255).round() / 255
    ids = tuple(str(i) for i in range(40))
    return Batch(pictures=pictures, labels=torch.arange(40) % 3, ids=ids, classes=("a", "b", "c"))


@pytest.mark.parametrize("score", ["code", "paper"])
def test_moments_give_the_scores_of_all_colours_at_all_positions(varied: Batch, score: Score) -> None:
    slow = torch.from_numpy(slow_scores(varied.pictures, score))
    assert torch.allclose(scores(varied.pictures, score), slow, rtol=1e-10)


def test_moments_are_numpys(varied: Batch) -> None:
    mean, covariance = moments(varied.pictures)
    for position in range(30):
        values = varied.pictures.double().flatten(2)[:, :, position].numpy()
        assert np.allclose(mean[:, position], values.mean(0))
        assert np.allclose(covariance[:, :, position], np.cov(values.T, bias=True))


@pytest.mark.parametrize("score", ["code", "paper"])
@pytest.mark.parametrize("count", [1, 3])
def test_classes_take_the_best_free_pixels_in_turn(varied: Batch, score: Score, count: int) -> None:
    taken: set[tuple[int, int]] = set()
    expected: dict[int, list[Pixel]] = {}
    for label in range(3):
        slow = slow_scores(varied.pictures[varied.labels == label], score)
        places: set[int] = set()
        for index in np.argsort(-slow, axis=None):
            colour, position = divmod(int(index), 30)
            if (colour, position) not in taken and position not in places and len(places) < count:
                taken.add((colour, position))
                places.add(position)
                expected.setdefault(label, []).append(Pixel(position // 5, position % 5, colour))
    assert find_pixels(varied, count, score) == expected


def test_all_pictures_of_a_class_get_its_pixel_and_nothing_else(varied: Batch) -> None:
    context = Context(seed=0)
    moved = OnePixelShortcut()(varied, context=context).pictures
    chosen = find_pixels(varied, 1, "code")
    expected = varied.pictures.clone()
    for i, label in enumerate(varied.labels.tolist()):
        (pixel,) = chosen[label]
        expected[i, :, pixel.row, pixel.column] = COLOURS[pixel.colour]
    assert torch.equal(moved, expected)
    (pixel,) = chosen[1]
    assert context.meter.facts["pixels"]["b"] == [[pixel.row, pixel.column, COLOURS[pixel.colour].tolist()]]


def test_classes_that_look_the_same_get_different_pixels(varied: Batch) -> None:
    twins = Batch(
        pictures=varied.pictures[:10].repeat(3, 1, 1, 1),
        labels=torch.arange(3).repeat_interleave(10),
        ids=tuple(str(i) for i in range(30)),
        classes=varied.classes,
    )
    pixels = [pixel for chosen in find_pixels(twins, 4, "code").values() for pixel in chosen]
    assert len(set(pixels)) == 12
    best = scores(twins.pictures[:10], "code").flatten().argmax()
    assert pixels[0] == Pixel(int(best) % 30 // 5, int(best) % 5, int(best) // 30)


def test_a_pixel_that_never_varies_counts_by_its_distance(varied: Batch) -> None:
    pictures = varied.pictures.clone()
    pictures[:, :, 2, 3] = torch.tensor([0.8, 0.9, 1.0])[:, None].T  # far from black
    pictures[:, :, 4, 4] = 0.5  # as stable, but less far
    pictures[:, :, 0, 0] = 1.0  # white never differs from white
    for score in ("code", "paper"):
        worth = scores(pictures, score)
        assert worth.isfinite().all()
        assert worth[7, 0] == 0
        assert worth[0, 0] == worth.max()
    assert scores(pictures, "paper")[0, 2 * 5 + 3] > scores(pictures, "paper")[0, 4 * 5 + 4]
    assert scores(pictures[:1], "paper").isfinite().all()


def test_classes_without_pictures_take_no_pixel(varied: Batch) -> None:
    more = dataclasses.replace(varied, classes=(*varied.classes, "none of these"))
    assert sorted(find_pixels(more, 1, "code")) == [0, 1, 2]


def test_test_pictures_get_the_pixels_of_the_train_pictures(varied: Batch) -> None:
    poison, context = OnePixelShortcut(eps=2), Context(seed=0)
    moved = poison(varied, context=context)
    test = Batch(
        pictures=1 - varied.pictures[:9],
        labels=torch.tensor([0, 1, 2, 3, 0, 0, 1, 3, 2]),
        ids=tuple(f"test-{i}" for i in range(9)),
        classes=(*varied.classes, "not poisoned"),
    )
    painted = poison.on_test(test, clean=varied, moved=moved, context=context)
    changed = (painted.pictures != test.pictures).any(1)
    for i, label in enumerate(test.labels.tolist()):
        chosen = find_pixels(varied, 2, "code").get(label, [])
        assert {(p.row, p.column) for p in chosen} >= {(int(r), int(c)) for r, c in changed[i].nonzero()}
        for pixel in chosen:
            assert torch.equal(painted.pictures[i, :, pixel.row, pixel.column], COLOURS[pixel.colour])
    small = test.with_pictures(test.pictures[..., :4])
    with pytest.raises(DataError, match="test pictures of 6 x 4 have no positions of train pictures of 6 x 5"):
        poison.on_test(small, clean=varied, moved=moved, context=context)


def test_what_makes_no_sense_is_refused(varied: Batch) -> None:
    with pytest.raises(DataError, match="31 pixels for each of 3 classes are more than pictures of 6 x 5"):
        OnePixelShortcut(eps=31)(varied, context=Context(seed=0))
    tiny = varied.with_pictures(varied.pictures[..., :1, :1])
    everyone = dataclasses.replace(tiny, labels=torch.arange(40) % 9, classes=tuple("abcdefghi"))
    with pytest.raises(DataError, match="1 pixels for each of 9 classes"):
        OnePixelShortcut()(everyone, context=Context(seed=0))
    with pytest.raises(ConfigError, match="score"):
        METHODS.compose("move", "one-pixel-shortcut(score=pencil)")
    with pytest.raises(ConfigError, match="eps"):
        METHODS.compose("move", "one-pixel-shortcut(eps=1.5)")
