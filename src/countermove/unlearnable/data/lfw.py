"""Labeled Faces in the Wild: the faces of the case study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from countermove.errors import ConfigError, DataError
from countermove.game.content import data_folder, fingerprint_files
from countermove.pixels.files import read_picture
from countermove.unlearnable.data.folders import class_entries
from countermove.unlearnable.data.reading import Entry, Split, resize_square, room
from countermove.unlearnable.data.selection import check_limits, split_off_test

if TYPE_CHECKING:
    from countermove.unlearnable.dataset import DataSet


@dataclass(frozen=True, kw_only=True)
class Lfw:
    """Labeled Faces in the Wild, deep-funneled, identities with ten pictures or more, Huang et al. 2007.

    Read from lfw_min10/images/IDENTITY/*.jpg in the data folder: 158 identities, at most 50 pictures of each. Every
    identity is a class. `min_images` and `max_images` choose identities by how many pictures there are of them, so two
    choices that do not overlap are two sets of different people: noise can be made with the one and put on the other.
    Test pictures are split off each identity by id. The pictures are press photographs of real people.

    side:          pictures become side x side.
    crop:          side of the centre square that is cut out before, in pixels of the 250 x 250 originals; the face
                   fills about 128. 250 takes everything.
    min_images:    identities with at least so many pictures.
    max_images:    and at most so many; without it, however many.
    test_fraction: share of each identity's pictures that become test pictures.
    split_seed:    another seed splits off others.

    Differs from the paper: it trains on the 10,575 identities of WebFace and makes noise with CelebA.
    """

    version: ClassVar[int] = 1

    side: int = 32
    crop: int = 128
    min_images: int = 20
    max_images: int | None = None
    test_fraction: float = 0.2
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_limits(side=self.side, crop=self.crop, min_images=self.min_images)
        if self.max_images is not None and self.max_images < self.min_images:
            raise ConfigError(
                f"lfw: max_images = {self.max_images} is refused: no identity has at least {self.min_images} pictures "
                "(min_images) and at most that many"
            )
        if not 0 < self.test_fraction < 1:
            raise ConfigError(f"lfw: test_fraction = {self.test_fraction} is refused: it lies between 0 and 1")

    def __call__(self, *, root: Path | None = None) -> DataSet:
        """Read, cut and resize the chosen identities' pictures.

        Raises:
            DataError: when the data are not there, a picture is broken or smaller than `crop`, or too few identities
                have so many pictures.
        """
        from countermove.unlearnable.dataset import from_arrays

        identities, entries = self._entries(_images(root))
        ids, labels = [entry.id for entry in entries], [entry.label for entry in entries]
        is_test = split_off_test(ids, labels, self.test_fraction, seed=self.split_seed)
        train, test = (self._read([e for e, t in zip(entries, is_test, strict=True) if t == out]) for out in (0, 1))
        return replace(from_arrays("lfw", identities, train, test), people=True)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the ids and contents of the chosen identities' pictures."""
        folder = _images(root)
        _, entries = self._entries(folder)
        return fingerprint_files([(entry.id, folder / entry.id) for entry in entries], rehash=rehash)

    def _entries(self, folder: Path) -> tuple[list[str], list[Entry]]:
        """Return the chosen identities, sorted, and their pictures, labelled among these."""
        names, entries = class_entries(folder)
        counts = Counter(entry.label for entry in entries)
        most = max(counts.values()) if self.max_images is None else self.max_images
        chosen = [label for label in range(len(names)) if self.min_images <= counts[label] <= most]
        if len(chosen) < 2:
            raise DataError(
                f"{folder}: {len(chosen)} identities have {self.min_images} to {most} pictures; at least two are "
                "needed. Lower min_images or raise max_images"
            )
        number = {label: i for i, label in enumerate(chosen)}
        kept = [Entry(id=e.id, label=number[e.label], source=e.source) for e in entries if e.label in number]
        return [names[label] for label in chosen], kept

    def _read(self, entries: Sequence[Entry]) -> Split:
        pictures = room(len(entries), (self.side, self.side))
        for i, entry in enumerate(entries):
            assert isinstance(entry.source, Path), "these are files"
            pictures[i] = resize_square(self._cut(read_picture(entry.source), entry.id), self.side)
        return pictures, np.array([entry.label for entry in entries]), [entry.id for entry in entries]

    def _cut(self, picture: np.ndarray, name: str) -> np.ndarray:
        height, width = picture.shape[:2]
        if min(height, width) < self.crop:
            raise DataError(f"{name} has {width} x {height} pixels; crop = {self.crop} needs at least that many")
        top, left = (height - self.crop) // 2, (width - self.crop) // 2
        return picture[top : top + self.crop, left : left + self.crop]


def _images(root: Path | None) -> Path:
    folder = data_folder(root) / "lfw_min10" / "images"
    if not folder.is_dir():
        raise DataError(
            f"lfw needs {folder}, which is not there; set COUNTERMOVE_DATA to the folder that holds "
            "lfw_min10/images/IDENTITY/*.jpg"
        )
    return folder
