"""Pictures of some classes, for networks that were pre-trained on the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from countermove.errors import ConfigError, DataError
from countermove.game.content import fingerprint_files
from countermove.pixels.bundled import CLASSES, check_mini, mini_files, read_mini
from countermove.tasks.task import PICTURE, Pictures, PictureTask


@dataclass(frozen=True, kw_only=True)
class BundledPictures:
    """Classes of the first 4,000 train and 1,000 test pictures of CIFAR-10, Krizhevsky 2009.

    Ships with the package; 32 x 32 pixels, about 400 train and 100 test pictures a class, as they fall. The usual
    classes are those that `small-network` has not seen.

    classes: which, by name.
    rows:    train pictures, the first in original order; 0: all.
    """

    version: ClassVar[int] = 1
    medium: ClassVar[str] = PICTURE
    classes: tuple[str, ...] = CLASSES[5:]
    rows: int = 0

    def __post_init__(self) -> None:
        check_classes(self.classes, owner="data 'pictures'")
        if self.rows < 0:
            raise ConfigError(f"data 'pictures': rows = {self.rows} is refused; it is not below 0")

    def __call__(self, *, root: Path | None = None) -> PictureTask:
        """Read the pictures; the data folder is not used.

        Raises:
            DataError: when there are not as many.
        """
        check_mini()
        train, test = of_classes("train", self.classes), of_classes("test", self.classes)
        if self.rows > len(train):
            raise DataError(f"pictures: rows = {self.rows} is more than the {len(train)} training pictures there are")
        if self.rows:
            train = Pictures(
                pictures=train.pictures[: self.rows], labels=train.labels[: self.rows], ids=train.ids[: self.rows]
            )
        return PictureTask(name="pictures", classes=self.classes, train=train, test=test)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the bundled files."""
        return fingerprint_files(mini_files(), rehash=rehash)


def of_classes(split: str, classes: tuple[str, ...]) -> Pictures:
    """Return the bundled pictures of some classes, labelled in their order."""
    import numpy as np
    import torch

    pictures, labels, ids = read_mini(split)
    wanted = [CLASSES.index(name) for name in classes]
    rows = np.flatnonzero(np.isin(labels, wanted))
    chosen = torch.from_numpy(np.ascontiguousarray(pictures[rows].transpose(0, 3, 1, 2)))
    return Pictures(pictures=chosen, labels=[wanted.index(labels[row]) for row in rows], ids=[ids[row] for row in rows])


def check_classes(classes: tuple[str, ...], *, owner: str) -> None:
    """Refuse classes that are not there, or too few.

    Raises:
        ConfigError: with those that there are.
    """
    unknown = [name for name in classes if name not in CLASSES]
    if unknown or len(classes) < 2 or len(set(classes)) != len(classes):
        raise ConfigError(f"{owner}: classes are at least two different ones of {', '.join(CLASSES)}")
