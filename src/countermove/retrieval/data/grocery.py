"""Groceries: a product's picture, and photos of it on the shelf."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.game.content import fingerprint_files
from countermove.pixels.files import safe_child
from countermove.pixels.selection import pick
from countermove.retrieval.data.reading import check_least, check_sides, needed_folder, read_square

if TYPE_CHECKING:
    from countermove.retrieval.collection import Collection

FOLDER = "grocery"
Queries = Literal["iconic", "test"]


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A picture that is still a file: its name in the data, its class, and iconic, train or test."""

    id: str
    path: Path
    kind: int
    part: str


@dataclass(frozen=True, kw_only=True)
class Grocery:
    """Grocery Store Dataset, Klasson et al. 2019: 81 kinds of fruit, vegetables and cartons, MIT licence.

    Read from grocery in the data folder: a subset of 648 training and 729 test photos (8 and 9 a class) with phones in
    shops, and one product picture a class, on white. The classes are divided: some are searched for and indexed, with
    the others, the public's, backbones may be trained. So a backbone has seen groceries, but none of these; classes
    that look alike (ten juices, six milks) fall on either side.

    queries:      "iconic": the product picture should find all photos of its class. "test": photos of the test part
                  should find those of the training part.
    per_class:    how many test photos of a class are queries, chosen by id; there is one product picture.
    public_share: share of the classes that are the public's, chosen by name.
    side:         photos are cut to their square middle and resized to side x side (originals: 348, product pictures
                  198).
    split_seed:   another seed divides otherwise.

    Differs from the paper, which classifies: nothing here is comparable with its numbers.
    """

    version: ClassVar[int] = 1
    queries: Queries = "iconic"
    per_class: int = 1
    public_share: float = 0.5
    side: int = 128
    split_seed: int = 0

    def __post_init__(self) -> None:
        if self.queries not in get_args(Queries):
            raise ConfigError(
                f"grocery: unknown queries {self.queries!r}; {did_you_mean(str(self.queries), get_args(Queries))}"
            )
        check_sides("grocery", side=self.side)
        check_least("grocery", per_class=(self.per_class, 1))
        if not 0 <= self.public_share < 1:
            raise ConfigError(
                f"grocery: public_share = {self.public_share} is refused: it is 0 to below 1, as something is searched"
            )

    def __call__(self, *, root: Path | None = None) -> Collection:
        """Read all pictures into memory.

        Raises:
            DataError: when the data are not there, or a list or a picture is broken.
        """
        import torch

        from countermove.retrieval.collection import Collection, Wanted

        names, photos = list_photos(needed_folder("grocery", FOLDER, root))
        public = pick(names, self.public_share, seed=self.split_seed, purpose="public classes")
        if public.all():
            raise DataError(f"grocery: all {len(names)} classes are the public's; lower public_share")
        searched = [row for row, photo in enumerate(photos) if not public[photo.kind]]
        asked = self._asked(photos, searched)
        indexed = [row for row in searched if photos[row].part in self._indexed_parts()]
        kinds = torch.tensor([photos[row].kind for row in indexed])
        rows = torch.tensor(indexed)
        shown = [row for row, photo in enumerate(photos) if public[photo.kind]]
        labels = {int(kind): label for label, kind in enumerate(public.nonzero()[0])}
        return Collection(
            name="grocery",
            pictures=torch.stack([read_square(photo.path, self.side) for photo in photos]),
            ids=tuple(photo.id for photo in photos),
            indexed=rows,
            queries=torch.tensor(asked),
            boxes=(None,) * len(asked),
            wanted={"": tuple(Wanted(positive=rows[kinds == photos[row].kind]) for row in asked)},
            public=torch.tensor(shown, dtype=torch.int64),
            public_labels=torch.tensor([labels[photos[row].kind] for row in shown], dtype=torch.int64),
            public_classes=tuple(names[kind] for kind in labels),
        )

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over names, classes and contents of all pictures."""
        names, photos = list_photos(needed_folder("grocery", FOLDER, root))
        extra = [*names, *(str(photo.kind) for photo in photos)]
        return fingerprint_files([(photo.id, photo.path) for photo in photos], rehash=rehash, extra=extra)

    def _indexed_parts(self) -> tuple[str, ...]:
        return ("train", "test") if self.queries == "iconic" else ("train",)

    def _asked(self, photos: list[Photo], searched: list[int]) -> list[int]:
        """Return the rows of the queries."""
        mine = [row for row in searched if photos[row].part == self.queries]
        if self.queries == "iconic":
            return mine
        chosen = []
        for kind in sorted({photos[row].kind for row in mine}):
            rows = [row for row in mine if photos[row].kind == kind]
            share = min(1.0, self.per_class / len(rows))
            taken = pick([photos[row].id for row in rows], share, seed=self.split_seed, purpose="queries")
            chosen += [row for row, take in zip(rows, taken, strict=True) if take]
        return chosen


def list_photos(folder: Path) -> tuple[list[str], list[Photo]]:
    """Return the names of the classes, by number, and all pictures: iconic, train, test.

    Raises:
        DataError: when a list is broken or not there.
    """
    names, photos = _classes(folder)
    for part in ("train", "test"):
        photos += _listed(folder, part, len(names))
    return names, photos


def _classes(folder: Path) -> tuple[list[str], list[Photo]]:
    """Return the names of the classes, by number, and their product pictures."""
    table = folder / "classes.csv"
    names: list[str] = []
    photos: list[Photo] = []
    try:
        with table.open(encoding="utf-8", newline="") as file:
            for row in list(csv.reader(file))[1:]:
                name, number, path = row[0], int(row[1]), row[4].lstrip("/")
                if number != len(names):
                    raise DataError(f"{table}: the class {name} has the number {number}, expected {len(names)}")
                names.append(name)
                photos.append(Photo(id=path, path=safe_child(folder, path), kind=number, part="iconic"))
    except OSError as error:
        raise DataError(f"{table} cannot be read: {error.strerror}") from None
    except (ValueError, IndexError, csv.Error) as error:
        raise DataError(f"{table} is not the data set's table of classes: {error}") from None
    if not names:
        raise DataError(f"{table} names no class")
    return names, photos


def _listed(folder: Path, part: str, classes: int) -> list[Photo]:
    """Return the photos that a list names, a line each: path, class, coarse class."""
    table = folder / f"{part}.txt"
    photos = []
    try:
        for line in table.read_text(encoding="utf-8").splitlines():
            if not line.strip():
                continue
            path, kind, _ = (word.strip() for word in line.split(","))
            if not 0 <= int(kind) < classes:
                raise DataError(f"{table}: {path} has the class {kind}; there are {classes}")
            photos.append(Photo(id=path, path=safe_child(folder, path), kind=int(kind), part=part))
    except OSError as error:
        raise DataError(f"{table} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{table} should hold lines of path, class, coarse class: {error}") from None
    return photos
