"""Peak memory of an audit over few and over many pictures: what is anonymous should hardly grow.

The pictures are made up: noise of 64 x 64 pixels in ten classes, each with a colour of its own, in Parquet shards of
1,000 as Hugging Face writes them. Each audit is played in a process of its own: moves none and linear-separable,
replies none and gray, a tiny network, one epoch. Data sets above 16 MiB lie in files, so that both sizes do.

A thread samples /proc/self/status. Anonymous memory is what only this process can hold; the rest are pages of files,
which the kernel drops when memory is short. Printed are both peaks, their ratios, and what is
anonymous beyond the libraries as a share of the pictures' bytes.

    python benchmarks/audit_memory.py [few many]
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SIDE, CLASSES, SHARD = 64, 10, 1_000
MAP_ABOVE = 16 * 2**20


def make(folder: Path, count: int) -> None:
    """Write pictures in Parquet shards."""
    chance = np.random.default_rng(0)
    colours = chance.integers(64, 192, (CLASSES, 3))
    for shard in range(0, count, SHARD):
        rows = range(shard, min(shard + SHARD, count))
        images = [{"bytes": _encoded(chance, colours[i % CLASSES]), "path": None} for i in rows]
        table = pa.table({"image": images, "label": [i % CLASSES for i in rows]})
        pq.write_table(table, folder / f"train-{shard // SHARD:05d}.parquet", row_group_size=100)


def _encoded(chance: np.random.Generator, colour: np.ndarray) -> bytes:
    picture = (colour + chance.integers(-60, 60, (SIDE, SIDE, 3))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


class Sampled(threading.Thread):
    """Looks at this process's memory every 5 ms; peaks in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.anonymous, self.resident = 0, 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Look until it is ended."""
        while not self.ended.wait(0.005):
            self.look()

    def look(self) -> tuple[int, int]:
        """Return anonymous and resident memory now, and remember the peaks."""
        told = Path("/proc/self/status").read_text()
        anonymous, resident = (int(re.findall(rf"{name}:\s+(\d+)", told)[0]) * 1024 for name in ("RssAnon", "VmRSS"))
        self.anonymous, self.resident = max(self.anonymous, anonymous), max(self.resident, resident)
        return anonymous, resident


def audit(source: Path, out: Path) -> None:
    """Play an audit; print the memory once the libraries are loaded, the peaks, and the seconds."""
    from countermove.game.config import make_config
    from countermove.game.run import play, resolve
    from countermove.unlearnable.play import play_cell  # torch and what comes with it

    assert callable(play_cell)
    sampled = Sampled()
    anonymous, resident = sampled.look()
    sampled.start()
    began = time.perf_counter()
    table = {
        "arena": "unlearnable",
        "data": f"hf-folder(path='{source}')",
        "moves": ["linear-separable(eps=2.608, patch_size=16)"],
        "countermoves": ["none", "gray"],
        "models": ["small-cnn(width=0.1)"],
        "seeds": 1,
        "training": {"epochs": 1, "batch_size": 128},
        "engine": {"threads": 1, "workers": 1},
    }
    summary = play(resolve(make_config(table)), out)
    assert not summary.unfinished, [done.error for done in summary.unfinished]
    seconds = time.perf_counter() - began
    sampled.ended.set()
    sampled.join()
    print(json.dumps([summary.cells, anonymous, sampled.anonymous, resident, sampled.resident, seconds]))


def measured(count: int) -> tuple[int, int, int]:
    """Play an audit of so many pictures; print what it took. Returns anonymous memory before and at the peak; all."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        make(source, count)
        command = [sys.executable, __file__, "--audit", str(source), f"{folder}/out"]
        environment = {**os.environ, "COUNTERMOVE_MAP_ABOVE": str(MAP_ABOVE)}
        told = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout
    cells, before, anonymous, _, resident, seconds = json.loads(told)
    size, own = count * SIDE * SIDE * 3, anonymous - before
    print(
        f"{count:,} pictures, {size / 2**20:.0f} MiB: at the peak {anonymous / 2**20:.0f} MiB anonymous, "
        f"{own / 2**20:.0f} of them its own ({own / size:.2f} of the pictures' bytes); "
        f"{resident / 2**20:.0f} MiB resident with pages of files; {cells} cells in {seconds:.0f} s",
        flush=True,
    )
    return before, anonymous, resident


def main() -> None:
    """Measure both."""
    if sys.argv[1:2] == ["--audit"]:
        audit(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    few, many = (int(word) for word in sys.argv[1:3]) if len(sys.argv) > 2 else (3_000, 20_000)
    (_, anonymous_few, resident_few), (_, anonymous_many, resident_many) = measured(few), measured(many)
    print(
        f"{many / few:.1f} times the pictures: {anonymous_many / anonymous_few:.3f} times the anonymous memory, "
        f"{resident_many / resident_few:.3f} times the resident"
    )


if __name__ == "__main__":
    main()
