"""Files of strangers: each is refused by name, runs nothing, touches nothing outside, and costs little memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests import hostile
from tests.zip_quine import zip_quine

CAP = 2**30
"""Bytes that reading one file may take, whatever it says of itself, beyond what the libraries take."""

READER = Path(__file__).with_name("stranger_reader.py")
SECRET = hostile.encoded(hostile.noise(seed=7))

Build = Callable[[Path], Path]
"""Writes what a stranger sends into an empty folder, and says what is to be read."""


def file(name: str, content: bytes | Callable[[], bytes]) -> Build:
    def build(folder: Path) -> Path:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content())
        return folder / name

    return build


def in_folder(name: str, content: Callable[[], bytes]) -> Build:
    """A file that is read with its folder."""
    return lambda folder: file(name, content)(folder).parent


def with_canary(name: str, make: Callable[[str], bytes]) -> Build:
    """A file that would make another one, called canary, beside its folder."""
    return lambda folder: file(name, make(str(folder.parent / "canary")))(folder)


def cifar_that_calls(folder: Path) -> Path:
    """CIFAR-10 as torchvision unpickles it, every file of which is a program."""
    inside = folder / "cifar-10-batches-py"
    inside.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (inside / name).write_bytes(hostile.calling(str(folder.parent / "canary")))
    return folder


class Touches:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


def torch_zip(content: Callable[[str], bytes]) -> Callable[[str], bytes]:
    """A file as torch.save writes it around a pickle."""

    def make(canary: str) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("w/data.pkl", content(canary))
            archive.writestr("w/version", "3\n")
        return buffer.getvalue()

    return make


def torch_tar(canary: str) -> bytes:
    """The oldest form of torch's files, whose member leads out of the folder it is unpacked to."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors", f"../../../../../../../..{canary}"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"\x80\x02}."))
    return buffer.getvalue()


def travelling_npz(canary: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../canary", b"out")
        archive.writestr(canary, b"out")
    return buffer.getvalue()


def nested_zip() -> bytes:
    inner = b"PK"
    for _ in range(20):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("x_train.npy", inner)
        inner = buffer.getvalue()
    return inner


def wav(
    *, channels: int = 1, width: int = 16, rate: int = 8000, data: bytes = bytes(8), told: int | None = None
) -> bytes:
    block = channels * width // 8
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block, block, width)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", told or len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def link(to: str, name: str) -> Build:
    def build(folder: Path) -> Path:
        (folder / name).symlink_to(to)
        return folder

    return build


def table(name: str, content: str, *, folder_is_read: bool = True) -> Build:
    def build(folder: Path) -> Path:
        (folder / "a.png").write_bytes(hostile.encoded(hostile.noise()))
        (folder / name).write_text(content, encoding="utf-8")
        return folder if folder_is_read else folder / name

    return build


def linked_and_labelled(folder: Path) -> Path:
    link("../secret.png", "b.png")(folder)
    return table("metadata.jsonl", '{"file_name": "b.png", "label": 0}')(folder)


def linked_manifest(folder: Path) -> Path:
    (folder / "manifest.jsonl").symlink_to("../secret.png")
    return folder


def rows_parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    million = pa.table({"user": pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**6, np.int8)), pa.array(["x"]))})
    with pq.ParquetWriter(buffer, million.schema) as writer:
        for _ in range(60):
            writer.write_table(million)
    return buffer.getvalue()


def packed_parquet(column: str, value: bytes | str, rows: int) -> bytes:
    """One value for all rows, stored once; unpacked row by row it would fill the disk of a data centre."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    packed = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([value]))
    pq.write_table(pa.table({column: packed, "label": np.arange(rows) % 2}), buffer, compression="zstd")
    return buffer.getvalue()


def nested_parquet() -> bytes:
    """As packed_parquet, but every row is a list that holds the value."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, buffer = 10**5, io.BytesIO()
    value = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array(["a" * 10**7]))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32)), value)
    pq.write_table(pa.table({"user": lists, "item": pa.array(np.zeros(rows, np.int8))}), buffer)
    return buffer.getvalue()


def row_group_parquet(column: str, parts: int) -> bytes:
    """A single row group of many cells of 100 MiB each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    cells = pa.chunked_array([pa.array([bytes(100 * 2**20)])] * parts)
    content = pa.table({column: cells, "label": np.zeros(parts, np.int8)})
    pq.write_table(content, buffer, use_dictionary=False, compression="zstd", write_statistics=False)
    return buffer.getvalue()


def hostile_run(change: Callable[[Path, dict[str, Any]], Any]) -> Build:
    """A run of the toy arena whose cells, or what lies beside them, were changed by somebody."""

    def build(folder: Path) -> Path:
        from countermove.game.config import make_config
        from countermove.game.run import play, resolve

        audit = {"arena": "coin", "data": "purse(size=5)", "moves": "shaved", "countermoves": "none", "models": "thumb"}
        out = folder / "run"
        play(resolve(make_config({**audit, "engine": {"threads": 1}})), out)
        for path in sorted((out / "cells").glob("*.json")):
            record = json.loads(path.read_text())
            if record["status"] == "ok":
                path.write_text(json.dumps(change(out, record) or record))
        return out

    return build


def changed(**parts: Any) -> Build:
    return hostile_run(lambda _, record: {**record, **parts})


def without(part: str) -> Build:
    return hostile_run(lambda _, record: {name: value for name, value in record.items() if name != part})


def plan_of(cells: Any) -> Build:
    return hostile_run(lambda out, _: (out / "plan.json").write_text(json.dumps({"cells": cells})) and None)


HUGE = "9" * 6000
ZEROS = bytes(20 * 2**20)
DEEP = "[" * 200_000

FILES: dict[str, tuple[str, Build]] = {
    # pictures
    "huge.png": ("picture", file("x.png", hostile.huge_png)),
    "huge.bmp": ("picture", file("x.bmp", hostile.huge_bmp)),
    "huge.jpg": ("picture", file("x.jpg", hostile.huge_jpeg)),
    "huge.webp": ("picture", file("x.webp", hostile.huge_webp)),
    "nearly-huge.png": ("picture", file("x.png", lambda: hostile.huge_png(7000))),
    "nearly-huge.bmp": ("picture", file("x.bmp", lambda: hostile.huge_bmp(7000))),
    "text-bomb.png": ("picture", file("x.png", hostile.text_bomb_png)),
    "international-text-bomb.png": ("picture", file("x.png", lambda: hostile.text_bomb_png(b"iTXt"))),
    "profile-bomb.png": ("picture", file("x.png", lambda: hostile.text_bomb_png(b"iCCP"))),
    "animated.png": ("picture", file("x.png", lambda: hostile.animated("PNG"))),
    "gif.png": ("picture", file("x.png", lambda: hostile.animated("GIF"))),
    "cut.jpg": ("picture", file("x.jpg", lambda: hostile.encoded(hostile.noise(), "JPEG")[:200])),
    "many-scans.jpg": ("picture", file("x.jpg", hostile.many_scans_jpeg)),
    "lying.webp": ("picture", file("x.webp", b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff/")),
    "link-out.png": ("pictures", link("../secret.png", "a.png")),
    "link-to-folder": ("pictures", link("..", "a")),
    # arrays
    "objects.npy": ("npy", with_canary("x.npy", lambda canary: hostile.object_npy(hostile.calling(canary)))),
    "bare-pickle.npy": ("npy", with_canary("x.npy", hostile.calling)),
    "lying-shape.npy": (
        "npy",
        file("x.npy", hostile.npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}\n")),
    ),
    "negative-shape.npy": (
        "npy",
        file("x.npy", hostile.npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 1<<90)}\n")),
    ),
    "deep-header.npy": ("npy", file("x.npy", hostile.npy_header("{'descr': " + "-" * 9000 + "1}\n"))),
    "open-header.npy": ("npy", file("x.npy", hostile.npy_header("{'descr': '''\n"))),
    "long-header.npy": ("npy", file("x.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff{")),
    "objects.npz": ("npz", file("x.npz", hostile.pickled_npz)),
    "bomb-9-gib.npz": ("npz", file("x.npz", lambda: hostile.bomb_npz(9 * 1024))),
    "bomb-3-gib.npz": ("npz", file("x.npz", lambda: hostile.bomb_npz(3 * 1024))),
    "lying-size.npz": (
        "npz",
        file("x.npz", lambda: hostile.zip_of("x_train.npy", hostile.zeros_deflated(3000), 100)),
    ),
    "odd-packing.npz": ("npz", file("x.npz", hostile.zip_of("x_train.npy", b"\0" * 50, 2**31, method=14))),
    "travelling.npz": ("npz", with_canary("x.npz", travelling_npz)),
    "nested.npz": ("npz", file("x.npz", nested_zip)),
    "quine.npz": ("npz", file("x.npz", lambda: zip_quine("x_train.npy"))),
    # pickles
    "objects-that-call": (
        "conversion",
        with_canary("x.npy", lambda canary: hostile.object_npy(hostile.calling(canary))),
    ),
    "memo-bomb": ("conversion", file("x.npy", hostile.object_npy(hostile.MEMO_BOMB))),
    "hash-bomb": ("conversion", file("x.npy", hostile.object_npy(hostile.HASH_BOMB))),
    "array-bomb": ("conversion", file("x.npy", lambda: hostile.object_npy(hostile.array_bomb()))),
    "encode-bomb": ("conversion", file("x.npy", lambda: hostile.object_npy(hostile.encode_bomb()))),
    "frame-bomb": ("conversion", file("x.npy", hostile.object_npy(b"\x80\x04\x95" + b"\xff" * 7 + b"\x3f."))),
    "bytes-bomb": ("conversion", file("x.npy", hostile.object_npy(b"\x80\x04\x8e" + b"\0\0\0\0\x80\0\0\0."))),
    "bytearray-bomb": ("conversion", file("x.npy", hostile.object_npy(b"\x80\x05\x96" + b"\0\0\0\0\x80\0\0\0."))),
    "outside-object": ("conversion", file("x.npy", hostile.object_npy(b"\x80\x02" + hostile.doubled(100) + b"Q."))),
    "changed-stand-in": (
        "conversion",
        file("x.npy", hostile.object_npy(b"\x80\x02c_codecs\nencode\nN}X\1\0\0\0ah\0s\x86b.".replace(b"h\0", b"K\1"))),
    ),
    "truth-that-calls": ("truth", with_canary("gnd_x.pkl", hostile.calling)),
    "truth-memo-bomb": ("truth", file("gnd_x.pkl", hostile.MEMO_BOMB)),
    "truth-hash-bomb": ("truth", file("gnd_x.pkl", hostile.HASH_BOMB)),
    "cifar-that-calls": ("cifar10", cifar_that_calls),
    # weights
    "calling.pt": ("state", with_canary("x.pt", torch_zip(lambda canary: pickle.dumps(Touches(canary), 2)))),
    "calling-old.pt": ("state", with_canary("x.pth", lambda canary: pickle.dumps(Touches(canary), 2))),
    "calling-tree.pt": ("tree", with_canary("x.pt", torch_zip(lambda at: pickle.dumps({"a": Touches(at)}, 2)))),
    "tar.pt": ("state", with_canary("x.pt", torch_tar)),
    "bomb.pt": ("state", file("x.pt", lambda: hostile.zip_of("w/data.pkl", hostile.zeros_deflated(3000), 3000 << 20))),
    "quine.pt": ("state", file("x.pt", lambda: zip_quine("x/data.pkl"))),
    "memo-bomb.pt": ("state", with_canary("x.pt", torch_zip(lambda _: hostile.MEMO_BOMB))),
    "long-header.safetensors": ("state", file("x.safetensors", hostile.safetensors_of(b"{}", length=2**63))),
    "cut-header.safetensors": ("state", file("x.safetensors", hostile.safetensors_of(b"{}", length=50_000_000))),
    "deep-header.safetensors": ("state", file("x.safetensors", hostile.safetensors_of(b'{"a":' + DEEP.encode()))),
    "wide-header.safetensors": (
        "state",
        file("x.safetensors", lambda: hostile.safetensors_of(b'{"a":[' + b"0," * 40_000_000 + b"0]}")),
    ),
    "outside-data.safetensors": (
        "state",
        file(
            "x.safetensors",
            hostile.safetensors_of({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(8)),
        ),
    ),
    "lying-shape.safetensors": (
        "state",
        file(
            "x.safetensors",
            hostile.safetensors_of({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}, bytes(8)),
        ),
    ),
    "unknown-kind.safetensors": (
        "state",
        file(
            "x.safetensors",
            hostile.safetensors_of({"a": {"dtype": "OBJ", "shape": [1], "data_offsets": [0, 8]}}, bytes(8)),
        ),
    ),
    "pickle.safetensors": ("state", with_canary("x.safetensors", hostile.calling)),
    # audit files
    "large.toml": ("audit", file("x.toml", lambda: b"x = '" + b"a" * 2_000_000 + b"'")),
    "endless.toml": ("audit", lambda _: Path("/dev/zero")),
    "deep-list.toml": ("audit", file("x.toml", b"a = " + b"[" * 100_000)),
    "deep-table.toml": ("audit", file("x.toml", b"a = " + b"{a = " * 3000)),
    "long-key.toml": ("audit", file("x.toml", b"a." * 400_000 + b"a = 1")),
    "long-quoted-key.toml": ("audit", file("x.toml", b'"\\"".' * 150_000 + b"a = 1")),
    "many-tables.toml": ("audit", file("x.toml", b"".join(b"[a%d]\n" % i for i in range(100_000)))),
    "huge-number.toml": ("audit", file("x.toml", f"seeds = {HUGE}".encode())),
    "huge-hexadecimal.toml": ("audit", file("x.toml", b"moves = [0x" + b"f" * 9000 + b"]")),
    "many-seeds.toml": (
        "audit",
        file("x.toml", b"data='a'\nmoves='a'\ncountermoves='a'\nmodels='a'\nseeds=9999999999"),
    ),
    # sound
    "lying-length.wav": ("sound", file("x.wav", wav(told=2**31))),
    "no-channels.wav": ("sound", file("x.wav", wav(channels=0))),
    "many-channels.wav": ("sound", file("x.wav", wav(channels=30000))),
    "wide.wav": ("sound", file("x.wav", wav(width=64))),
    "timeless.wav": ("sound", file("x.wav", wav(rate=0))),
    # tables and manifests
    "huge-field.csv": ("table", file("x.csv", b'user\n"' + b"a" * 3_000_000 + b'"\n')),
    "binary.csv": ("rows", file("x.csv", b"user\n\xff\xfe\n")),
    "rows-bomb.parquet": ("table", file("x.parquet", rows_parquet)),
    "lying.parquet": ("table", file("x.parquet", b"PAR1" + b"\xff" * 100 + b"\xff\xff\xff\x7fPAR1")),
    "packed-cells.parquet": ("imagefolder", in_folder("train.parquet", lambda: packed_parquet("image", ZEROS, 10**5))),
    "large-cell.parquet": ("imagefolder", in_folder("train.parquet", lambda: row_group_parquet("image", 1))),
    "row-group-bomb.parquet": ("imagefolder", in_folder("train.parquet", lambda: row_group_parquet("image", 21))),
    "nested.parquet": ("table", file("x.parquet", nested_parquet)),
    "row-group-bomb-table.parquet": ("table", file("x.parquet", lambda: row_group_parquet("user", 21))),
    "outside.csv": ("listed", table("x.csv", "picture,group\n../secret.png,a\n", folder_is_read=False)),
    "outside-absolute.csv": ("listed", table("x.csv", "picture,group\n/etc/passwd,a\n", folder_is_read=False)),
    "outside.jsonl": ("imagefolder", table("metadata.jsonl", '{"file_name": "../secret.png", "label": 0}')),
    "long-name.jsonl": ("imagefolder", table("metadata.jsonl", '{"file_name": "' + "a" * 5000 + '", "label": 0}')),
    "half-a-letter.jsonl": ("imagefolder", table("metadata.jsonl", '{"file_name": "\\ud800.png", "label": 0}')),
    "deep.jsonl": ("imagefolder", table("metadata.jsonl", DEEP)),
    "huge-number.jsonl": ("imagefolder", table("metadata.jsonl", '{"file_name": "a.png", "label": ' + HUGE + "}")),
    "link.jsonl": ("imagefolder", linked_and_labelled),
    "deep-manifest": ("manifest", table("manifest.jsonl", '{"format": 1}\n' + DEEP + "\n")),
    "numbered-manifest": ("manifest", table("manifest.jsonl", '{"format": 1}\n{"id": ' + HUGE + "}\n")),
    "link-manifest": ("manifest", linked_manifest),
    # run folders
    "run-without-metrics": ("run", without("metrics")),
    "run-without-units": ("page", without("units")),
    "run-of-texts": ("page", changed(metrics={"accuracy": "<script>"})),
    "run-of-endless-numbers": ("page", changed(chance=1e400)),
    "run-of-uneven-units": ("run", changed(units={"ids": ["a"], "outcome": [1, 2], "counted": None})),
    "run-of-lists": ("run", changed(needs=["../../secret.png"])),
    "run-planned-outside": ("run", plan_of([{"key": "k", "setting": {"arena": "../../secret"}}])),
}

HARMLESS: dict[str, tuple[str, Build]] = {
    # what is wrong with these is left out, and the rest is read
    "data-bomb.png": ("picture", file("x.png", hostile.data_bomb_png)),
    "49-megapixels.png": ("picture", file("x.png", lambda: hostile.encoded(Image.new("P", (7000, 7000))))),
    "checkpoint-deep": ("checkpoint", file("x.safetensors", hostile.safetensors_of(b'{"a":' + DEEP.encode()))),
    "checkpoint-facts": (
        "checkpoint",
        file("x.safetensors", hostile.safetensors_of({"__metadata__": {"facts": DEEP}})),
    ),
    "checkpoint-number": (
        "checkpoint",
        file("x.safetensors", hostile.safetensors_of({"__metadata__": {"facts": HUGE}})),
    ),
    "run-numbers": ("run", hostile_run(lambda out, record: (out / "cells" / "a.json").write_text(HUGE) and record)),
    "run-plan-is-a-path": ("run", plan_of([{"key": "../../secret", "setting": {}}])),
    "run-plan-is-a-list": ("run", plan_of("../../secret")),
    "run-needs-outside": ("page", changed(needs={"move": "../../../secret.png"})),
    "packed-texts.parquet": ("table", file("x.parquet", lambda: packed_parquet("user", "a" * 10**7, 10**5))),
}


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str, int]]:
    """How every file was taken, after all of them were read."""
    root = tmp_path_factory.mktemp("strangers")
    asked, outside = [], []
    for name, (reader, build) in (FILES | HARMLESS).items():
        inside = root / name / "inside"
        inside.mkdir(parents=True)
        (inside.parent / "secret.png").write_bytes(SECRET)
        asked.append([reader, str(build(inside))])
        outside.append(inside.parent)
    done = subprocess.run(
        [sys.executable, READER, str(CAP)], input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for folder in outside:
        assert sorted(path.name for path in folder.iterdir()) == ["inside", "secret.png"], f"{folder.name} got out"
        assert (folder / "secret.png").read_bytes() == SECRET
    assert not list(root.rglob("canary")), "code was run"
    found = json.loads(done.stdout)
    assert len(found) == len(asked)
    return {name: tuple(end) for name, end in zip(FILES | HARMLESS, found, strict=True)}


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_by_name_at_little_cost(name: str, ends: dict[str, tuple[str, str, int]]) -> None:
    how, words, peak = ends[name]
    assert how in {"ConfigError", "DataError", "RunError", "WeightsError"}, words
    assert 20 < len(words) < 2000
    assert 0 <= peak < CAP


@pytest.mark.parametrize("name", HARMLESS)
def test_what_cannot_be_believed_is_left_out(name: str, ends: dict[str, tuple[str, str, int]]) -> None:
    how, words, peak = ends[name]
    assert how in {"read", "nothing"}, words
    assert peak < CAP


def test_the_quine_holds_itself() -> None:
    whole = zip_quine("x_train.npy")
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.read("x_train.npy") == whole


def test_the_checks_would_see_a_reader_that_obeys(tmp_path: Path) -> None:
    """The canary sings for Python's own reader, and memory is measured."""
    inside = tmp_path / "inside"
    inside.mkdir()
    path = with_canary("x.pkl", hostile.calling)(inside)
    with path.open("rb") as opened:
        pickle.load(opened)
    assert (tmp_path / "canary").exists()
    sound = inside / "x.wav"
    with wave.open(str(sound), "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(40 * 2**20))
    asked = json.dumps([["sound", str(sound)]])
    done = subprocess.run([sys.executable, READER, str(CAP)], input=asked, capture_output=True, text=True, check=True)
    ((how, _, peak),) = json.loads(done.stdout)
    assert how == "read"
    assert peak > 150 * 2**20
