"""The MUSK bags: molecules and their shapes, features already."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from countermove.errors import ConfigError, DataError
from countermove.game.content import fingerprint_files, locate_file
from countermove.pixels.decode import words
from countermove.profiles.data.drafts import Draft, Plan, check_least, shuffled

if TYPE_CHECKING:
    from countermove.profiles.dataset import Profiles

FEATURES = 166
CLASSES = ("non-musk", "musk")


@dataclass(frozen=True, kw_only=True)
class Musk:
    """The standard bags of multiple-instance learning: 92 molecules by 476 shapes, Dietterich et al. 1997.

    Bring clean1.data (or clean2.data) of the UCI repository: lines of a molecule's name, a shape's name, 166 whole
    numbers and the class, 1 or 0. A profile is a molecule, its items are the shapes that it can take, in the order of
    the file; a molecule is a musk if one of its shapes smells. There is no background and nothing public. The numbers
    are as they stand; an extractor may scale them.

    path:       the file, as it stands or below the data folder.
    folds:      into how many parts molecules are divided, each class alike; one is tested.
    fold:       which one, from 0.
    split_seed: another seed divides otherwise.

    Literature reports means over ten folds, mostly over several such divisions.
    """

    version: ClassVar[int] = 1
    path: str
    folds: int = 10
    fold: int = 0
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_least("musk", self, folds=2, fold=0)
        if self.fold >= self.folds:
            raise ConfigError(f"musk: fold = {self.fold} is refused: there are {self.folds} folds, counted from 0")

    def __call__(self, *, root: Path | None = None) -> Profiles:
        """Read all molecules.

        Raises:
            DataError: when the file is absent or has another layout, or a class has fewer molecules than folds.
        """
        import torch

        path = locate_file("path", self.path, root)
        features, label = _read(path)
        shapes = {molecule: [name for name in features if name[0] == molecule] for molecule in label}
        fold: dict[str, int] = {}
        for value in (0, 1):
            mine = shuffled([m for m in label if label[m] == value], seed=self.split_seed, purpose="musk, folds")
            if len(mine) < self.folds:
                raise DataError(f"{path} has {len(mine)} molecules of class {value}; folds = {self.folds} needs more")
            fold |= {molecule: i % self.folds for i, molecule in enumerate(mine)}
        plan = Plan(
            drafts=tuple(
                Draft(
                    owner=molecule,
                    label=label[molecule],
                    items=tuple(map(_named, shapes[molecule])),
                    split="test" if fold[molecule] == self.fold else "train",
                )
                for molecule in label
            ),
            classes=CLASSES,
        )
        row = {_named(name): numbers for name, numbers in features.items()}
        items = torch.tensor([row[name] for name in plan.ids()], dtype=torch.float32)
        return plan.filled("musk", "table", items)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the file."""
        return fingerprint_files([("clean.data", locate_file("path", self.path, root))], rehash=rehash)


def _named(name: tuple[str, str]) -> str:
    return "/".join(name)


def _read(path: Path) -> tuple[dict[tuple[str, str], list[float]], dict[str, int]]:
    """Return the features of every (molecule, shape) and the class of every molecule, in the order of the file."""
    features: dict[tuple[str, str], list[float]] = {}
    label: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = [(number, row) for number, row in enumerate(csv.reader(file), start=1) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as lines of numbers: {words(error)}") from None
    for number, row in lines:
        where = f"{path}, line {number}"
        if len(row) != FEATURES + 3:
            raise DataError(
                f"{where} has {len(row)} fields; a molecule, a shape, {FEATURES} numbers and a class are expected"
            )
        molecule, shape, *numbers, last = (field.strip() for field in row)
        try:
            values, value = [float(text) for text in numbers], int(last.removesuffix("."))
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
        if value not in (0, 1) or label.setdefault(molecule, value) != value:
            raise DataError(
                f"{where}: the class {last!r} of {molecule} is refused: 0 or 1, the same for all its shapes"
            )
        if (molecule, shape) in features:
            raise DataError(f"{where}: the shape {shape} of {molecule} is there already")
        features[molecule, shape] = values
    if not features:
        raise DataError(f"{path} is empty; clean1.data of the UCI repository is expected")
    return features, label
