"""Data sets that lie in files: byte for byte what they are in memory, read in order, at bounded memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tests import hostile
from tests.game.coin_audits import artifacts, cells
from tests.mapping import lies_in
from tests.unlearnable.audits import played
from tests.unlearnable.rows import MOVE_ROWS

from countermove.errors import DataError
from countermove.pixels import mapped
from countermove.pixels import parquet as strangers
from countermove.pixels.decode import Limits
from countermove.unlearnable.data import parquet
from countermove.unlearnable.data.cifar import Cifar10Mini
from countermove.unlearnable.data.folders import Folder
from countermove.unlearnable.data.hf import HfFolder
from countermove.unlearnable.dataset import DataSet
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.play import move_and_round, move_in_portions
from countermove.unlearnable.poison import Context, in_portions


def spelled(name: str, settings: str) -> str:
    return f"{name}({settings})" if settings else name


STREAMING = [
    (name, row.settings)
    for name, rows in MOVE_ROWS.items()
    for row in rows
    if not row.needs_file and in_portions(METHODS.compose("move", spelled(name, row.settings)).method)
]


def map_above(monkeypatch: pytest.MonkeyPatch, folder: Path, size: int) -> None:
    """Have tensors above a size lie in files, and small portions."""
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("COUNTERMOVE_MAP_ABOVE", str(size))
    monkeypatch.setenv("COUNTERMOVE_SCRATCH", str(folder))
    monkeypatch.setattr(mapped, "PORTION_PIXELS", 7 * 32 * 32)


def write_folder(root: Path, each: int = 24) -> None:
    for k, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(hostile.noise(32, 32, seed=100 * k + i)).save(root / name / f"{i:03d}.png")


def write_shards(root: Path, shards: int = 3, each: int = 10, groups: int = 4) -> list[np.ndarray]:
    """Write noise into shards with several row groups; return the pictures in their order."""
    made = []
    for shard in range(shards):
        own = [hostile.noise(seed=100 * shard + i) for i in range(each)]
        images = [{"bytes": hostile.encoded(one), "path": None} for one in own]
        table = pa.table({"image": images, "label": [i % 2 for i in range(each)]})
        pq.write_table(table, root / f"train-{shard:05d}-of-{shards:05d}.parquet", row_group_size=groups)
        made += own
    return made


def same(one: DataSet, other: DataSet) -> bool:
    parts = ((one.train, other.train), (one.test, other.test))
    return one.digest == other.digest and all(
        torch.equal(a.pictures, b.pictures) and torch.equal(a.labels, b.labels) and a.ids == b.ids for a, b in parts
    )


def test_readers_give_the_same_data_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "folder")
    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards")
    (tmp_path / "folder" / "cat" / "005.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    readers = (
        Folder(path=str(tmp_path / "folder"), on_broken="skip"),
        HfFolder(path=str(tmp_path / "shards"), side=5),
        Cifar10Mini(train_limit=100, test_limit=20),
    )
    for reader in readers:
        in_memory = reader()
        with monkeypatch.context() as patch:
            map_above(patch, tmp_path / "scratch", 100)
            in_file = reader()
        assert same(in_memory, in_file)
        for part, plain in ((in_file.train, in_memory.train), (in_file.test, in_memory.test)):
            assert lies_in(part.pictures, tmp_path / "scratch")
            assert not lies_in(plain.pictures, tmp_path / "scratch")
            assert part.pictures.is_contiguous()


@pytest.mark.parametrize(("name", "settings"), STREAMING, ids=lambda case: str(case))
def test_a_move_in_portions_is_the_same_move(name: str, settings: str, monkeypatch: pytest.MonkeyPatch) -> None:
    poison = METHODS.compose("move", spelled(name, settings)).method
    train = Cifar10Mini(train_limit=100, test_limit=10)().train
    rows = torch.arange(100)[torch.arange(100) % 5 != 2]
    whole = move_and_round(poison, train.batch(rows), Context(seed=3))
    monkeypatch.setattr(mapped, "PORTION_PIXELS", 7 * 32 * 32)
    stored, budget = move_in_portions(poison, train, rows, Context(seed=3))
    assert torch.equal(stored, whole[0])
    assert budget == whole[1]


def results(out: Path, data: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Play a small audit; return its cells without times, and the bytes of its artifacts."""
    summary, _ = played(
        out,
        data=[data, f"{data}+moved(fraction=0.5)"],
        moves=[
            "linear-separable",
            "regions",
            "error-minimizing(rounds=1, batches=1, surrogate='small-cnn(width=0.1)')",
        ],
        countermoves=["gray", "jpeg", "detect-linear(then=squeeze, threshold=0.01, confidence=0.01, epochs=1)"],
    )
    assert not summary.unfinished
    return cells(out), artifacts(out)


def test_an_audit_of_data_in_files_is_the_same_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "data")
    data = f"folder(path='{tmp_path / 'data'}')"
    played_in_memory, stored = results(tmp_path / "memory", data)
    map_above(monkeypatch, tmp_path / "scratch", 100)
    again = results(tmp_path / "files", data)
    assert len(played_in_memory) > 10
    assert any(name.endswith("moved.safetensors") for name in stored)
    assert any("test-" in name for name in stored)
    assert again[1] == stored
    assert again[0] == played_in_memory


def rows_of(table: Sequence[np.ndarray], chosen: Sequence[int]) -> np.ndarray:
    return np.stack([table[i] for i in chosen]).transpose(0, 3, 1, 2)


def test_shards_are_read_in_order_a_few_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write_shards(tmp_path, shards=11)
    read: list[tuple[str, int]] = []
    batches = parquet.CellReader._batches

    def watched(self: parquet.CellReader, file: Path, row: int) -> Any:
        read.append((file.name[6:11], row))
        for first, batch in batches(self, file, row):
            assert len(batch) <= 4
            yield first, batch

    monkeypatch.setattr(parquet.CellReader, "_batches", watched)
    data = HfFolder(path=str(tmp_path), test_fraction=0.3)()
    for part in (data.train, data.test):
        numbers = [int(name.removeprefix("train/")) for name in part.ids]
        assert numbers == sorted(numbers)
        np.testing.assert_array_equal(part.pictures.numpy(), rows_of(made, numbers))
        assert part.labels.tolist() == [number % 10 % 2 for number in numbers]
    assert len(data.train) + len(data.test) == 110
    shards = [shard for shard, _ in read[1:]]  # the first picture is read once before all, for its size
    turn = next(i for i in range(1, len(shards)) if shards[i] < shards[i - 1])
    assert shards[:turn] == sorted(shards[:turn])
    assert shards[turn:] == sorted(shards[turn:])
    assert len(read) <= 1 + 2 * 11 * 3, "every row group is opened once for train and once for test pictures"


@pytest.mark.parametrize("damage", ["cut", "garbled"])
def test_a_broken_shard_is_named(tmp_path: Path, damage: str) -> None:
    write_shards(tmp_path)
    shard = tmp_path / "train-00001-of-00003.parquet"
    content = bytearray(shard.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content[4:300] = bytes(296)  # the first pages; what the end says of them is whole
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"train-00001-of-00003\.parquet cannot be read as Parquet"):
        HfFolder(path=str(tmp_path))()


def test_cells_and_row_groups_have_a_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(tmp_path)
    reader, shard = parquet.CellReader("image"), tmp_path / "train-00001-of-00003.parquet"
    encoded = hostile.encoded(hostile.noise(seed=107))
    content = reader.content(shard, 7, name="x", limits=Limits())
    assert content == encoded
    size = len(encoded)
    assert reader.content(shard, 7, name="x", limits=Limits(max_bytes=size)) == encoded
    with pytest.raises(DataError, match=rf"00001-of-00003.*row x has {size} bytes; at most {size - 1} are read"):
        reader.content(shard, 7, name="x", limits=Limits(max_bytes=size - 1))
    declared = max(
        group.column(0).total_uncompressed_size
        + group.column(1).total_uncompressed_size
        + group.column(2).total_uncompressed_size
        for path in sorted(tmp_path.iterdir())
        for group in (pq.read_metadata(path).row_group(i) for i in range(3))
    )
    monkeypatch.setattr(strangers, "MAX_ROW_GROUP", declared)
    HfFolder(path=str(tmp_path))()
    monkeypatch.setattr(strangers, "MAX_ROW_GROUP", declared - 1)
    with pytest.raises(DataError, match=r"row group \d unpacks to .* bytes; at most .* are read"):
        HfFolder(path=str(tmp_path))()


PEAK = """
import re, sys, threading, time
import numpy as np, torch
from pathlib import Path
from PIL import Image
from countermove.learning.augment import Bordered, Window
from countermove.pixels.randomness import generator
from countermove.pixels.squeezes import gray, squeeze_uint8
from countermove.unlearnable.data.folders import Folder
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.play import move_in_portions
from countermove.unlearnable.poison import Context

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

def work(data):
    poison = METHODS.compose("move", "regions").method
    stored, _ = move_in_portions(poison, data.train, torch.arange(len(data.train)), Context(seed=0))
    squeezed = squeeze_uint8(stored, gray)
    window = Window.draw(2, 800, 800, crop=4, flip=True, generator=generator(0))
    Bordered(squeezed, 4, "cpu").look(window, torch.tensor([0, 1]))
    return data.digest

torch.set_num_threads(1)
peaks, done = [0], False
def sample():
    while not done:
        peaks[-1] = max(peaks[-1], anonymous())
        time.sleep(0.002)
thread = threading.Thread(target=sample)
thread.start()
try:
    for path in sys.argv[1:]:
        data = Folder(path=path)()
        work(data)
        size = data.train.pictures.numel() + data.test.pictures.numel()
        del data
        peaks.append(0)
finally:
    done = True
    thread.join()
print(size, peaks[1] - peaks[0])
"""


def test_memory_does_not_grow_with_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("small", 16), ("large", 80)):
        for k in range(2):
            (tmp_path / name / f"class-{k}").mkdir(parents=True)
        for i in range(count):
            picture = np.full((800, 800, 3), i, dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"class-{i % 2}" / f"{i}.bmp")
    monkeypatch.setenv("COUNTERMOVE_MAP_ABOVE", str(2**20))
    monkeypatch.setenv("COUNTERMOVE_SCRATCH", str(tmp_path))
    command = [sys.executable, "-c", PEAK, str(tmp_path / "small"), str(tmp_path / "large")]
    size, grown = map(int, subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.split())
    assert size > 140 * 2**20  # and as much again for what is stored and what is squeezed
    assert grown < 80 * 2**20
