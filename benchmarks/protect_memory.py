"""Peak memory of ``countermove protect unlearnable`` over few and over many pictures, and its speed beside decoding.

Each folder is protected in a process of its own, with a method that needs no network; the pictures are noise of 32 x 32
pixels in ten classes. Printed are the largest resident memory of each process, the ratio, and the same beyond what the
process has once its libraries are loaded; then how many pictures a second are protected (read, moved, rounded, written,
flushed to the disk, measured), and how many of the same files are only read and decoded by the same process before.

    python benchmarks/protect_memory.py [few many]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

METHOD = "linear-separable"
SIDE, CLASSES = 32, 10
DECODED = 5_000


def make(folder: Path, count: int) -> None:
    """Write noise pictures in class folders."""
    chance = np.random.default_rng(0)
    for k in range(CLASSES):
        (folder / f"class-{k}").mkdir(parents=True)
    for i in range(count):
        picture = chance.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"class-{i % CLASSES}" / f"{i:06d}.png", compress_level=0)


def protect(source: Path, out: Path) -> None:
    """Protect a folder; print pictures, memory in use before and at the peak, pictures a second: protected, decoded."""
    from countermove.pixels.files import read_picture
    from countermove.unlearnable.protect import METHODS, protect_folder

    composition = METHODS.compose("move", METHOD)
    _ = composition.method
    few = sorted((source / "class-0").iterdir())[:DECODED]
    began = time.perf_counter()
    for path in few:
        read_picture(path)
    decoded = len(few) / (time.perf_counter() - began)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    done = protect_folder(source, out, composition)
    seconds = time.perf_counter() - began
    assert done.written == done.pictures
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([done.pictures, before * 1024, peak * 1024, done.written / seconds, decoded]))


def measured(count: int) -> int:
    """Protect so many pictures; print memory before and at the peak, and both speeds. Returns the peak."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "in", count)
        command = [sys.executable, __file__, "--protect", f"{folder}/in", f"{folder}/out"]
        pictures, *found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        before, peak, protected, decoded = found
        print(
            f"{count:,} pictures: {peak / 2**20:.0f} MiB at the peak, {(peak - before) / 2**20:.0f} of them its own; "
            f"{protected:.0f} a second protected, {decoded:.0f} a second decoded (ratio {protected / decoded:.3f})",
            flush=True,  # removing many files takes its time
        )
    assert pictures == count
    return peak


def main() -> None:
    """Measure both."""
    if sys.argv[1:2] == ["--protect"]:
        protect(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    few, many = (int(word) for word in sys.argv[1:3]) if len(sys.argv) > 2 else (2_000, 10_000)
    peaks = [measured(count) for count in (few, many)]
    print(f"ratio of the peaks {peaks[1] / peaks[0]:.3f} (at most 1.1 is flat)")


if __name__ == "__main__":
    main()
