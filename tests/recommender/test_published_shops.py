"""Amazon Men and Tradesy: converting a pickle without running it, and reading what came out. All data are made up."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests import hostile

from countermove.errors import ConfigError, DataError, RunError
from countermove.recommender.data import conversion
from countermove.recommender.data.pickled import read_pickled_npy
from countermove.recommender.data.published import AmazonMen, Tradesy, convert, main

TRAIN = {0: [3, 1], 1: [0, 3, 5], 2: [1]}
VALIDATION = {0: [2], 1: [1], 2: []}
TEST = {0: [5], 1: [2], 2: [0]}
ITEMS = 10
FREE = [4, 6, 7, 8, 9]


def jpeg(item: int) -> bytes:
    return hostile.encoded(hostile.noise(12, 9, seed=item), "JPEG")


def content() -> list[Any]:
    """What the authors' files hold: three parts, items, and how many users and items there are."""
    parts = [
        {
            user: [{b"productid": item, b"unixReviewTime": 1_400_000_000 + item} for item in row]
            for user, row in p.items()
        }
        for p in (TRAIN, VALIDATION, TEST)
    ]
    items = {i: {b"imgs": jpeg(i), b"asin": b"B%03d" % i, b"c": np.eye(ITEMS)[i]} for i in range(ITEMS)}
    return [*parts, items, len(TRAIN), ITEMS]


def as_objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def python3(values: list[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, as_objects(values), allow_pickle=True)
    return buffer.getvalue()


PURE_PICKLER: Any = pickle._Pickler  # type: ignore[attr-defined]


class _Python2(PURE_PICKLER):
    """Writes bytes and texts as Python 2 wrote its str."""

    def save_text(self, value: str | bytes) -> None:
        raw = value.encode() if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch: ClassVar[dict[type, Any]] = {**PURE_PICKLER.dispatch, bytes: save_text, str: save_text}


def header() -> bytes:
    buffer = io.BytesIO()
    kind = {"descr": "|O", "fortran_order": False, "shape": (6,)}
    np.lib.format.write_array_header_1_0(buffer, kind)
    return buffer.getvalue()


def python2(values: list[Any]) -> bytes:
    buffer = io.BytesIO()
    _Python2(buffer, protocol=2).dump(as_objects(values))
    return header() + buffer.getvalue().replace(b"numpy._core.", b"numpy.core.")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A published file."""
    return write(tmp_path / "source.npy", python2(content()))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.fixture
def root(tmp_path: Path, source: Path) -> Path:
    """A data folder with the converted shop."""
    convert(source, tmp_path / "data" / "amazon-men")
    return tmp_path / "data"


def men(**settings: Any) -> AmazonMen:
    return AmazonMen(**{"side": 8, "cold": 3, **settings})


# Converting.


@pytest.mark.parametrize("write_as", [python2, python3])
def test_a_published_file_becomes_plain_files(tmp_path: Path, write_as: Callable[[list[Any]], bytes]) -> None:
    source, out = write(tmp_path / "source.npy", write_as(content())), tmp_path / "deep" / "out"
    made = convert(source, out)
    assert sorted(path.name for path in out.iterdir()) == ["interactions.parquet", "manifest.json", "pictures"]
    for item in range(ITEMS):
        assert (out / "pictures" / f"{item}.jpg").read_bytes() == jpeg(item)
    rows = [tuple(row.values()) for row in pq.read_table(out / "interactions.parquet").to_pylist()]
    expected = [
        (user, item, name)
        for name, part in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST))
        for user, row in part.items()
        for item in row
    ]
    assert rows == expected
    assert made == json.loads((out / "manifest.json").read_text())
    assert (made["users"], made["items"], made["interactions"]) == (3, ITEMS, len(expected))
    assert made["source"]["name"] == "source.npy"
    assert made["source"]["bytes"] == source.stat().st_size
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_the_made_up_file_is_what_numpy_reads(source: Path) -> None:
    """Otherwise the tests here would convert something that the authors' files are not."""
    read = np.load(source, allow_pickle=True, encoding="bytes")
    assert read[0] == content()[0]
    assert read[3][4][b"imgs"] == jpeg(4)


@pytest.mark.parametrize("write_as", [python2, python3])
def test_numbers_and_arrays_of_numpy_are_read_as_plain_ones(
    tmp_path: Path, write_as: Callable[[list[Any]], bytes]
) -> None:
    values = [np.int64(7), np.float32(0.5), np.arange(3, dtype=">i4"), as_objects([b"x", {b"y": 1}]), np.bool_(True)]
    read = read_pickled_npy(write(tmp_path / "x.npy", write_as([*values, np.zeros(2, "S3")])))
    assert read == [7, 0.5, [0, 1, 2], [b"x", {b"y": 1}], True, []]
    assert {type(value).__module__ for value in read[:2]} == {"builtins"}


class _Asks:
    """Asks whoever unpickles it to call something."""

    def __init__(self, called: Callable[..., Any], *arguments: Any) -> None:
        self.asked = called, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.asked


def test_a_malicious_pickle_is_not_run(tmp_path: Path) -> None:
    values = content()
    for number, hidden in enumerate((lambda v, e: v.append(e), lambda v, e: v[3][2].update({b"imgs": e}))):
        mark = tmp_path / f"mark-{number}"
        hidden(values, _Asks(os.mkdir, str(mark)))
        for write_as in (python2, python3):
            path = write(tmp_path / "source.npy", write_as(values))
            with pytest.raises(DataError, match=r"source\.npy asks for posix\.mkdir to be loaded.* Nothing was run"):
                convert(path, tmp_path / "out")
            assert not mark.exists()
        assert not (tmp_path / "out").exists()
        np.load(path, allow_pickle=True)
        assert mark.is_dir(), "the usual way runs it"
        values = content()


@pytest.mark.parametrize(
    ("called", "name"),
    [
        (os.system, r"posix\.system"),
        (builtins.eval, r"(builtins|__builtin__)\.eval"),
        (builtins.getattr, r"(builtins|__builtin__)\.getattr"),
        (os.rename, r"posix\.rename"),
        (np.load, r"numpy\.load"),
        (np.frombuffer, r"numpy\S*frombuffer"),
        (torch.load, r"torch\S*load"),
    ],
)
@pytest.mark.parametrize("write_as", [python2, python3])
def test_any_name_but_those_of_plain_arrays_is_refused(
    tmp_path: Path, called: Callable[..., Any], name: str, write_as: Callable[[list[Any]], bytes]
) -> None:
    with pytest.raises(DataError, match=f"asks for {name} to be loaded"):
        read_pickled_npy(write(tmp_path / "x.npy", write_as([_Asks(called, "true")])))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", r"asks for numpy\.ndarray\.tofile"),
        (b"\x80\x04\x8c\x15numpy.core.multiarray\x8c\x06scalar\x93.", "holds method, not an array of objects"),
        (b"cnumpy\ndtype\n(S'f8'\ntR(dS'__class__'\nNsb.", "cannot be read"),
        (b"Poutside\n.", "asks for an object outside the file"),
        (b"\x80\x02K\x01Q.", "asks for an object outside the file"),
        (b"\x80\x02K\x01.", "holds int, not an array of objects"),
        (b"\x80\x02\x82\x01.", "another class to be loaded"),
        (b"c_codecs\nencode\n(Vx\nVrot13\ntR.", "bytes are written as latin1 only"),
        (b"", "cannot be read as an .npy file of objects"),
        (b"\x80\x02U\xff.", "cannot be read"),
    ],
)
def test_programs_written_by_hand_are_refused(tmp_path: Path, program: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pickled_npy(write(tmp_path / "x.npy", header() + program))


@given(st.integers(0, 5000))
def test_a_file_that_is_cut_short_is_refused(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    whole = python3(content())
    path = tmp_path_factory.getbasetemp() / "cut.npy"
    with pytest.raises(DataError, match=r"cannot be read as an \.npy file of objects"):
        read_pickled_npy(write(path, whole[: min(length, len(whole) - 1)]))


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    numbers = io.BytesIO()
    np.save(numbers, np.arange(6))
    with pytest.raises(DataError, match=r"holds int64 \[6\], not a list of pickled objects"):
        convert(write(tmp_path / "x.npy", numbers.getvalue()), tmp_path / "out")
    with pytest.raises(DataError, match=r"cannot be read as an \.npy file of objects: .*magic"):
        convert(write(tmp_path / "x.npy", b"PK\3\4 and so on"), tmp_path / "out")
    with pytest.raises(DataError, match=r"cannot be read as an \.npy file of objects: .*No such file"):
        convert(tmp_path / "absent.npy", tmp_path / "out")


def _changed(*path: Any, value: Any) -> Callable[[], list[Any]]:
    def change() -> list[Any]:
        values = content()
        at = values
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        return values

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: content()[:5], "holds 5 objects; six are expected"),
        (_changed(4, value="many"), "ends in b?'many' and 10; the numbers of users and of items are expected"),
        (_changed(4, value=4), "train has no list of items of user 3"),
        (_changed(1, value=7), "validation has no list of items of user 0"),
        (_changed(0, 0, 0, value={b"product": 3}), "train has no list of items of user 0"),
        (_changed(0, 0, 0, b"productid", value=10), "train, user 0 touched item 10; items are 0 to 9"),
        (_changed(0, 0, 0, b"productid", value=-1), "train, user 0 touched item -1"),
        (_changed(0, 0, 0, b"productid", value=b"3"), "train, user 0 touched item b'3'"),
        (_changed(2, 1, value=[{b"productid": 1}, {b"productid": 2}]), "user 1 has 2 test items; one is expected"),
        (_changed(5, value=11), "item 10 has no picture"),
        (_changed(3, 6, value={}), "item 6 has no picture"),
        (_changed(3, 6, b"imgs", value=b"GIF89a..."), "the picture of item 6 is no JPEG: it begins with b'GIF89a"),
        (_changed(3, 6, b"imgs", value=b""), "the picture of item 6 is no JPEG"),
        (_changed(3, 6, b"imgs", value=[1]), "the picture of item 6 is no JPEG"),
    ],
)
def test_content_of_another_form_is_refused(tmp_path: Path, change: Callable[[], list[Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert(write(tmp_path / "source.npy", python3(change())), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source.npy"]


def test_nothing_is_overwritten_or_left_half_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="out is already there; name another folder"):
        convert(source, tmp_path / "out")
    (tmp_path / "out").rmdir()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversion, "_write_table", full)
    with pytest.raises(RunError, match="out cannot be written: No space left on device"):
        convert(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source.npy"]


def test_converting_is_a_command(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "countermove.recommender.data.published", str(source), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'out'}: 3 users, 10 items, 11 interactions\n"
    assert done.stderr == ""
    assert main([str(source), str(tmp_path / "out")]) == 2
    assert "out is already there" in capsys.readouterr().err
    assert men(path="out")(root=tmp_path).users == ("0", "1", "2")


# Reading.


def test_the_published_split_is_kept(root: Path) -> None:
    shop = men()(root=root)
    assert (shop.name, shop.users, shop.items) == ("amazon-men", ("0", "1", "2"), tuple(map(str, range(ITEMS))))
    assert shop.train.tolist() == [[0, 1], [0, 3], [1, 0], [1, 3], [1, 5], [2, 1]]
    assert shop.validation.tolist() == [2, 1, -1]
    assert shop.test.tolist() == [5, 2, 0]
    assert shop.pictures.shape == (ITEMS, 3, 8, 8)
    assert set(shop.cold.tolist()) <= set(FREE)
    assert len(shop.cold) == 3
    assert shop.category.tolist() == [-1] * ITEMS
    assert shop.statistics == {
        "users": 3, "items": 10, "interactions": 11, "interactions of cold items": 0,
        "train rows of held-out items": 0, "duplicate rows": 0, "users without a test item": 0,
    }  # fmt: skip


def test_cold_items_are_drawn_by_seed_among_untouched_ones(root: Path) -> None:
    drawn = {tuple(men(split_seed=seed)(root=root).cold.tolist()) for seed in range(6)}
    assert len(drawn) > 1
    assert all(set(cold) <= set(FREE) for cold in drawn)
    assert men(cold=5)(root=root).cold.tolist() == FREE
    with pytest.raises(DataError, match="amazon-men: 6 cold items were asked for; 5 were touched by nobody"):
        men(cold=6)(root=root)


def test_cold_items_can_be_named(root: Path) -> None:
    np.save(root / "cold.npy", np.array([9, 4, 5]))
    shop = men(cold_ids="cold.npy", cold=1000)(root=root)
    assert shop.cold.tolist() == [4, 5, 9]
    assert shop.train.tolist() == [[0, 1], [0, 3], [1, 0], [1, 3], [2, 1]]
    assert shop.test.tolist() == [-1, 2, 0]
    assert shop.statistics["interactions of cold items"] == 2
    assert shop.statistics["users without a test item"] == 1


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([0.0]), r"must hold item numbers, integers \[C\]; it holds float64 \[1\]"),
        (np.array([[1]]), r"it holds int64 \[1, 1\]"),
        (np.array([], dtype=int), r"it holds int64 \[0\]"),
        (np.array([1, 10]), "must hold different item numbers from 0 to 9"),
        (np.array([-1]), "must hold different item numbers"),
        (np.array([4, 4]), "must hold different item numbers"),
        (np.array([{}]), "cannot be read as an .npy file of plain numbers"),
    ],
)
def test_cold_ids_are_refused(root: Path, ids: np.ndarray, message: str) -> None:
    np.save(root / "cold.npy", ids, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        men(cold_ids="cold.npy")(root=root)


def test_no_cold_ids_file(root: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*absent\.npy; give cold_ids=FILE"):
        men(cold_ids="absent.npy")(root=root)


def test_doubles_and_train_rows_of_held_out_items_count_once(tmp_path: Path) -> None:
    values = content()
    values[0][0] += [{b"productid": 3}, {b"productid": 5}, {b"productid": 2}]
    convert(write(tmp_path / "x.npy", python3(values)), tmp_path / "amazon-men")
    shop = men()(root=tmp_path)
    assert shop.train[shop.train[:, 0] == 0].tolist() == [[0, 1], [0, 3]]
    assert shop.statistics["duplicate rows"] == 1
    assert shop.statistics["train rows of held-out items"] == 2


def test_nothing_left_to_train_on_is_refused(root: Path) -> None:
    np.save(root / "cold.npy", np.array([0, 1, 3, 5]))
    with pytest.raises(DataError, match="amazon-men: no train interaction is left"):
        men(cold_ids="cold.npy")(root=root)


@pytest.mark.parametrize(
    ("method", "file"),
    [(AmazonMen(), "AmazonMenWithImgPartitioned.npy"), (Tradesy(), "TradesyImgPartitioned.npy")],
)
def test_absent_data_say_where_to_fetch_them_and_how(method: AmazonMen | Tradesy, file: str, tmp_path: Path) -> None:
    how = (
        rf"Fetch http://cseweb\.ucsd\.edu/~wckang/DVBPR/{file} .*and convert it once: "
        rf"python -m countermove\.recommender\.data\.published {file} {method.path}"
    )
    for asked in (method, method.fingerprint):
        with pytest.raises(DataError, match=f"there is no folder .*{method.path}; give path=FOLDER. {how}"):
            asked(root=tmp_path)
    (tmp_path / method.path).mkdir()
    with pytest.raises(DataError, match=rf"is no converted shop: it has no manifest\.json. {how}"):
        method(root=tmp_path)


def test_tradesy_reads_its_folder(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "tradesy")
    shop = Tradesy(side=8, cold=2)(root=tmp_path)
    assert (shop.name, len(shop.cold)) == ("tradesy", 2)


def test_a_changed_table_or_manifest_is_refused(root: Path) -> None:
    folder = root / "amazon-men"
    table, manifest = folder / "interactions.parquet", folder / "manifest.json"
    whole, stated = table.read_bytes(), json.loads(manifest.read_text())
    table.write_bytes(whole[:-1] + b"x")
    with pytest.raises(DataError, match=r"interactions\.parquet is not the table that was written: its SHA-256"):
        men()(root=root)
    table.unlink()
    with pytest.raises(DataError, match=r"amazon-men is damaged .*interactions\.parquet.*; convert the shop again"):
        men()(root=root)
    table.write_bytes(whole)
    for change, message in (
        ({"format": 2}, "has format 2; this version reads 1"),
        ({"items": 5}, "names users or items beyond 3 and 5"),
        ({"users": None}, "is damaged"),
        ({"tables": {}}, "is damaged"),
        ({"tables": None}, "is damaged"),
    ):
        manifest.write_text(json.dumps({**stated, **change}))
        with pytest.raises(DataError, match=message):
            men()(root=root)
    manifest.write_text("[")
    with pytest.raises(DataError, match="is damaged"):
        men()(root=root)


def test_a_broken_or_absent_picture_is_refused(root: Path) -> None:
    picture = root / "amazon-men" / "pictures" / "3.jpg"
    picture.write_bytes(jpeg(3)[:50])
    with pytest.raises(DataError, match=r"3\.jpg is broken or cut short"):
        men()(root=root)
    picture.unlink()
    with pytest.raises(DataError, match=r"3\.jpg cannot be read: No such file"):
        men()(root=root)


def test_content_is_what_identifies_it(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERMOVE_CACHE", str(tmp_path / "cache"))
    np.save(root / "cold.npy", np.array([4]))
    seen = {men().fingerprint(root=root), men(cold_ids="cold.npy").fingerprint(root=root)}
    assert men(side=16).fingerprint(root=root) in seen
    np.save(root / "cold.npy", np.array([6]))
    seen.add(men(cold_ids="cold.npy").fingerprint(root=root, rehash=True))
    (root / "amazon-men" / "pictures" / "3.jpg").write_bytes(jpeg(4))
    seen.add(men().fingerprint(root=root, rehash=True))
    assert len(seen) == 4


@pytest.mark.parametrize("method", [AmazonMen, Tradesy])
def test_settings_are_refused(method: type[AmazonMen | Tradesy]) -> None:
    with pytest.raises(ConfigError, match="cold = 0 is refused: it must be at least 1"):
        method(cold=0)
    with pytest.raises(ConfigError, match="side = 2000 is refused"):
        method(side=2000)
