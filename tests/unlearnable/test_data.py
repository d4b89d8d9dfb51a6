from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from countermove.errors import ConfigError, DataError
from countermove.game.content import fingerprint_files
from countermove.pixels.selection import pick
from countermove.unlearnable.data import DATA
from countermove.unlearnable.data.selection import split_off_test
from countermove.unlearnable.dataset import DataSet, choose_moved, from_arrays


def small(n: int = 8, *, seed: int = 0) -> DataSet:
    rng = np.random.default_rng(seed)
    splits = [
        (rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8), np.arange(n) % 2, [f"{split}/{i}" for i in range(n)])
        for split in ("train", "test")
    ]
    return from_arrays("small", ("cat", "dog"), splits[0], splits[1])


def test_from_arrays_keeps_pixels_labels_and_ids() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    data = from_arrays("x", "ab", (pictures, [0, 0, 1, 1], list("pqrs")), (pictures, [0, 0, 1, 1], list("tuvw")))
    assert data.train.pictures.shape == (4, 3, 5, 6)
    np.testing.assert_array_equal(data.train.pictures.numpy().transpose(0, 2, 3, 1), pictures)
    assert data.moved.tolist() == [True] * 4
    batch = data.train.batch([2, 0])
    assert batch.ids == ("r", "p")
    assert batch.labels.tolist() == [1, 0]
    assert batch.pictures.dtype == torch.float32
    assert torch.equal((batch.pictures * 255).round().to(torch.uint8), data.train.pictures[[2, 0]])
    assert torch.equal(data.train.batch().pictures[[2, 0]], batch.pictures)


def test_digest_depends_on_every_part() -> None:
    data = small()
    assert data.digest == small().digest
    train = data.train
    pixels = train.pictures.clone()
    pixels[0, 0, 0, 0] ^= 1
    others = [
        replace(data, train=replace(train, pictures=pixels)),
        replace(data, train=replace(train, labels=train.labels.flip(0))),
        replace(data, train=replace(train, ids=("other", *train.ids[1:]))),
        replace(data, train=data.test, test=train),
        replace(data, train=replace(train, classes=("cat", "fox")), test=replace(data.test, classes=("cat", "fox"))),
    ]
    assert len({data.digest, *(other.digest for other in others)}) == 6


def _raw(n: int = 4, *, side: int = 4) -> np.ndarray:
    return np.zeros((n, side, side, 3), np.uint8)


@pytest.mark.parametrize(
    ("classes", "train_labels", "side", "ids", "message"),
    [
        ("ab", [0, 0, 0, 1], 4, "pqrs", r"too few in: b \(1\)"),
        ("abc", [0, 0, 1, 1], 4, "pqrs", r"too few in: c \(0\)"),
        ("a", [0, 0, 0, 0], 4, "pqrs", "at least two classes"),
        ("aa", [0, 0, 1, 1], 4, "pqrs", "at least two classes of different names"),
        ("ab", [0, 0, 1, 2], 4, "pqrs", r"labels don't match the classes: they run from 0 to 2.*0 to 1 is expected"),
        ("ab", [0, 0, 1, -1], 4, "pqrs", "'not labelled'"),
        ("ab", [0, 0, 1], 4, "pqrs", "4 pictures need 4 int64 labels"),
        ("ab", [0, 0, 1, 1], 5, "pqrs", r"unequal sizes: train pictures are \(5, 5\), test pictures \(4, 4\)"),
        ("ab", [0, 0, 1, 1], 4, "ppqr", "ids must be unique; 1 occur more than once, for example 'p'"),
        ("ab", [0, 0, 1, 1], 4, "pqrt", "ids must be unique"),
    ],
)
def test_refuses_what_does_not_fit(classes: str, train_labels: list[int], side: int, ids: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_arrays("x", classes, (_raw(side=side), train_labels, ids), (_raw(), [0, 0, 0, 0], "tuvw"))  # type: ignore[arg-type]


def test_refuses_an_empty_split() -> None:
    with pytest.raises(DataError, match="no pictures"):
        from_arrays("x", "ab", (_raw(), [0, 0, 1, 1], "pqrs"), (_raw(0), [], []))  # type: ignore[arg-type]


@given(
    names=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), unique=True, max_size=30),
    fractions=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_pick_follows_ids_and_is_nested(
    names: list[str], fractions: tuple[float, float], seed: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(names))))
    few, many = (pick(names, fraction, seed=seed, purpose="x") for fraction in sorted(fractions))
    shuffled = pick([names[i] for i in order], max(fractions), seed=seed, purpose="x")
    assert many.sum() == round(max(fractions) * len(names))
    assert not (few & ~many).any()
    assert shuffled.tolist() == many[list(order)].tolist()


@given(labels=st.lists(st.integers(0, 3), max_size=40), fraction=st.floats(0.01, 0.99))
def test_split_leaves_two_of_each_class_to_train_on(labels: list[int], fraction: float) -> None:
    test = split_off_test([str(i) for i in range(len(labels))], labels, fraction, seed=0)
    for label in set(labels):
        mine = test[np.array(labels) == label]
        assert (~mine).sum() >= min(2, len(mine))
        assert mine.sum() <= round(fraction * len(mine))


def test_chooses_moved_by_fraction_class_and_seed() -> None:
    data = small(40)
    half = data.choose(fraction=0.5, seed=1).moved
    assert half.sum() == 20
    assert not torch.equal(half, data.choose(fraction=0.5, seed=2).moved)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    train = data.train
    shuffled = choose_moved(train.labels[order], [train.ids[i] for i in order.tolist()], train.classes, 0.5, (), 1)
    assert torch.equal(shuffled, half[order])
    dogs = data.choose(classes=("dog",)).moved
    assert torch.equal(dogs, train.labels == 1)
    some = data.choose(classes=("dog",), fraction=0.25).moved
    assert some.sum() == 5
    assert not (some & ~dogs).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ("dgo",)}, "unknown class 'dgo' among the moved classes: did you mean 'dog'"),
        ({"fraction": 0.0}, "above 0 and at most 1"),
        ({"fraction": 20}, "above 0 and at most 1; got 20"),
        ({"fraction": 0.01}, "is none; raise it"),
    ],
)
def test_refuses_a_senseless_choice(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small().choose(**settings)


def test_fingerprints_are_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERMOVE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "x.bin"
    old = 1_000_000_000 * 10**9

    def write(content: bytes, stamp: int) -> str:
        path.write_bytes(content)
        import os

        os.utime(path, ns=(stamp, stamp))
        return fingerprint_files([("x", path)])

    first = write(b"aaaa", old)
    assert (tmp_path / "cache" / "hashes.json").is_file()
    assert write(b"bbbb", old) == first, "same size and time: the memory answers"
    second = fingerprint_files([("x", path)], rehash=True)
    assert second != first
    assert fingerprint_files([("x", path)]) == second, "rehashing refreshes the memory"
    assert write(b"aaaa", old + 1) == first, "another time: the file is read"
    assert fingerprint_files([("y", path)]) != first, "the name counts"
    (tmp_path / "cache" / "hashes.json").write_text("[broken")
    assert fingerprint_files([("x", path)]) == first
    monkeypatch.setenv("COUNTERMOVE_CACHE", "/dev/null/cache")
    assert fingerprint_files([("x", path)]) == first, "nowhere to remember: still right"
    with pytest.raises(DataError, match="absent cannot be read"):
        fingerprint_files([("x", tmp_path / "absent")])


def test_listing_and_hashing_import_no_torch(tmp_path: Path) -> None:
    modules = sorted({target.partition(":")[0] for target in DATA.values()})
    code = (
        f"import sys, {', '.join(modules)}\n"
        "from countermove.unlearnable.data.cifar import Cifar10Mini\n"
        "Cifar10Mini().fingerprint()\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    environment = {"COUNTERMOVE_CACHE": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
