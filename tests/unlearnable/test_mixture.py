"""Mixtures of two noise sets, or of one and random noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from countermove.errors import ConfigError
from countermove.learning.checkpoint import Checkpoint
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context, Surrogate
from countermove.unlearnable.poisons.mixture import Mixture

EM = "error-minimizing(batch_size=8, batches=2, rounds=2, share=1.0, surrogate=small-cnn(width=0.1), form=class)"


def made(poison: str = EM, **settings: str | float) -> Mixture:
    more = "".join(f", {key}={value}" for key, value in settings.items())
    return METHODS.compose("move", f'mixture(poison="{poison}"{more})').method


@pytest.fixture
def soft(pictures: Batch) -> Batch:
    """The made-up pictures away from the ends of the range, where no noise is cut."""
    return pictures.with_pictures(pictures.pictures * 0.5 + 0.25)


@pytest.fixture
def others(soft: Batch) -> Batch:
    """Pictures of the same classes, in the same order of labels, that no poison was made for."""
    ids = tuple(f"new-{i}" for i in range(24))
    return Batch(pictures=soft.pictures.flip(3), labels=soft.labels, ids=ids, classes=soft.classes)


def sets(batch: Batch, noise: Tensor) -> list[list[int]]:
    """Return, for each class, the groups that its pictures fall into by their noise."""
    groups = []
    for label in range(3):
        own = (noise[batch.labels == label] * 2550).round().flatten(1)
        groups.append(own.unique(dim=0, return_inverse=True)[1].tolist())
    return groups


def test_every_picture_gets_one_of_two_sets_by_the_coin_of_its_id(soft: Batch) -> None:
    noise = made()(soft, context=Context(seed=0)).pictures - soft.pictures
    alone = METHODS.compose("move", EM).method(soft, context=Context(seed=0)).pictures - soft.pictures
    first = (noise - alone).flatten(1).abs().amax(1) < 1e-6
    assert 6 <= int(first.sum()) <= 18
    for groups in sets(soft, noise):
        assert set(groups) == {0, 1}
    second = noise[~first]
    assert float((second - alone[~first]).abs().max()) > 1 / 255
    mixed = made("random(form=sample)")
    few = mixed(soft.select([5, 3, 9]), context=Context(seed=0))
    assert torch.equal(few.pictures, mixed(soft, context=Context(seed=0)).select([5, 3, 9]).pictures)


def test_random_noise_is_added_inside_the_radius(soft: Batch) -> None:
    alone = METHODS.compose("move", EM).method(soft, context=Context(seed=0)).pictures - soft.pictures
    noise = made(partner="random")(soft, context=Context(seed=0)).pictures - soft.pictures
    assert float(noise.abs().max()) <= 8 / 255 + 1e-6
    inside = noise.abs() < 7.99 / 255
    added = ((noise - alone)[inside]) * 255
    assert float(added.abs().max()) == pytest.approx(8, abs=0.1)
    assert float((noise * alone).sum()) > 0
    assert not torch.allclose(noise[0], noise[3], atol=1e-3)  # of one class


def test_the_radius_is_the_mixtures(soft: Batch) -> None:
    noise = made("random(form=class)", eps="16/255")(soft, context=Context(seed=0)).pictures - soft.pictures
    assert float(noise.abs().max()) * 255 == pytest.approx(16, abs=0.1)


@pytest.mark.parametrize(
    ("poison", "match"),
    [
        ("linear-separable", "has no L-infinity radius"),
        ("none", "has no L-infinity radius"),
        ("random(eps=4/255)", "eps is a setting of the mixture"),
        ("random+regions", "joins several methods"),
        ("randon", "did you mean"),
        ("error-minimizing(lr=0)", "lr = 0"),
    ],
)
def test_poisons_that_cannot_be_mixed_are_refused_at_once(poison: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        made(poison)


def test_it_asks_for_the_surrogates_of_its_poison(soft: Batch) -> None:
    mixture = made("error-maximizing(surrogate_epochs=3, form=class, steps=1)")
    (asked,) = mixture.surrogates()
    assert asked.recipe.epochs == 3
    assert made().surrogates() == ()
    network = METHODS.compose("model", "small-cnn(width=0.1)").method(3, 16, generator(0))
    seen: list[Surrogate] = []
    mixture(soft, context=Context(seed=0, networks=lambda wanted: [seen.append(wanted) or network]))
    assert seen == [asked, asked]


@pytest.mark.parametrize("partner", ["set", "random"])
def test_new_pictures_get_the_noise_of_the_same_sets(partner: str, soft: Batch, others: Batch) -> None:
    mixture, context = made(partner=partner), Context(seed=3)
    moved = mixture(soft, context=context)
    new = mixture.on_test(others, clean=soft, moved=moved, context=context)
    again = mixture.on_test(others, clean=soft, moved=moved, context=Context(seed=3))
    assert new is not None
    assert again is not None
    assert torch.equal(new.pictures, again.pictures)
    noise, found = moved.pictures - soft.pictures, new.pictures - others.pictures
    if partner == "set":
        for label in range(3):
            own = noise[soft.labels == label]
            for one in found[others.labels == label]:
                assert float((own - one).flatten(1).abs().amax(1).min()) < 1e-6
    else:
        assert 0 < float(found.abs().max()) <= 8 / 255 + 1e-6
        assert not torch.allclose(noise, found, atol=1e-3)


def test_checkpoints_of_the_two_sets_are_kept_apart(
    soft: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made()(soft, context=Context(seed=0))
    monkeypatch.setattr(
        Context, "checkpoint", lambda self, name: self.folder and Checkpoint(self.folder / name, every=0)
    )
    made()(soft, context=Context(seed=0, folder=tmp_path))
    context = Context(seed=0, folder=tmp_path)
    taken_up = made()(soft, context=context)
    assert torch.equal(taken_up.pictures, whole.pictures)
    assert [facts["rounds"] for facts in context.meter.facts["sets"]] == [2, 2]
