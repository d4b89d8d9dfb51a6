"""One's own items: a table that says whose each is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from countermove.errors import DataError, did_you_mean
from countermove.game.content import locate, locate_file
from countermove.pixels.files import OnBroken, safe_child
from countermove.profiles.data.drafts import Split
from countermove.profiles.data.own import ROLES, OwnItem, check_own, own_fingerprint, own_profiles
from countermove.profiles.data.reading import read_rows

if TYPE_CHECKING:
    from countermove.profiles.dataset import Profiles


@dataclass(frozen=True, kw_only=True)
class ProfileTable:
    """Your own pictures or sounds: a CSV file with a line for every item of every profile.

    Columns: item, its path below the table's folder; owner; attribute, what a profiler wants to know; and, if you like,
    time (a number, or a date such as 2026-01-31T12:00, in UTC unless it says otherwise; items are in this order, then
    in that of their paths), profile (names an owner's several profiles) and role: empty, or train, validation or test
    (of every profile or of none), or background (the attribute says what kind of person it comes from, or is empty), or
    public (the attribute says what it shows); these two need no owner. An item may be in several profiles, but not in
    one and in the background or public. Sounds that are silent, clipped or too short, and items that are there twice
    under two names, are named in the set's warning.

    table:      the CSV file, UTF-8, as it stands or below the data folder.
    path:       folder below which items lie; without it, the table's.
    attribute:  name of the column of the attribute.
    captions:   name of a column with what is written under each item, if there is one; a profiler reads it beside the
                item, and an addition that is made of an item keeps its caption.
    items:      profiles are cut to so many items, none in two, the newest first; without it, they are as the table
                says.
    per_owner:  at most so many profiles of each person.
    side:       pictures become side x side.
    crop:       side of the centre square that is cut out before, in pixels; without it, the largest there is.
    rate:       samples a second, to which sounds are resampled; without it, mixed rates are refused.
    seconds:    of a sound: longer ones are cut off, shorter ones padded with silence.
    validation: share of owners, where no role says who.
    test:       share of owners, where no role says who.
    split:      "owners" keeps all of a person's profiles in one split; "profiles" does not, and warns.
    split_seed: another seed chooses other owners.
    on_broken:  "fail" stops at an item that cannot be read, "skip" leaves it out and says so in the warning.
    max_pixels: the largest picture that is decoded.
    """

    version: ClassVar[int] = 1
    keyed_when_set: ClassVar[tuple[str, ...]] = ("captions",)
    table: str
    path: str | None = None
    attribute: str = "attribute"
    captions: str | None = None
    items: int | None = None
    per_owner: int | None = None
    side: int = 64
    crop: int | None = None
    rate: int | None = None
    seconds: float = 2.0
    validation: float = 0.1
    test: float = 0.3
    split: Split = "owners"
    split_seed: int = 0
    on_broken: OnBroken = "fail"
    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        check_own("csv", self)

    def __call__(self, *, root: Path | None = None) -> Profiles:
        """Read the table and all items into memory.

        Raises:
            DataError: when a row lacks something or contradicts another, an item is broken (unless those are to be
                skipped), pictures and sounds or several rates are mixed, or too few people are left.
        """
        table = locate_file("table", self.table, root)
        return own_profiles(table.stem, self._listed(table, root), self)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the table and all items that it names."""
        table = locate_file("table", self.table, root)
        return own_fingerprint(self._listed(table, root), rehash=rehash, tables=[("table", table)])

    def _listed(self, table: Path, root: Path | None) -> list[OwnItem]:
        folder = table.parent if self.path is None else locate(self.path, root)
        found = []
        written = () if self.captions is None else (self.captions,)
        for number, row in enumerate(read_rows(table, "item", "owner", self.attribute, *written), start=1):
            where = f"{table}, row {number}"
            role = row.get("role", "").strip() or "profile"
            if role not in ROLES:
                raise DataError(f"{where}: role = {role!r} is refused: {did_you_mean(role, ROLES)}")
            needed = ["item"] if role in ("background", "public") else ["item", "owner", self.attribute]
            for column in needed:
                if not row[column].strip():
                    raise DataError(f"{where} has no {column}; fill it in or leave the row out")
            found.append(
                OwnItem(
                    id=row["item"].strip(),
                    path=safe_child(folder, row["item"].strip()),
                    role=role,
                    owner=row["owner"].strip(),
                    value=row[self.attribute].strip(),
                    group=row.get("profile", "").strip(),
                    time=_time(row["time"], where) if "time" in row and role not in ("background", "public") else 0.0,
                    text="" if self.captions is None else row[self.captions].strip(),
                    where=where,
                )
            )
        if not found:
            raise DataError(f"{table} names its columns but has no rows")
        return found


def _time(text: str, where: str) -> float:
    """Read a number or a date.

    Raises:
        DataError: when it is neither.
    """
    try:
        time = float(text)
    except ValueError:
        try:
            date = datetime.fromisoformat(text)
        except ValueError:
            raise DataError(f"{where}: time = {text!r} is refused: a number or a date like 2026-01-31T12:00") from None
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(time):
        raise DataError(f"{where}: time = {text!r} is refused: it must be finite")
    return time
