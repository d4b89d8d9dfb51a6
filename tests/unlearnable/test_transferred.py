"""Noise from another data set: class by class, or with an extra class that is one of that data set's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.unlearnable.audits import TINY, arena, cell, grid_of, played
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from countermove.errors import ConfigError, DataError
from countermove.pixels.batch import Batch
from countermove.pixels.files import write_png
from countermove.pixels.rounding import to_float
from countermove.unlearnable.dataset import DataSet, Pictures
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context, on_new_pictures
from countermove.unlearnable.poisons.random_noise import RandomNoise
from countermove.unlearnable.transfer import carried_noise, read_mapping, resized

NOISE = "random(form=class)"
EM = "error-minimizing(batch_size=8, batches=2, rounds=1, steps=2, surrogate='small-cnn(width=0.1)')"


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A data set of 24 x 24 pixels with classes boat, red and wagon, as spelled; six of each, a third for test."""
    rng = np.random.default_rng(4)
    for split, count in (("train", 4), ("test", 2)):
        for name in ("boat", "red", "wagon"):
            folder = tmp_path / "other" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                write_png(folder / f"{i}.png", rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    return f"folder(path={tmp_path / 'other'})"


def made(source: str, poison: str = NOISE, **settings: Any) -> Any:
    base = METHODS.compose("move", "transferred(source=cifar10-mini, poison='random(form=class)')").method
    return type(base)(source=source, poison=poison, **settings)


def read(spelled: str) -> DataSet:
    return METHODS.compose("data", spelled).method()


def noise_of_class(name: str, side: int = 16) -> Tensor:
    """Return the class-wise random noise of a class of the source, which follows its name."""
    gray = Batch(
        pictures=torch.full((1, 3, side, side), 0.5), labels=torch.tensor([0]), ids=("x",), classes=(name, "other")
    )
    return (RandomNoise(form="class")(gray, context=Context(seed=0)).pictures - gray.pictures)[0]


@pytest.fixture
def middle(pictures: Batch) -> Batch:
    """The made-up labels and ids on a gray that 8 bits can hold, where no noise is clamped."""
    return pictures.with_pictures(torch.full_like(pictures.pictures, 128 / 255))


MAPPING = ("red=wagon", "green=boat", "blue=red")


@pytest.mark.parametrize(
    ("settings", "stands_for"),
    [
        ({"mapping": MAPPING}, ("wagon", "boat", "red")),
        ({"mapping": (" red = boat ", "green=boat", "blue=wagon")}, ("boat", "boat", "wagon")),
        ({"match": "position"}, ("boat", "red", "wagon")),
    ],
)
def test_every_picture_gets_the_noise_of_the_class_that_stands_for_its_own(
    settings: dict[str, Any], stands_for: tuple[str, ...], source: str, middle: Batch
) -> None:
    noise = made(source, **settings)(middle, context=Context(seed=0)).pictures - middle.pictures
    expected = torch.stack([noise_of_class(name) for name in stands_for])[middle.labels]
    assert float((noise - expected).abs().max()) <= 0.5 / 255 + 1e-6  # it is rounded to 8 bits
    assert float(noise.abs().max()) <= 8 / 255 + 1e-6


def test_without_a_mapping_classes_of_equal_names_are_matched(source: str, middle: Batch) -> None:
    red = middle.select((middle.labels == 0).nonzero().flatten())
    noise = made(source)(red, context=Context(seed=0)).pictures - red.pictures
    assert float((noise - noise_of_class("red")).abs().max()) <= 0.5 / 255 + 1e-6


def test_only_classes_with_pictures_need_a_source_class(source: str, middle: Batch) -> None:
    some = middle.select((middle.labels != 1).nonzero().flatten())
    moved = made(source, mapping=("red=wagon", "blue=boat"))(some, context=Context(seed=0))
    assert moved.ids == some.ids


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ((), "no class of the source is given for: green, blue; give a mapping"),
        (("red=wagon",), "no class of the source is given for: green, blue; add them to the mapping"),
        (("red=wagon", "green=boot", "blue=red"), "no class 'boot'.*did you mean 'boat'"),
        ((*MAPPING, "violet=boat"), "the mapping names a class 'violet', but.* red, green, blue"),
    ],
)
def test_a_mapping_with_gaps_is_refused(
    mapping: tuple[str, ...], message: str, source: str, middle: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RandomNoise, "__call__", lambda *_, **__: pytest.fail("it was refused too late"))
    with pytest.raises(DataError, match=message):
        made(source, mapping=mapping)(middle, context=Context(seed=0))


def test_positions_beyond_the_sources_classes_are_refused(source: str, middle: Batch) -> None:
    wide = Batch(
        pictures=middle.pictures, labels=middle.labels + 1, ids=middle.ids, classes=("black", "red", "green", "blue")
    )
    with pytest.raises(DataError, match="class 'blue' is number 4, but the source has 3 classes"):
        made(source, match="position")(wide, context=Context(seed=0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("mapping=[red]", "'red' is refused: write class=source class"),
        ("mapping=['red=boat', 'red=wagon']", "class 'red' is given twice, as 'boat' and 'wagon'"),
        ("mapping=['red=boat'], match=position", "a mapping is for form=class and match=name"),
        ("mapping=['red=boat'], form=sample", "a mapping is for form=class and match=name"),
        ("poison='none'", "'none' is refused as a part"),
        ("poison='error-maximizing(form=class)'", "needs a network trained beforehand"),
        ("source='cifar10-mini+moved(fraction=0.5)'", "name one whole data set"),
        ("source=moved", "name one whole data set"),
        ("source=cifar10-mimi", "did you mean 'cifar10-mini'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: str, message: str) -> None:
    given = {"source": "source=cifar10-mini", "poison": "poison=random"}
    given.pop(settings.split("=")[0], None)
    with pytest.raises(ConfigError, match=message):
        METHODS.compose("move", f"transferred({', '.join([*given.values(), settings])})")


def test_a_mapping_is_read_back_from_its_spelling() -> None:
    spelled = (
        "transferred(source='cifar10-mini(train_limit=96)', poison='random(form=class)', mapping=['a b=cat', c=d])"
    )
    composition = METHODS.compose("move", spelled)
    assert read_mapping(composition.method.mapping) == {"a b": "cat", "c": "d"}
    assert METHODS.compose("move", composition.spelling) == composition


def test_sample_wise_noise_is_not_carried_over_by_class(source: str, middle: Batch) -> None:
    with pytest.raises(DataError, match="random gives the pictures of class 'boat' different noise"):
        made(source, "random", match="position")(middle, context=Context(seed=0))


def test_the_noise_of_a_class_is_found_though_single_pictures_are_clipped() -> None:
    rng = torch.Generator().manual_seed(1)
    labels = torch.arange(40) % 2
    noise = torch.rand(2, 3, 4, 4, generator=rng) * 0.4 - 0.2
    clean = (torch.rand(40, 3, 4, 4, generator=rng) * 1.6 - 0.3).clamp(0, 1)  # many values at the ends
    batch = Batch(pictures=clean, labels=labels, ids=tuple(map(str, range(40))), classes=("a", "b", "c"))
    moved = batch.with_pictures((clean + noise[labels]).clamp(0, 1))
    found = carried_noise(batch, moved, what="it")
    assert set(found) == {"a", "b"}
    assert torch.allclose(torch.stack([found["a"], found["b"]]), noise, atol=1e-6)


def test_pictures_are_resized_as_torchvision_does() -> None:
    pictures = torch.randint(0, 256, (3, 3, 24, 20), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    smaller = resized(pictures, (16, 8))
    theirs = vision.resize(to_float(pictures), [16, 8], antialias=True)
    assert smaller.dtype == torch.uint8
    assert float((to_float(smaller) - theirs).abs().max()) <= 0.5 / 255 + 1e-6
    assert resized(pictures, (24, 20)) is pictures


def test_class_wise_noise_is_put_on_test_pictures(source: str, middle: Batch) -> None:
    train, test = middle.select(range(12)), middle.select(range(12, 24))
    poison = made(source, mapping=MAPPING)
    for context in (Context(seed=0), Context(seed=0)):
        moved = poison(train, context=context)
        put = on_new_pictures(poison, test, clean=train, moved=moved, context=context)
        assert put is not None
        noise = torch.stack([noise_of_class(name) for name in ("wagon", "boat", "red")])[test.labels]
        assert float((put.pictures - test.pictures - noise).abs().max()) <= 0.5 / 255 + 1e-6
    again = on_new_pictures(poison, test, clean=train, moved=moved, context=Context(seed=0))
    assert again is not None
    assert torch.equal(again.pictures, put.pictures)


def test_the_source_and_the_version_of_the_poison_enter_the_key(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spelled = f"transferred(source='{source}', poison='{NOISE}', match=position)"
    extra = f"{TINY}+extra-class(source='{source}', classname=boat)"

    def keys() -> list[str]:
        return [cell(spelled, rehash=True).key, cell("regions", data=extra, rehash=True).key]

    first = keys()
    assert keys() == first
    write_png(tmp_path / "other" / "train" / "red" / "0.png", np.zeros((24, 24, 3), np.uint8))
    second = keys()
    monkeypatch.setattr(RandomNoise, "version", RandomNoise.version + 1)
    third = keys()
    assert len({first[0], second[0], third[0]}) == 3
    assert first[1] != second[1] == third[1]


def test_a_source_is_read_again_when_its_files_changed(source: str, tmp_path: Path, middle: Batch) -> None:
    poison = made(source, "error-minimizing(form=class, batch_size=8, batches=1, rounds=1)", match="position")
    before = poison(middle, context=Context(seed=0)).pictures
    for path in (tmp_path / "other" / "train").rglob("*.png"):
        write_png(path, np.random.default_rng(9).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    assert not torch.equal(poison(middle, context=Context(seed=0)).pictures, before)


# An extra class.


def test_one_class_of_another_data_set_is_added_and_moved(source: str) -> None:
    base, other = read(TINY), read(source)
    data = arena().data(f"{TINY}+extra-class(source='{source}', classname=red)", 0)
    assert data.classes == (*base.classes, "red")
    for part, was, theirs in ((data.train, base.train, other.train), (data.test, base.test, other.test)):
        added = (theirs.labels == 1).nonzero().flatten()
        assert len(part) == len(was) + len(added)
        assert torch.equal(part.pictures[: len(was)], was.pictures)
        assert torch.equal(part.labels[: len(was)], was.labels)
        assert (part.labels[len(was) :] == 10).all()
        assert part.ids == (*was.ids, *(f"extra/{theirs.ids[i]}" for i in added.tolist()))
        assert torch.equal(part.pictures[len(was) :], resized(theirs.pictures[added], (32, 32)))
    assert data.moved.nonzero().flatten().tolist() == [96, 97, 98, 99]
    fewer = arena().data(f"{TINY}+extra-class(source='{source}', classname=red)+moved(classes=[red], fraction=0.5)", 0)
    assert int(fewer.moved.sum()) == 2
    assert bool((fewer.train.labels[fewer.moved] == 10).all())


def test_the_extra_class_keeps_the_noise_that_the_whole_source_got(source: str) -> None:
    data = arena().data(f"{TINY}+extra-class(source='{source}', classname=wagon)", 0)
    batch = data.train.batch(data.moved.nonzero().flatten())
    context = Context(seed=3)
    moved = made(source, EM, form="sample")(batch, context=context)
    theirs = read(source).train
    whole = Pictures(
        pictures=resized(theirs.pictures, (32, 32)), labels=theirs.labels, ids=theirs.ids, classes=theirs.classes
    ).batch()
    alone = Context(seed=3)
    direct = METHODS.compose("move", EM).method(whole, context=alone)
    wagons = (theirs.labels == 2).nonzero().flatten()
    assert float((moved.pictures - direct.pictures[wagons]).abs().max()) <= 0.5 / 255 + 1e-6
    assert not torch.equal(moved.pictures, batch.pictures)
    assert context.meter.samples == alone.meter.samples
    assert context.meter.facts == {"source": alone.meter.facts}
    put = on_new_pictures(made(source, EM, form="sample"), batch, clean=batch, moved=moved, context=context)
    assert put is None


def test_pictures_that_are_not_the_sources_are_refused(source: str, middle: Batch) -> None:
    with pytest.raises(DataError, match=r"24 of 24 pictures are not among the source's.*'made-up-00'.*extra-class"):
        made(source, form="sample")(middle, context=Context(seed=0))
    disguised = Batch(
        pictures=middle.pictures[:1], labels=torch.tensor([0]), ids=("extra/train/red/0.png",), classes=("red", "blue")
    )
    with pytest.raises(DataError, match="1 pictures differ from the source's of the same id"):
        made(source, form="sample")(disguised, context=Context(seed=0))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("source='{source}', classname=wagons", "has no class 'wagons'.*did you mean 'wagon'"),
        ("source=cifar10-mini, classname=ship", "'cifar10-mini' has a class of that name"),
        ("source='cifar10-mini+moved', classname=ship", "name one whole data set"),
        ("source='extra-class(source=cifar10-mini, classname=ship)', classname=ship", "name one whole data set"),
    ],
)
def test_an_extra_class_that_cannot_be_added_is_refused_before_any_compute(
    extra: str, message: str, source: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        grid_of(data=f"{TINY}+extra-class({extra.replace('{source}', source)})")


def test_an_extra_class_is_no_data_set_of_its_own(source: str) -> None:
    with pytest.raises(ConfigError, match=r"one data set, and \+moved\(...\) or \+extra-class"):
        grid_of(data=f"extra-class(source='{source}', classname=red)")


def test_the_payoff_counts_the_extra_classs_own_test_pictures(source: str, tmp_path: Path) -> None:
    move = f"transferred(source=\"{source}\", poison='random(eps=32/255)', form=sample)"
    data = f"{TINY}+extra-class(source='{source}', classname=boat)"
    _, results = played(tmp_path / "run", data=data, moves=[move])
    rows = [row for row in results.rows if row.ok]
    assert {row.setting.move for row in rows} >= {"none", METHODS.compose("move", move).spelling}
    assert any(row.setting.countermove == "left-out" for row in rows)
    for row in rows:
        counted = row.record["units"]["counted"]
        assert sum(counted) == 2
        assert len(counted) == 42
