"""A folder of class folders, as torchvision's ImageFolder reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from countermove.errors import DataError, did_you_mean
from countermove.game.content import fingerprint_files, locate
from countermove.pixels.decode import Limits
from countermove.pixels.files import OnBroken, safe_child, walk_pictures
from countermove.unlearnable.data.reading import Entry, Split, read_entries, thin
from countermove.unlearnable.data.selection import check_limits, split_off_test

if TYPE_CHECKING:
    from countermove.unlearnable.dataset import DataSet


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Your own pictures: one folder a class.

    Either PATH/train/CLASS/… and PATH/test/CLASS/…, or PATH/CLASS/… from which test pictures are split off. PNG, JPEG,
    WebP and BMP; ids are the paths below PATH; classes are the folder names, sorted. Files in deeper folders belong to
    the class above them. Names that begin with a dot are passed over.

    path:          the folder, as it stands or below the data folder.
    side:          crop every picture to its centre square and resize it (Lanczos) to side x side; without it, pictures
                   of unequal sizes are refused.
    test_fraction: share of each class that becomes test pictures where there is no test folder; chosen by id.
    split_seed:    another seed splits off others.
    on_broken:     "fail" stops at a broken picture, "skip" leaves it out and names it.
    max_pixels:    the largest picture that is decoded.
    train_limit:   take only n train pictures, chosen by id and seed.
    test_limit:    take only n test pictures, chosen likewise.
    """

    version: ClassVar[int] = 1
    path: str
    side: int | None = None
    test_fraction: float = 0.2
    split_seed: int = 0
    on_broken: OnBroken = "fail"
    max_pixels: int = 50_000_000
    train_limit: int | None = None
    test_limit: int | None = None

    def __post_init__(self) -> None:
        check_limits(
            side=self.side, max_pixels=self.max_pixels, train_limit=self.train_limit, test_limit=self.test_limit
        )

    def __call__(self, *, root: Path | None = None) -> DataSet:
        """Read all pictures.

        Raises:
            DataError: when the layout is another, a picture is broken or of another size, or a class is too small.
        """
        from countermove.unlearnable.dataset import from_arrays

        folder = locate(self.path, root)
        classes, train, test = self._entries(folder)
        train_split, skipped = self._read(thin(train, self.train_limit, seed=self.split_seed))
        test_split, also = self._read(thin(test, self.test_limit, seed=self.split_seed))
        return from_arrays(folder.name, classes, train_split, test_split, [*skipped, *also])

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the paths and contents of all pictures."""
        folder = locate(self.path, root)
        return fingerprint_files([(name, folder / name) for name in walk_pictures(folder)], rehash=rehash)

    def _entries(self, folder: Path) -> tuple[list[str], list[Entry], list[Entry]]:
        splits = [(folder / split).is_dir() for split in ("train", "test")]
        if all(splits):
            classes, train = class_entries(folder, "train")
            _, test = class_entries(folder, "test", classes=classes)
            return classes, train, test
        if any(splits):
            absent = "test" if splits[0] else "train"
            raise DataError(f"{folder} has a {'train' if splits[0] else 'test'} folder but no {absent} folder; add it")
        classes, entries = class_entries(folder)
        chosen = split_off_test(
            [e.id for e in entries], [e.label for e in entries], self.test_fraction, seed=self.split_seed
        )
        train = [entry for entry, is_test in zip(entries, chosen, strict=True) if not is_test]
        test = [entry for entry, is_test in zip(entries, chosen, strict=True) if is_test]
        return classes, train, test

    def _read(self, entries: Sequence[Entry]) -> tuple[Split, list[str]]:
        limits = Limits(max_pixels=self.max_pixels)
        return read_entries(entries, side=self.side, limits=limits, on_broken=self.on_broken)


def class_entries(
    folder: Path, split: str = "", *, classes: Sequence[str] | None = None
) -> tuple[list[str], list[Entry]]:
    """List the pictures of a tree of class folders, ready to be read; the rest is as in class_names."""
    tree = safe_child(folder, split) if split else folder
    known, names = class_names(folder, split, classes=classes)
    number = {name: i for i, name in enumerate(known)}
    prefix = f"{split}/" if split else ""
    entries = [Entry(id=prefix + name, label=number[class_of(name)], source=tree / name) for name in names]
    return known, entries


def class_of(name: str) -> str:
    """Return the class folder of a path below the folder of all classes."""
    return name.split("/", 1)[0]


def class_names(folder: Path, split: str = "", *, classes: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """List the classes and the pictures, as paths below the folder of all classes, of a tree of class folders.

    Args:
        folder: the data set's folder; ids are paths below it.
        split: the folder inside it that holds the class folders; empty: itself.
        classes: the classes that are expected; None: those that are found.

    Raises:
        DataError: when a picture lies in no class folder, in an unknown one, or when there is none.
    """
    tree = safe_child(folder, split) if split else folder
    names = walk_pictures(tree)
    if not names:
        raise DataError(f"{tree} holds no pictures; expected {tree}/CLASS/PICTURE.png (or .jpg, .webp, .bmp)")
    loose = [name for name in names if "/" not in name]
    if loose:
        raise DataError(f"{tree / loose[0]} lies in no class folder; expected {tree}/CLASS/{loose[0]}")
    found = sorted({class_of(name) for name in names})
    known = list(classes) if classes is not None else found
    unknown = [name for name in found if name not in known]
    if unknown:
        raise DataError(
            f"labels don't match: {tree} has a class {unknown[0]!r} that train does not have; "
            f"{did_you_mean(unknown[0], known)}"
        )
    return known, names
