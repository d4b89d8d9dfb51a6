"""The excerpt of CIFAR-10 that ships with the package. Needs no torch."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from countermove.errors import DataError
from countermove.pixels.files import read_picture

MINI = Path(__file__).parent / "cifar10_mini"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32


def mini_files(folder: Path = MINI) -> list[tuple[str, Path]]:
    """Return the names and paths of its files, for a fingerprint.

    Raises:
        DataError: when they are not there.
    """
    return [(name, folder / name) for name in sorted(_sums(folder))]


def check_mini(folder: Path = MINI) -> None:
    """Compare its files with their hashes.

    Raises:
        DataError: when one is absent or damaged.
    """
    for name, digest in _sums(folder).items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise DataError(f"{path}, which ships with countermove, is damaged or absent; install countermove again")


def read_mini(split: str, *, limit: int | None = None, folder: Path = MINI) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return pictures uint8 [N, 32, 32, 3], rows of CLASSES [N], and ids of "train" or "test", in original order.

    Args:
        split: which.
        limit: the first n alone; None: all.
        folder: where they lie; see `check_mini`.
    """
    rows = list(_rows(folder / "labels.csv", split))[:limit]
    sheet = read_picture(folder / f"{split}.png")
    tiles = sheet.reshape(sheet.shape[0] // SIDE, SIDE, sheet.shape[1] // SIDE, SIDE, 3).swapaxes(1, 2)
    labels = np.array([CLASSES.index(label) for _, label in rows])
    return tiles.reshape(-1, SIDE, SIDE, 3)[: len(rows)], labels, [name for name, _ in rows]


def _rows(path: Path, split: str) -> Iterator[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["id"].startswith(f"{split}/"):
                yield row["id"], row["class"]


def _sums(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    except OSError:
        raise DataError(f"the pictures that ship with countermove are not in {folder}; install it again") from None
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
