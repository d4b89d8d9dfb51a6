"""One's own pictures: a folder a group, or a table."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.game.content import fingerprint_files, locate
from countermove.pixels.files import safe_child, walk_pictures
from countermove.pixels.selection import pick
from countermove.retrieval.data.reading import check_least, check_sides, lazily, shrunk_box

if TYPE_CHECKING:
    from countermove.retrieval.collection import Box, Collection

ROLES = ("query", "indexed", "both", "public")
COLUMNS = ("picture", "group", "role", "box")


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A picture: its path below the folder, its group ("": it belongs to none), its role, and a query's box."""

    id: str
    group: str
    role: str = ""
    box: Box | None = None


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Your own pictures, in groups: a query should find the others of its group.

    Either PATH/GROUP/PICTURE, where pictures in deeper folders belong to the group above them and those that lie in
    PATH itself belong to none; or a table with columns picture (a path below PATH) and group, and if you like role and
    box. Roles: query, indexed, both (the query's own picture is then ignored), public (for training backbones). Where
    a group has no roles, one picture of it, chosen by id, is the query and the others are indexed; a group of one is
    indexed only. An empty group belongs to none. A box is four numbers with spaces between: left top right bottom, in
    pixels of the picture as it is. PNG, JPEG, WebP and BMP, read when they are asked for.

    path:         the folder, as it stands or below the data folder.
    table:        the CSV file, as a path below the folder; without it, the folders are the groups.
    longest:      longer sides above so many pixels are shrunk to it.
    public_share: share of the groups of two or more without roles that are the public's, chosen by name.
    split_seed:   another seed chooses other queries and public groups.
    max_pixels:   the largest picture that is decoded.
    """

    version: ClassVar[int] = 1
    path: str
    table: str | None = None
    longest: int = 512
    public_share: float = 0.0
    split_seed: int = 0
    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        check_sides("folder", longest=self.longest)
        check_least("folder", max_pixels=(self.max_pixels, 1))
        if not 0 <= self.public_share < 1:
            raise ConfigError(f"folder: public_share = {self.public_share} is refused: it is 0 to below 1")

    def __call__(self, *, root: Path | None = None) -> Collection:
        """List the pictures; of these, queries with boxes are read.

        Raises:
            DataError: when the folder is empty, nothing can be asked, the table names what is not there or says
                something else than above, or a box is outside its picture.
        """
        import torch

        from countermove.retrieval.collection import Collection, Wanted

        folder = locate(self.path, root)
        listed = self._with_roles(self._listed(folder), folder)
        rows = range(len(listed))
        indexed = [row for row in rows if listed[row].role in ("indexed", "both")]
        found: dict[str, list[int]] = {}
        for row in indexed:
            found.setdefault(listed[row].group, []).append(row)
        queries = [row for row in rows if listed[row].role in ("query", "both")]
        wanted, boxes = [], []
        for row in queries:
            group, name = listed[row].group, listed[row].id
            others = [other for other in found.get(group, []) if other != row]
            if not others:
                raise DataError(
                    f"{folder}: no other picture of the group {group!r} is indexed; {name} cannot be a query"
                )
            own = torch.tensor([row] if listed[row].role == "both" else [], dtype=torch.int64)
            wanted.append(Wanted(positive=torch.tensor(others), ignored=own))
            boxes.append(self._box(folder, listed[row]))
        if not queries:
            raise DataError(f"{folder}: no group has two pictures, so nothing can be asked; put like pictures together")
        public = [row for row in rows if listed[row].role == "public"]
        classes = sorted({listed[row].group for row in public})
        return Collection(
            name=folder.name,
            pictures=lazily([folder / file.id for file in listed], self.longest, max_pixels=self.max_pixels),
            ids=tuple(file.id for file in listed),
            indexed=torch.tensor(indexed),
            queries=torch.tensor(queries),
            boxes=tuple(boxes),
            wanted={"": tuple(wanted)},
            public=torch.tensor(public, dtype=torch.int64),
            public_labels=torch.tensor([classes.index(listed[row].group) for row in public], dtype=torch.int64),
            public_classes=tuple(name or "no group" for name in classes),
        )

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over names, groups, roles, boxes and contents of all pictures."""
        folder = locate(self.path, root)
        listed = self._listed(folder)
        extra = [f"{file.group}\0{file.role}\0{file.box}" for file in listed]
        return fingerprint_files([(file.id, folder / file.id) for file in listed], rehash=rehash, extra=extra)

    def _listed(self, folder: Path) -> list[Listed]:
        if self.table is not None:
            return read_table(folder, safe_child(folder, self.table))
        names = walk_pictures(folder)
        if not names:
            raise DataError(f"{folder} holds no pictures; expected {folder}/GROUP/PICTURE.jpg (or .png, .webp, .bmp)")
        return [Listed(id=name, group=name.split("/", 1)[0] if "/" in name else "") for name in names]

    def _with_roles(self, listed: list[Listed], folder: Path) -> list[Listed]:
        """Give roles to those that have none."""
        groups: dict[str, list[Listed]] = {}
        for file in listed:
            groups.setdefault(file.group, []).append(file)
        free = [name for name, files in groups.items() if name and len(files) > 1 and not any(f.role for f in files)]
        mine = pick(free, self.public_share, seed=self.split_seed, purpose="public groups")
        public = {name for name, taken in zip(free, mine, strict=True) if taken}
        asked = set()
        for name in set(free) - public:
            files = [file.id for file in groups[name]]
            (query,) = pick(files, 1 / len(files), seed=self.split_seed, purpose="queries").nonzero()[0]
            asked.add(files[query])
        for file in listed:
            if file.box is not None and file.role not in ("query", "both"):
                raise DataError(f"{folder}: {file.id} has a box and is no query; give it the role query or both")
        return [
            file
            if file.role
            else dataclasses.replace(
                file, role="public" if file.group in public else "query" if file.id in asked else "indexed"
            )
            for file in listed
        ]

    def _box(self, folder: Path, file: Listed) -> Box | None:
        if file.box is None:
            return None
        return shrunk_box(folder / file.id, file.box, self.longest, name=file.id, max_pixels=self.max_pixels)


def read_table(folder: Path, table: Path) -> list[Listed]:
    """Read the table of pictures below a folder.

    Raises:
        DataError: when it is absent, lacks a column, has an unknown one, names a picture twice or one that is not
            there, or has a role or a box that is none.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="")
            columns = reader.fieldnames or []
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as a CSV file: {error}") from None
    absent = [name for name in COLUMNS[:2] if name not in columns]
    if absent:
        raise DataError(
            f"{table} has no column {absent[0]}; it should have picture and group, and may have role and box"
        )
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise DataError(f"{table} has a column {unknown[0]!r}; {did_you_mean(str(unknown[0]), COLUMNS)}")
    listed: dict[str, Listed] = {}
    for number, row in enumerate(rows, start=2):
        where = f"{table}, line {number}"
        if "" in row:
            raise DataError(f"{where} has more values than there are columns; a box has spaces between its numbers")
        name, group, role, box = ((row.get(column) or "").strip() for column in COLUMNS)
        if not group and role in ("query", "both"):
            raise DataError(f"{where}: {name!r} is a query without a group, so there is nothing to find")
        if role and role not in ROLES:
            raise DataError(f"{where}: unknown role {role!r}; {did_you_mean(role, ROLES)}")
        if not safe_child(folder, name).is_file():
            raise DataError(f"{where} names {name!r}, which is not in {folder}")
        if name in listed:
            raise DataError(f"{where} names {name!r} again")
        listed[name] = Listed(id=name, group=group, role=role, box=_numbers(box.split(), where) if box else None)
    if not listed:
        raise DataError(f"{table} names no picture")
    return list(listed.values())


def _numbers(words: Iterable[str], where: str) -> Box:
    try:
        left, top, right, bottom = (float(word) for word in words)
    except ValueError:
        raise DataError(f"{where}: a box is four numbers with spaces between: left top right bottom") from None
    return left, top, right, bottom
