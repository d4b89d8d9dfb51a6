"""Peak memory of ``countermove protect unlearnable`` over 2,000 and over 10,000 pictures: it should be the same.

Each folder is protected in a process of its own, with a method that needs no network; the pictures are noise of 32 x 32
pixels in ten classes. Printed are the largest resident memory of each process, the ratio, and the same beyond what the
process has once its libraries are loaded.

    python benchmarks/protect_memory.py [few many]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

METHOD = "linear-separable"
SIDE, CLASSES = 32, 10


def make(folder: Path, count: int) -> None:
    """Write noise pictures in class folders."""
    chance = np.random.default_rng(0)
    for k in range(CLASSES):
        (folder / f"class-{k}").mkdir(parents=True)
    for i in range(count):
        picture = chance.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"class-{i % CLASSES}" / f"{i:06d}.png", compress_level=0)


def protect(source: Path, out: Path) -> None:
    """Protect a folder and print the memory in use before it, and at its peak, in bytes."""
    from countermove.unlearnable.protect import METHODS, protect_folder

    composition = METHODS.compose("move", METHOD)
    _ = composition.method
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = protect_folder(source, out, composition)
    assert done.written == done.pictures
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([done.pictures, before * 1024, peak * 1024]))


def measured(count: int) -> tuple[int, int]:
    """Return the memory before and at the peak of protecting so many pictures."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "in", count)
        command = [sys.executable, __file__, "--protect", f"{folder}/in", f"{folder}/out"]
        pictures, before, peak = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert pictures == count
    return before, peak


def main() -> None:
    """Measure both."""
    if sys.argv[1:2] == ["--protect"]:
        protect(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    few, many = (int(word) for word in sys.argv[1:3]) if len(sys.argv) > 2 else (2_000, 10_000)
    (before_few, peak_few), (before_many, peak_many) = measured(few), measured(many)
    for count, before, peak in ((few, before_few, peak_few), (many, before_many, peak_many)):
        print(f"{count:,} pictures: {peak / 2**20:.0f} MiB at the peak, {(peak - before) / 2**20:.0f} of them its own")
    print(f"ratio of the peaks {peak_many / peak_few:.3f} (at most 1.1 is flat)")


if __name__ == "__main__":
    main()
