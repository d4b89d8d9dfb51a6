"""Tables of features that somebody else computed: one line an item."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from countermove.errors import DataError
from countermove.game.content import fingerprint_files, locate_file
from countermove.profiles.data.drafts import Draft, Plan, Split, check_split, split_drafts
from countermove.profiles.data.reading import read_rows

if TYPE_CHECKING:
    from countermove.profiles.dataset import Profiles

BACKGROUND = "background"


@dataclass(frozen=True, kw_only=True)
class Instances:
    """Bags of pre-extracted features, as public tables of multiple-instance learning come: a line for every instance.

    Columns, by the names that are given: the bag, its label, perhaps its owner; all others are features and must be
    numbers. Items of a bag are in the order of the file. Lines whose label is "background" belong to no bag: they may
    be added to one. Nothing is public: features are there already.

    table:      the CSV file, UTF-8, as it stands or below the data folder; its first line names the columns.
    bag, label: names of these columns.
    owner:      name of the column of a bag's owner; "": every bag has its own.
    leave_out:  columns that are no features, such as an instance's name.
    validation: share of owners.
    test:       share of owners.
    split:      "owners" keeps all of an owner's bags in one split; "profiles" does not, and warns.
    split_seed: another seed chooses other owners.
    """

    version: ClassVar[int] = 1
    table: str
    bag: str = "bag"
    label: str = "label"
    owner: str = ""
    leave_out: tuple[str, ...] = ()
    validation: float = 0.1
    test: float = 0.3
    split: Split = "owners"
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_split("instances", self)

    def __call__(self, *, root: Path | None = None) -> Profiles:
        """Read all bags.

        Raises:
            DataError: when the table is absent or broken, a feature is no finite number, or a bag has two labels or
                two owners.
        """
        import torch

        path = locate_file("table", self.table, root)
        rows = read_rows(path, self.bag, self.label, *filter(None, (self.owner,)), *self.leave_out)
        columns = [name for name in rows[0] if name not in self._told()] if rows else []
        if not columns:
            raise DataError(f"{path} has no features beside {', '.join(self._told())}")
        features: dict[str, list[float]] = {}
        items: dict[str, list[str]] = defaultdict(list)
        facts: dict[str, tuple[str, str]] = {}
        background: list[str] = []
        for number, row in enumerate(rows, start=2):
            where = f"{path}, line {number}"
            label, bag = row[self.label].strip(), row[self.bag].strip()
            name = f"{label if label == BACKGROUND else bag}/{number:06d}"
            features[name] = [_number(row[column], column, where) for column in columns]
            if label == BACKGROUND:
                background.append(name)
                continue
            if not bag or not label:
                raise DataError(f"{where} has no {self.bag if not bag else self.label}")
            said = (label, row[self.owner].strip() if self.owner else bag)
            if facts.setdefault(bag, said) != said:
                raise DataError(f"{where}: {bag} is {' of '.join(said)} here and {' of '.join(facts[bag])} before")
            items[bag].append(name)
        classes = sorted({label for label, _ in facts.values()})
        part: dict[str, int] = defaultdict(int)
        drafts: list[Draft] = []
        for bag, (label, owner) in facts.items():
            value = classes.index(label)
            drafts.append(Draft(owner=owner, label=value, items=tuple(items[bag]), part=part[owner]))
            part[owner] += 1
        split, warning = split_drafts(drafts, self)
        plan = Plan(
            drafts=tuple(split),
            classes=tuple(classes),
            background=tuple(background),
            kinds=(-1,) * len(background),
            warning=warning,
        )
        return plan.filled("instances", "table", torch.tensor([features[name] for name in plan.ids()]))

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the table."""
        return fingerprint_files([("table", locate_file("table", self.table, root))], rehash=rehash)

    def _told(self) -> tuple[str, ...]:
        return (self.bag, self.label, *filter(None, (self.owner,)), *self.leave_out)


def _number(text: str, column: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: {column} = {text!r} is no finite number; name other columns in leave_out")
    return value
