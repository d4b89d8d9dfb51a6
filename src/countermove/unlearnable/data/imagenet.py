"""The ImageNet subset that the papers use, from a user's own copy of ImageNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from countermove.errors import ConfigError, DataError
from countermove.game.content import fingerprint_files, locate
from countermove.pixels.decode import Limits
from countermove.pixels.files import OnBroken, walk_pictures
from countermove.pixels.selection import pick
from countermove.unlearnable.data.reading import Entry, read_entries, thin
from countermove.unlearnable.data.selection import check_limits

if TYPE_CHECKING:
    from countermove.unlearnable.dataset import DataSet


@dataclass(frozen=True, kw_only=True)
class Imagenet100:
    """ImageNet's first hundred classes with a fifth of their train pictures, Deng et al. 2009.

    The subset of the unlearnable-examples papers: classes are the first of the sorted WordNet ids, train pictures are
    chosen by seed within each class, all validation pictures of these classes are the test set. Pictures are cropped to
    their centre square and resized (Lanczos); the papers crop at random from the full picture. Needs
    PATH/train/WNID/… and PATH/val/WNID/… (sort val into class folders first); class folders may be links. At side 224
    a hundred classes take 4.6 GB, in a file (see COUNTERMOVE_SCRATCH in docs/reliability.md).

    path:        the folder of ImageNet, as it stands or below the data folder.
    classes:     how many classes; 2 gives the papers' two-class version.
    fraction:    share of the train pictures of each class.
    subset_seed: another seed chooses others.
    side:        of the squares that pictures become.
    on_broken:   "fail" stops at a broken picture, "skip" leaves it out and names it.
    train_limit: take only n of the chosen train pictures, chosen by id and seed.
    test_limit:  take only n test pictures, chosen likewise.
    """

    version: ClassVar[int] = 1
    path: str = "imagenet"
    classes: int = 100
    fraction: float = 0.2
    subset_seed: int = 0
    side: int = 224
    on_broken: OnBroken = "fail"
    train_limit: int | None = None
    test_limit: int | None = None

    def __post_init__(self) -> None:
        check_limits(side=self.side, train_limit=self.train_limit, test_limit=self.test_limit)
        if not 2 <= self.classes <= 1000:
            raise ConfigError(f"classes must be 2..1000; got {self.classes}")
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"fraction must be above 0 and at most 1; got {self.fraction}")

    def __call__(self, *, root: Path | None = None) -> DataSet:
        """Choose, read and resize the pictures; some minutes for a hundred classes.

        Raises:
            DataError: when the folder, a class or a picture is absent or broken.
        """
        from countermove.unlearnable.dataset import from_arrays

        wnids, train, test = self._entries(locate(self.path, root))
        limits = Limits()
        train_split, skipped = read_entries(
            thin(train, self.train_limit, seed=self.subset_seed),
            side=self.side,
            limits=limits,
            on_broken=self.on_broken,
        )
        test_split, also = read_entries(
            thin(test, self.test_limit, seed=self.subset_seed), side=self.side, limits=limits, on_broken=self.on_broken
        )
        name = f"imagenet-{self.classes}"
        return from_arrays(name, wnids, train_split, test_split, [*skipped, *also])

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the ids and contents of the chosen pictures."""
        _, train, test = self._entries(locate(self.path, root))
        files = [(entry.id, entry.source) for entry in (*train, *test) if isinstance(entry.source, Path)]
        return fingerprint_files(files, rehash=rehash)

    def _entries(self, folder: Path) -> tuple[list[str], list[Entry], list[Entry]]:
        for split in ("train", "val"):
            if not (folder / split).is_dir():
                raise DataError(
                    f"{folder} has no {split} folder; expected {folder}/train/WNID/… and {folder}/val/WNID/…"
                )
        wnids = sorted(p.name for p in (folder / "train").iterdir() if p.is_dir() and not p.name.startswith("."))
        if len(wnids) < self.classes:
            raise DataError(f"{folder}/train has {len(wnids)} class folders; {self.classes} are needed")
        wnids = wnids[: self.classes]
        train = []
        test = []
        for label, wnid in enumerate(wnids):
            entries = _class_entries(folder, "train", wnid, label)
            chosen = pick([e.id for e in entries], self.fraction, seed=self.subset_seed, purpose="imagenet-subset")
            train += [entry for entry, take in zip(entries, chosen, strict=True) if take]
            test += _class_entries(folder, "val", wnid, label)
        return wnids, train, test


def _class_entries(folder: Path, split: str, wnid: str, label: int) -> list[Entry]:
    place = folder / split / wnid
    if not place.is_dir():
        raise DataError(f"{place} is absent; sort the validation pictures into one folder a class, as train is")
    return [Entry(id=f"{split}/{wnid}/{name}", label=label, source=place / name) for name in walk_pictures(place)]
