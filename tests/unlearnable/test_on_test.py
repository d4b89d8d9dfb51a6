"""Test pictures that carry a move: which sets are made, what they are labelled as, and that they are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from countermove.pixels.batch import Batch
from countermove.pixels.rounding import to_float
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.on_test import put_on_test, read_test, write_test
from countermove.unlearnable.poison import Context


def halves(pictures: Batch) -> tuple[Batch, Batch]:
    """Return train and test pictures with every class in both."""
    rows = torch.arange(len(pictures))
    order = pictures.labels.argsort(stable=True)
    return pictures.select(order[rows % 2 == 0]), pictures.select(order[rows % 2 == 1])


def put(spelled: str, train: Batch, test: Batch):
    poison, context = METHODS.compose("move", spelled).method, Context(seed=0)
    moved = poison(train, context=context)
    return put_on_test(poison, test, clean=train, moved=moved, context=context)


def test_class_wise_noise_is_put_on_test_pictures_of_its_class_and_of_others(pictures: Batch) -> None:
    train, test = halves(pictures)
    found = put("regions(regions=4)", train, test)
    assert set(found) == {"accuracy_moved_test", "trigger_success"}
    own, aimed = found["accuracy_moved_test"], found["trigger_success"]
    assert torch.equal(own.labels, test.labels)
    assert (aimed.labels != test.labels).all()
    assert int(aimed.labels.max()) < len(test.classes)
    for examples in (own, aimed):
        delta = to_float(examples.pictures) - test.pictures
        assert float(delta.abs().max()) <= 8 / 255 + 1e-6
        assert delta.any()
    # Another class's noise on a picture is what its own pictures carry: gray pictures show it unclipped.
    gray = replace(test, pictures=torch.full_like(test.pictures, 128 / 255))
    found = put("regions(regions=4)", train, gray)
    noise = {int(y): p for y, p in zip(test.labels, found["accuracy_moved_test"].pictures, strict=True)}
    for label, picture in zip(found["trigger_success"].labels, found["trigger_success"].pictures, strict=True):
        assert torch.equal(picture, noise[int(label)])


def test_the_parts_of_a_combined_move_are_put_on_test_pictures_alone(pictures: Batch) -> None:
    train, test = halves(pictures)
    found = put("combined(first='linear-separable(eps=0.5, patch_size=4)', second=random)", train, test)
    assert set(found) == {"accuracy_moved_test", "accuracy_first_test", "accuracy_second_test"}
    first = to_float(found["accuracy_first_test"].pictures) - test.pictures
    alone = put("linear-separable(eps=0.5, patch_size=4)", train, test)["accuracy_moved_test"]
    assert float(first.flatten(1).norm(dim=1).max()) <= 0.5 + 0.1
    assert float((to_float(alone.pictures) - test.pictures - first).abs().max()) <= 1.01 / 255


def test_where_it_is_not_defined_nothing_is_made(pictures: Batch) -> None:
    train, test = halves(pictures)
    some = train.select((train.labels == 0).nonzero().flatten())
    assert set(put("regions(regions=4)", some, test)) == {"accuracy_moved_test"}, "no trigger of classes without noise"


def test_sets_are_stored_and_found_again(pictures: Batch, tmp_path: Path) -> None:
    train, test = halves(pictures)
    made = put("one-pixel-shortcut", train, test)
    write_test(made, tmp_path)
    again = read_test(tmp_path)
    assert set(again) == set(made)
    for name, examples in made.items():
        assert torch.equal(again[name].pictures, examples.pictures)
        assert torch.equal(again[name].labels, examples.labels)
    assert read_test(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("spelled", ["linear-separable(patch_size=4)", "one-pixel-shortcut", "cuda"])
def test_the_same_move_gives_the_same_test_pictures(spelled: str, pictures: Batch) -> None:
    train, test = halves(pictures)
    first, again = (put(spelled, train, test)["accuracy_moved_test"].pictures for _ in range(2))
    assert torch.equal(first, again)
