"""Make the CIFAR-10 excerpt that ships with the package.

    python tools/make_cifar10_mini.py PATH/cifar10_lossless.npz

Takes the pictures with an original index below 4,000 (train) and 1,000 (test), in original order. Layouts from 1 to 50
pictures a row were measured: all give 10.8 MB, so the one that is nicest to look at was taken. The same Pillow (its
zlib-ng) gives the same bytes; another may pack the same pixels into other bytes.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from countermove.pixels.bundled import CLASSES, MINI
from countermove.pixels.files import read_npz, write_atomic

COUNTS = {"train": 4000, "test": 1000}
TILES_A_ROW = 50


def make(source: Path, folder: Path) -> int:
    """Write the sprite sheets, labels.csv and SHA256SUMS. Returns their total size in bytes."""
    arrays = read_npz(source, ["class_names", "x_train", "y_train", "train_index", "x_test", "y_test", "test_index"])
    if tuple(arrays["class_names"].tolist()) != CLASSES:
        raise SystemExit(f"{source} names other classes: {arrays['class_names'].tolist()}")
    files = {}
    rows = []
    for split, count in COUNTS.items():
        index = arrays[f"{split}_index"]
        order = np.argsort(index)[:count]
        if not np.array_equal(index[order], np.arange(count)):
            raise SystemExit(f"{source} lacks some of the first {count} {split} pictures")
        files[f"{split}.png"] = _sheet(arrays[f"x_{split}"][order])
        rows += [(f"{split}/{i:05d}", CLASSES[arrays[f"y_{split}"][at]]) for i, at in enumerate(order)]
    files["labels.csv"] = _table(rows)
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    files["SHA256SUMS"] = sums.encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_atomic(folder / name, data)
    return sum(len(data) for data in files.values())


def _sheet(pictures: np.ndarray) -> bytes:
    """Tile uint8 [N, S, S, 3] row by row."""
    n, side = pictures.shape[:2]
    tiles = pictures.reshape(n // TILES_A_ROW, TILES_A_ROW, side, side, 3).swapaxes(1, 2)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(tiles.reshape(-1, TILES_A_ROW * side, 3))).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _table(rows: Sequence[tuple[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "class"])
    writer.writerows(rows)
    return text.getvalue().encode()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="cifar10_lossless.npz")
    parser.add_argument("--out", type=Path, default=MINI, help="folder to write to (default: inside the package)")
    arguments = parser.parse_args()
    print(f"{make(arguments.source, arguments.out):,} bytes in {arguments.out}")
