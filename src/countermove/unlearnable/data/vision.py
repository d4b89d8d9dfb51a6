"""Data sets that torchvision knows how to fetch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from countermove.errors import DataError
from countermove.game.content import data_folder, fingerprint_files
from countermove.unlearnable.data.selection import check_limits

if TYPE_CHECKING:
    from countermove.unlearnable.data.reading import Split
    from countermove.unlearnable.dataset import DataSet

_CIFAR10_FILES = (*(f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)), "cifar-10-batches-py/test_batch")
_CIFAR100_FILES = ("cifar-100-python/train", "cifar-100-python/test")
_SVHN_FILES = ("train_32x32.mat", "test_32x32.mat")


@dataclass(frozen=True, kw_only=True)
class Cifar10:
    """CIFAR-10, 50,000 train and 10,000 test pictures of ten things and animals, Krizhevsky 2009.

    32 x 32 pixels. Read by torchvision from cifar-10-batches-py in the data folder, whose files it checks by MD5.

    train_limit: take only the first n train pictures, in original order.
    test_limit:  take only the first n test pictures.
    download:    fetch the files (170 MB) when they are absent.
    """

    version: ClassVar[int] = 1
    side: ClassVar[int] = 32
    train_limit: int | None = None
    test_limit: int | None = None
    download: bool = False

    def __post_init__(self) -> None:
        check_limits(train_limit=self.train_limit, test_limit=self.test_limit)

    def __call__(self, *, root: Path | None = None) -> DataSet:
        """Load the pictures.

        Raises:
            DataError: when the files are absent (and not fetched) or damaged.
        """
        return _cifar("cifar10", "CIFAR10", _CIFAR10_FILES, self, root)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the files, fetching them first where that was asked."""
        fetch = _fetcher("CIFAR10", [{"train": True}])
        return _fingerprint("cifar10", _CIFAR10_FILES, fetch, self.download, root, rehash)


@dataclass(frozen=True, kw_only=True)
class Cifar100:
    """CIFAR-100, 50,000 train and 10,000 test pictures of a hundred classes, Krizhevsky 2009.

    32 x 32 pixels, the fine labels. Read by torchvision from cifar-100-python in the data folder.

    train_limit: take only the first n train pictures, in original order.
    test_limit:  take only the first n test pictures.
    download:    fetch the files (169 MB) when they are absent.
    """

    version: ClassVar[int] = 1
    side: ClassVar[int] = 32
    train_limit: int | None = None
    test_limit: int | None = None
    download: bool = False

    def __post_init__(self) -> None:
        check_limits(train_limit=self.train_limit, test_limit=self.test_limit)

    def __call__(self, *, root: Path | None = None) -> DataSet:
        """Load the pictures.

        Raises:
            DataError: when the files are absent (and not fetched) or damaged.
        """
        return _cifar("cifar100", "CIFAR100", _CIFAR100_FILES, self, root)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the files, fetching them first where that was asked."""
        fetch = _fetcher("CIFAR100", [{"train": True}])
        return _fingerprint("cifar100", _CIFAR100_FILES, fetch, self.download, root, rehash)


@dataclass(frozen=True, kw_only=True)
class Svhn:
    """Street View House Numbers, 73,257 train and 26,032 test pictures of digits, Netzer et al. 2011.

    32 x 32 pixels, cropped digits, without the "extra" split. Read by torchvision from train_32x32.mat and
    test_32x32.mat in the data folder.

    train_limit: take only the first n train pictures, in original order.
    test_limit:  take only the first n test pictures.
    download:    fetch the files (246 MB) when they are absent.
    """

    version: ClassVar[int] = 1
    side: ClassVar[int] = 32
    train_limit: int | None = None
    test_limit: int | None = None
    download: bool = False

    def __post_init__(self) -> None:
        check_limits(train_limit=self.train_limit, test_limit=self.test_limit)

    def __call__(self, *, root: Path | None = None) -> DataSet:
        """Load the pictures.

        Raises:
            DataError: when the files are absent (and not fetched) or damaged.
        """
        from countermove.unlearnable.dataset import from_arrays

        folder = _present("svhn", _SVHN_FILES, self.download, root)
        fetch = _fetcher("SVHN", [{"split": "train"}, {"split": "test"}])
        train, test = _guarded("svhn", folder, lambda: fetch(folder, self.download))
        return from_arrays(
            "svhn",
            [str(digit) for digit in range(10)],
            _first(train.data.transpose(0, 2, 3, 1), train.labels, "train", self.train_limit),
            _first(test.data.transpose(0, 2, 3, 1), test.labels, "test", self.test_limit),
        )

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the files, fetching them first where that was asked."""
        fetch = _fetcher("SVHN", [{"split": "train"}, {"split": "test"}])
        return _fingerprint("svhn", _SVHN_FILES, fetch, self.download, root, rehash)


Fetch = Callable[[Path, bool], Sequence[Any]]


def _fetcher(attribute: str, splits: Sequence[dict[str, Any]]) -> Fetch:
    """Return a function that has torchvision open (and, if asked, fetch) the splits of one of its data sets."""

    def fetch(folder: Path, download: bool) -> Sequence[Any]:
        from torchvision import datasets

        return [getattr(datasets, attribute)(str(folder), download=download, **split) for split in splits]

    return fetch


def _cifar(name: str, attribute: str, files: Sequence[str], method: Cifar10 | Cifar100, root: Path | None) -> DataSet:
    from countermove.unlearnable.dataset import from_arrays

    folder = _present(name, files, method.download, root)
    fetch = _fetcher(attribute, [{"train": True}, {"train": False}])
    train, test = _guarded(name, folder, lambda: fetch(folder, method.download))
    return from_arrays(
        name,
        train.classes,
        _first(train.data, train.targets, "train", method.train_limit),
        _first(test.data, test.targets, "test", method.test_limit),
    )


def _first(pictures: np.ndarray, labels: Sequence[int], split: str, limit: int | None) -> Split:
    ids = [f"{split}/{i:05d}" for i in range(len(pictures))]
    return pictures[:limit], np.asarray(labels)[:limit], ids[:limit]


def _present(name: str, files: Sequence[str], download: bool, root: Path | None) -> Path:
    folder = data_folder(root)
    absent = [file for file in files if not (folder / file).is_file()]
    if absent and not download:
        raise DataError(
            f"{name} is not in {folder} ({absent[0]} is absent); fetch it with {name}(download=true), "
            "or set COUNTERMOVE_DATA to the folder that holds it"
        )
    return folder


def _guarded(name: str, folder: Path, load: Callable[[], Sequence[Any]]) -> Sequence[Any]:
    try:
        with warnings.catch_warnings():
            # The files are pickles of an old NumPy, and newer ones remark on that.
            warnings.simplefilter("ignore")
            return load()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{name} in {folder} cannot be used: {' '.join(str(error).split())} "
            f"Remove its damaged files and fetch it again with {name}(download=true)"
        ) from None


def _fingerprint(name: str, files: Sequence[str], fetch: Fetch, download: bool, root: Path | None, rehash: bool) -> str:
    folder = _present(name, files, download, root)
    if any(not (folder / file).is_file() for file in files):
        _guarded(name, folder, lambda: fetch(folder, True))
    return fingerprint_files([(file, folder / file) for file in files], rehash=rehash)
