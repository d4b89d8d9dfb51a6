"""Somebody's published poison: every form it may come in, and every way in which it can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.hostile import pickled_npz
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.batch import Batch
from countermove.pixels.files import write_png
from countermove.pixels.rounding import to_float, to_uint8
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.play import move_and_round
from countermove.unlearnable.poison import Context
from countermove.unlearnable.poisons.precomputed import Precomputed


@pytest.fixture
def theirs(pictures: Batch) -> Tensor:
    """Somebody's moved pictures, uint8 [24, 3, 16, 16], within 8/255."""
    levels = torch.from_numpy(np.random.default_rng(5).integers(-8, 9, tuple(pictures.pictures.shape)))
    return (to_uint8(pictures.pictures) + levels).clamp(0, 255).to(torch.uint8)


def received(path: Path, batch: Batch, **settings: Any) -> tuple[Tensor, dict[str, Any]]:
    return move_and_round(Precomputed(path=path, **settings), batch, Context(seed=0))


def test_a_folder_of_pictures(pictures: Batch, theirs: Tensor, tmp_path: Path) -> None:
    for name, picture in zip(pictures.ids, theirs, strict=True):
        write_png(tmp_path / f"{name}.png", picture.permute(1, 2, 0).numpy())
    stored, budget = received(tmp_path, pictures, eps=8 / 255)
    assert torch.equal(stored, theirs)
    assert budget["kept"] is True
    few = pictures.select([5, 1])
    assert torch.equal(received(tmp_path, few)[0], theirs[[5, 1]])
    (tmp_path / f"{pictures.ids[3]}.png").unlink()
    with pytest.raises(DataError, match="no picture for 1 ids, the first is 'made-up-03'"):
        received(tmp_path, pictures)


def test_a_folder_of_another_size_is_refused(pictures: Batch, tmp_path: Path) -> None:
    for name in pictures.ids:
        write_png(tmp_path / f"{name}.png", np.zeros((8, 16, 3), np.uint8))
    with pytest.raises(DataError, match=r"made-up-00.png is 16 x 8 pixels; the data are 16 x 16"):
        received(tmp_path, pictures)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_an_npz_of_pictures(layout: str, kind: str, pictures: Batch, theirs: Tensor, tmp_path: Path) -> None:
    values = theirs.numpy() if kind == "uint8" else (theirs.numpy() / 255).astype(kind)
    values = values if layout == "NCHW" else values.transpose(0, 2, 3, 1)
    np.savez(tmp_path / "p.npz", pictures=values, labels=pictures.labels.numpy())
    assert torch.equal(received(tmp_path / "p.npz", pictures)[0], theirs)


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_an_npz_of_noise_follows_its_shuffled_ids(kind: str, pictures: Batch, theirs: Tensor, tmp_path: Path) -> None:
    levels = theirs.numpy().astype(np.int16) - to_uint8(pictures.pictures).numpy().astype(np.int16)
    assert levels.min() < 0
    noise = levels if kind == "int16" else (levels / 255).astype(np.float32)
    order = np.random.default_rng(1).permutation(24)
    path = tmp_path / "p.npz"
    np.savez(path, noise=noise[order], ids=np.array(pictures.ids)[order], labels=pictures.labels.numpy()[order])
    assert torch.equal(received(path, pictures)[0], theirs)
    shuffled = pictures.select([9, 4, 17])
    assert torch.equal(received(path, shuffled)[0], theirs[[9, 4, 17]])


def test_an_npy_of_pictures_or_noise(pictures: Batch, theirs: Tensor, tmp_path: Path) -> None:
    np.save(tmp_path / "pictures.npy", theirs.numpy())
    assert torch.equal(received(tmp_path / "pictures.npy", pictures)[0], theirs)
    np.save(tmp_path / "noise.npy", (to_float(theirs) - pictures.pictures).numpy())
    assert torch.equal(received(tmp_path / "noise.npy", pictures, holds="noise")[0], theirs)


def test_a_broken_promise_is_measured_and_flagged(pictures: Batch, theirs: Tensor, tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", theirs.numpy())
    _, budget = received(tmp_path / "p.npy", pictures, eps=4 / 255)
    assert budget["kept"] is False
    assert budget["radius"] == 4 / 255
    assert budget["largest"] == pytest.approx(8 / 255, abs=1e-6)
    for norm, eps, kept in (("l2", 2.0, True), ("l2", 0.5, False), ("l0", 256, True), ("l0", 100, False)):
        _, budget = received(tmp_path / "p.npy", pictures, eps=eps, radius_norm=norm)
        assert (budget["norm"], budget["kept"]) == (norm, kept)
    _, budget = received(tmp_path / "p.npy", pictures)
    assert budget["kept"] is None
    assert budget["largest"] == pytest.approx(8 / 255, abs=1e-6)


def _wrong(pictures: Batch, theirs: Tensor) -> dict[str, tuple[dict[str, np.ndarray], str]]:
    right, labels, ids = theirs.numpy(), pictures.labels.numpy(), np.array(pictures.ids)
    return {
        "labels": ({"pictures": right, "labels": (labels + 1) % 3}, "24 of 24 labels differ"),
        "one label": ({"pictures": right, "labels": np.where(labels.cumsum() == 0, 2, labels)}, "1 of 24 labels"),
        "few labels": ({"pictures": right, "labels": labels[:5]}, r"holds 24 rows, but labels of shape \(5,\)"),
        "worded labels": ({"pictures": right, "labels": labels.astype(str)}, "labels must be whole numbers"),
        "few ids": ({"pictures": right, "ids": ids[:5]}, r"holds 24 rows, but ids of shape \(5,\)"),
        "ids twice": ({"pictures": right, "ids": np.array([*ids[:-1], ids[0]])}, "ids must be unique; 1 of 24"),
        "foreign ids": (
            {"pictures": right, "ids": np.char.add("x", ids)},
            "no row for 24 ids, the first is 'made-up",
        ),
        "few rows": ({"pictures": right[:20]}, "holds 20 rows for 24 pictures and no ids"),
        "size": ({"pictures": right[..., :8]}, "holds pictures of 8 x 16; the data are 16 x 16"),
        "flat": ({"pictures": right.reshape(24, -1)}, r"shape \(24, 768\) is refused"),
        "scalar": ({"pictures": np.array(1.0)}, "holds 1 rows for 24"),
        "gray": ({"pictures": right[:, :1]}, r"\[N, H, W, 3\] or \[N, 3, H, W\]"),
        "0..255 floats": ({"pictures": right.astype(np.float32)}, r"must be in \[0, 1\] units; the largest is"),
        "0..8 noise": ({"noise": right.astype(np.float32) % 9}, r"must be in \[0, 1\] units; the largest is 8"),
        "large integers": ({"pictures": right.astype(np.uint16) * 256}, "levels up to 255; the largest is 65280"),
        "negative": ({"pictures": right / 255 - 0.9}, "pictures are not negative"),
        "nan": ({"pictures": np.full(right.shape, np.nan)}, r"must be in \[0, 1\] units"),
        "words": ({"pictures": right.astype(str)}, "numbers are read"),
        "both": ({"pictures": right, "noise": right}, "one of the arrays 'pictures' and 'noise'"),
        "neither": ({"images": right}, "one of the arrays 'pictures' and 'noise'"),
    }


BLANK = Batch(
    pictures=torch.zeros(24, 3, 16, 16),
    labels=torch.arange(24) % 3,
    ids=tuple(map(str, range(24))),
    classes=("red", "green", "blue"),
)


@pytest.mark.parametrize("case", list(_wrong(BLANK, to_uint8(BLANK.pictures))))
def test_arrays_that_do_not_fit_are_refused_by_name(case: str, pictures: Batch, theirs: Tensor, tmp_path: Path) -> None:
    arrays, message = _wrong(pictures, theirs)[case]
    np.savez(tmp_path / "theirs.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message) as caught:
        received(tmp_path / "theirs.npz", pictures)
    assert "theirs.npz" in str(caught.value)


def test_nothing_is_ever_unpickled(pictures: Batch, tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "p.npz").write_bytes(pickled_npz())
    for name in ("p.npy", "p.npz"):
        with pytest.raises(DataError, match=r"cannot be read as|must hold one of"):
            received(tmp_path / name, pictures)


def test_what_is_not_there_or_no_array_is_refused_before_any_compute(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing at .*absent\.npz"):
        METHODS.compose("move", f"precomputed(path={tmp_path / 'absent.npz'})")
    (tmp_path / "p.pt").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"p\.pt is refused: a folder, an \.npz or an \.npy is read"):
        METHODS.compose("move", f"precomputed(path={tmp_path / 'p.pt'})")
    with pytest.raises(ConfigError, match="8/255"):
        METHODS.compose("move", f"precomputed(path={tmp_path}, eps=8)")
    with pytest.raises(ConfigError, match="eps = -1"):
        METHODS.compose("move", f"precomputed(path={tmp_path}, eps=-1)")


def test_a_damaged_file_is_named(pictures: Batch, theirs: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, pictures=theirs.numpy())
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"p\.npz cannot be read"):
        received(path, pictures)


def test_the_content_of_the_files_is_part_of_its_identity(theirs: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "p.npy"
    seen = set()
    for values in (theirs.numpy(), theirs.numpy() ^ 1):
        np.save(path, values)
        seen.add(METHODS.compose("move", f"precomputed(path={path})").identity()["parts"][0]["content"])
    assert len(seen) == 2
