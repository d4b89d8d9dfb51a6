"""CIFAR-10 as it ships with the package, and two copies of it from the data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from countermove.errors import DataError
from countermove.game.content import data_folder, fingerprint_files
from countermove.pixels.bundled import CLASSES, MINI, SIDE, check_mini, mini_files, read_mini
from countermove.pixels.decode import decode_picture
from countermove.pixels.files import read_npz
from countermove.unlearnable.data.selection import check_limits

if TYPE_CHECKING:
    from countermove.unlearnable.data.reading import Split
    from countermove.unlearnable.dataset import DataSet

__all__ = ["CLASSES", "MINI", "Cifar10Jpeg", "Cifar10Lossless", "Cifar10Mini"]


@dataclass(frozen=True, kw_only=True)
class Cifar10Mini:
    """The first 4,000 train and 1,000 test pictures of CIFAR-10, Krizhevsky 2009.

    Ships with the package, losslessly, so that a first audit needs no download. 32 x 32 pixels, ten classes as they
    fall (366 to 422 train pictures each). Ids such as "train/00017" hold the index in the full set, so the same
    picture has the same id in `cifar10`. Numbers measured on it are not the papers' numbers.

    train_limit: take only the first n train pictures, in original order.
    test_limit:  take only the first n test pictures.
    """

    version: ClassVar[int] = 1
    side: ClassVar[int] = 32
    train_limit: int | None = None
    test_limit: int | None = None

    def __post_init__(self) -> None:
        check_limits(train_limit=self.train_limit, test_limit=self.test_limit)

    def __call__(self, *, root: Path | None = None) -> DataSet:
        """Load the pictures. The data folder is not used."""
        from countermove.unlearnable.dataset import from_arrays

        check_mini(MINI)
        limits = {"train": self.train_limit, "test": self.test_limit}
        train, test = (read_mini(split, limit=limit, folder=MINI) for split, limit in limits.items())
        return from_arrays("cifar10-mini", CLASSES, train, test)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the bundled files."""
        return fingerprint_files(mini_files(MINI), rehash=rehash)


@dataclass(frozen=True, kw_only=True)
class Cifar10Lossless:
    """The 8,068 train and 1,017 test pictures of CIFAR-10 whose exact pixels lie in open repositories, Krizhevsky 2009.

    Read from cifar10_lossless/cifar10_lossless.npz in the data folder. 32 x 32 pixels; the ids hold the index in the
    full set.

    train_limit: take only the first n train pictures, in the order of the file.
    test_limit:  take only the first n test pictures.
    """

    version: ClassVar[int] = 1
    side: ClassVar[int] = 32
    train_limit: int | None = None
    test_limit: int | None = None

    def __post_init__(self) -> None:
        check_limits(train_limit=self.train_limit, test_limit=self.test_limit)

    def __call__(self, *, root: Path | None = None) -> DataSet:
        """Load the pictures from the data folder."""
        from countermove.unlearnable.dataset import from_arrays

        path = _npz("cifar10_lossless", root)
        limits = {"train": self.train_limit, "test": self.test_limit}
        arrays = read_npz(
            path, ["class_names", *(f"{k}_{s}" for s in limits for k in ("x", "y")), *(f"{s}_index" for s in limits)]
        )
        splits: dict[str, Split] = {}
        for split, limit in limits.items():
            pictures, labels, index = arrays[f"x_{split}"], arrays[f"y_{split}"], arrays[f"{split}_index"]
            if (
                pictures.dtype != np.uint8
                or pictures.shape[1:] != (SIDE, SIDE, 3)
                or not len(pictures) == len(labels) == len(index)
            ):
                raise DataError(
                    f"{path}: x_{split}, y_{split} and {split}_index do not fit together as 32 x 32 pictures"
                )
            ids = [f"{split}/{i:05d}" for i in index.tolist()]
            splits[split] = (pictures[:limit], labels[:limit], ids[:limit])
        return from_arrays("cifar10-lossless", arrays["class_names"].tolist(), splits["train"], splits["test"])

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the file."""
        return fingerprint_files([("npz", _npz("cifar10_lossless", root))], rehash=rehash)


@dataclass(frozen=True, kw_only=True)
class Cifar10Jpeg:
    """All 60,000 pictures of CIFAR-10, but each saved as JPEG once before, Krizhevsky 2009.

    Read from cifar10_jpeg/cifar10_jpeg.npz in the data folder. 32 x 32 pixels, original order. The JPEG coding
    (quality 75) is part of these clean pixels, so a JPEG countermove has less left to remove: judge JPEG itself on
    `cifar10-lossless` or `cifar10`.

    train_limit: take only the first n train pictures, in original order; the others are not decoded.
    test_limit:  take only the first n test pictures.
    """

    version: ClassVar[int] = 1
    side: ClassVar[int] = 32
    train_limit: int | None = None
    test_limit: int | None = None

    def __post_init__(self) -> None:
        check_limits(train_limit=self.train_limit, test_limit=self.test_limit)

    def __call__(self, *, root: Path | None = None) -> DataSet:
        """Decode the pictures from the data folder."""
        from countermove.unlearnable.dataset import from_arrays

        path = _npz("cifar10_jpeg", root)
        limits = {"train": self.train_limit, "test": self.test_limit}
        arrays = read_npz(
            path,
            ["class_names", *(f"{s}_{k}" for s in limits for k in ("bytes", "offsets")), *(f"y_{s}" for s in limits)],
        )
        splits: dict[str, Split] = {}
        for split, limit in limits.items():
            content, offsets, labels = (
                arrays[f"{split}_bytes"],
                arrays[f"{split}_offsets"],
                arrays[f"y_{split}"][:limit],
            )
            if len(offsets) < len(labels) + 1:
                raise DataError(f"{path}: {len(labels)} {split} labels, but {len(offsets) - 1} pictures")
            ids = [f"{split}/{i:05d}" for i in range(len(labels))]
            pictures = np.empty((len(labels), SIDE, SIDE, 3), np.uint8)
            for i, name in enumerate(ids):
                picture = decode_picture(content[offsets[i] : offsets[i + 1]].tobytes(), name=f"{path}, picture {name}")
                if picture.shape != pictures.shape[1:]:
                    raise DataError(f"{path}, picture {name}: expected 32 x 32 pixels, got {picture.shape[:2]}")
                pictures[i] = picture
            splits[split] = (pictures, labels, ids)
        return from_arrays("cifar10-jpeg", arrays["class_names"].tolist(), splits["train"], splits["test"])

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the file."""
        return fingerprint_files([("npz", _npz("cifar10_jpeg", root))], rehash=rehash)


def _npz(name: str, root: Path | None) -> Path:
    path = data_folder(root) / name / f"{name}.npz"
    if not path.is_file():
        raise DataError(
            f"{name.replace('_', '-')} needs {path}, which is not there; set COUNTERMOVE_DATA to the folder that holds "
            f"{name}/{name}.npz, or use cifar10-mini, which ships with the package"
        )
    return path
