"""Two poisons at once: their spelling, their budget, what enters the key, and that parts do not disturb each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.unlearnable.audits import cell

from countermove.errors import ConfigError
from countermove.game.spelling import parse
from countermove.learning.checkpoint import Checkpoint
from countermove.nets.small import SmallCnn
from countermove.pixels.balls import Ball
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context, on_new_pictures, surrogates_of
from countermove.unlearnable.poisons.linear_separable import LinearSeparable

NET = "surrogate='small-cnn(width=0.1)'"
EM = f"error-minimizing(batch_size=8, batches=2, rounds=2, steps=2, {NET})"
LSP = "linear-separable(eps=0.5, patch_size=4)"


def made(first: str, second: str, how: str = "sum") -> Any:
    part = METHODS.compose("move", "combined(first=random, second=regions)").method
    return type(part)(first=first, second=second, how=how)


@pytest.fixture
def middle(pictures: Batch) -> Batch:
    """The made-up labels and ids on a gray that 8 bits can hold, where no noise is clamped."""
    return pictures.with_pictures(torch.full_like(pictures.pictures, 128 / 255))


@pytest.mark.parametrize(
    ("spelled", "canonical"),
    [
        (
            "combined(first='linear-separable(eps=1.0)', second=random)",
            'combined(first="linear-separable(eps=1.0)", second="random")',
        ),
        (
            f'combined(first="error-minimizing({NET}, rounds=10)", second=random)',
            'combined(first=\'error-minimizing(rounds=10, surrogate="small-cnn(width=0.1)")\', second="random")',
        ),
        (
            "combined(first=random(eps=4/255), how=mean, second=regions(regions=9))",
            'combined(first="random(eps=4/255)", how=mean, second="regions(regions=9)")',
        ),
        (
            """combined(first='combined(first="regions(regions=9)", second=regions)', second=random)""",
            """combined(first='combined(first="regions(regions=9)", second=regions)', second="random")""",
        ),
    ],
)
def test_parts_are_spelled_in_quotes_and_read_back(spelled: str, canonical: str) -> None:
    composition = METHODS.compose("move", spelled)
    again = METHODS.compose("move", composition.spelling)
    assert again == composition
    assert parse(composition.spelling) == parse(canonical.replace('"random"', "random"))
    assert again.spelling == composition.spelling


def test_it_does_not_matter_how_a_part_is_spelled() -> None:
    spelled = ["combined(first='linear-separable( patch_size=8,eps=1 )', second=random)"]
    spelled += ["combined(first='linear-separable(eps=1.0)', second='random(form=sample)')"]
    first, second = (METHODS.compose("move", text) for text in spelled)
    assert first.identity() == second.identity()


@pytest.mark.parametrize("how", ["sum", "mean"])
@pytest.mark.parametrize(("first", "second"), [("random", "regions"), (EM, "random"), ("random", LSP), (LSP, EM)])
def test_the_change_is_the_sum_or_mean_of_the_parts_changes(how: str, first: str, second: str, middle: Batch) -> None:
    whole = made(first, second, how)(middle, context=Context(seed=3)).pictures - middle.pictures
    parts = [
        METHODS.compose("move", spelled).method(middle, context=Context(seed=3)).pictures - middle.pictures
        for spelled in (first, second)
    ]
    total = (parts[0] + parts[1]) / (1 if how == "sum" else 2)
    assert float((whole - total).abs().max()) <= 0.5 / 255 + 1e-6  # it is rounded to 8 bits
    assert float((whole - total).abs().mean()) < 0.3 / 255


@pytest.mark.parametrize(
    ("first", "second", "how", "ball"),
    [
        ("random", "regions", "sum", Ball(norm="linf", radius=16 / 255)),
        ("random", "regions(eps=4/255)", "mean", Ball(norm="linf", radius=6 / 255)),
        ("random(eps=0.8)", "regions(eps=0.9)", "sum", Ball(norm="linf", radius=1.0)),
        (LSP, "linear-separable(eps=1.5)", "sum", Ball(norm="l2", radius=2.0)),
        (LSP, "linear-separable(eps=1.5)", "mean", Ball(norm="l2", radius=1.0)),
        ("random", LSP, "sum", None),
    ],
)
def test_radii_of_one_norm_are_added_or_averaged(first: str, second: str, how: str, ball: Ball | None) -> None:
    assert made(first, second, how).promise() == ball


def test_changed_pixels_are_counted_together_also_in_the_mean(middle: Batch, tmp_path: Path) -> None:
    parts = []
    for column in (2, 9):
        noise = np.zeros((24, 3, 16, 16), np.float32)
        noise[:, :, column, column] = 40 / 255
        path = tmp_path / f"{column}.npz"
        np.savez(path, noise=noise)
        parts.append(f"precomputed(path={path}, eps=1, radius_norm=l0)")
    for how in ("sum", "mean"):
        poison = made(parts[0], parts[1], how)
        assert poison.promise() == Ball(norm="l0", radius=2)
        changed = poison(middle, context=Context(seed=0)).pictures != middle.pictures
        assert changed.any(1).flatten(1).sum(1).tolist() == [2] * 24


def test_what_a_part_is_enters_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "noise.npy"
    np.save(path, np.zeros((24, 3, 16, 16), np.float32))
    spelled = f"combined(first='precomputed(path={path}, holds=noise)', second=linear-separable)"
    keys = [cell(spelled).key, cell(spelled, rehash=True).key]
    assert keys[0] == keys[1]
    monkeypatch.setattr(LinearSeparable, "version", LinearSeparable.version + 1)
    keys.append(cell(spelled).key)
    np.save(path, np.ones((24, 3, 16, 16), np.float32) / 255)
    keys.append(cell(spelled, rehash=True).key)
    assert len(set(keys)) == 3


def test_networks_of_both_parts_are_asked_for_once() -> None:
    maximal = "error-maximizing(surrogate_epochs=1)"
    both = made(maximal, "error-maximizing(surrogate_epochs=1, form=class)")
    assert surrogates_of(both) == surrogates_of(METHODS.compose("move", maximal).method)
    other = made(maximal, "error-maximizing(surrogate_epochs=2)")
    assert [asked.recipe.epochs for asked in surrogates_of(other)] == [1, 2]
    assert surrogates_of(made("random", "regions")) == ()


def test_parts_keep_apart_what_they_write_and_count(
    pictures: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison, alone = made(EM, EM.replace("rounds=2", "rounds=3")), Context(seed=0)
    expected = poison(pictures, context=alone).pictures
    samples = 0
    for spelled in (poison.first, poison.second):
        part = Context(seed=0)
        METHODS.compose("move", spelled).method(pictures, context=part)
        samples += part.meter.samples
    monkeypatch.setattr(
        Context, "checkpoint", lambda self, name: Checkpoint(self.folder / f"{name}.safetensors", every=0)
    )
    context = Context(seed=0, folder=tmp_path)
    assert torch.equal(poison(pictures, context=context).pictures, expected)
    assert sorted(path.parent.name for path in tmp_path.rglob("*.safetensors")) == ["first", "second"]
    resumed = Context(seed=0, folder=tmp_path)
    assert torch.equal(poison(pictures, context=resumed).pictures, expected)
    for one in (alone, context, resumed):
        assert (one.meter.facts["first"]["rounds"], one.meter.facts["second"]["rounds"]) == (2, 3)
        assert one.meter.samples == samples


def test_both_parts_are_put_on_test_pictures(pictures: Batch) -> None:
    train, test = pictures.select(range(12)), pictures.select(range(12, 24))
    network = SmallCnn(width=0.1)(3, 16, generator(0)).eval()
    maximal = f"error-maximizing(steps=2, {NET}, surrogate_epochs=1)"
    poison = made("random(form=class)", maximal)
    context = Context(seed=0, networks=lambda _: [network])
    moved = poison(train, context=context)
    put = on_new_pictures(poison, test, clean=train, moved=moved, context=context)
    assert put is not None
    parts = [
        METHODS.compose("move", spelled).method(test, context=context).pictures - test.pictures
        for spelled in ("random(form=class)", maximal)
    ]
    assert torch.allclose(put.pictures, (test.pictures + parts[0] + parts[1]).clamp(0, 1), atol=0.5 / 255 + 1e-6)
    fresh = Context(seed=0, networks=lambda _: [network])
    again = on_new_pictures(poison, test, clean=train, moved=moved, context=fresh)
    assert again is not None
    assert torch.equal(again.pictures, put.pictures)


def test_where_one_part_is_not_defined_on_new_pictures_neither_is_the_whole(
    pictures: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison, context = made("random", "regions"), Context(seed=0)
    monkeypatch.setattr("countermove.unlearnable.poisons.regions.Regions.on_new", False, raising=False)
    moved = poison(pictures, context=context)
    assert on_new_pictures(poison, pictures, clean=pictures, moved=moved, context=context) is None


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("random", "random(form=sample)", "first and second are both 'random'"),
        ("none", "random", "'none' is refused as a part"),
        ("random", "random+regions", "refused as a part"),
        ("randon", "regions", "did you mean 'random'"),
        ("random(eps=8)", "regions", "write 8/255"),
    ],
)
def test_parts_that_cannot_be_combined_are_refused(first: str, second: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(first, second)
