"""Folders and Parquet files in the layout of Hugging Face's `imagefolder`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from countermove.errors import DataError
from countermove.game.content import fingerprint_files, locate
from countermove.pixels.decode import Limits
from countermove.pixels.files import OnBroken, safe_child, walk_pictures
from countermove.unlearnable.data.parquet import Cell, CellReader, read_shard
from countermove.unlearnable.data.reading import Entry, Split, read_entries, thin
from countermove.unlearnable.data.selection import check_limits, split_off_test

if TYPE_CHECKING:
    from countermove.unlearnable.dataset import DataSet

_METADATA = ("metadata.csv", "metadata.jsonl")
_TEST = ("test", "validation", "valid", "val", "dev")


@dataclass(frozen=True, kw_only=True)
class HfFolder:
    """Pictures in Hugging Face's imagefolder layout, with their labels in a table.

    Either metadata.csv or metadata.jsonl (in PATH, PATH/train or PATH/test) with a column `file_name`, relative to the
    table, and a label column; or Parquet files with a column of {bytes, path} and a label column. A row belongs to the
    test set if the first folder of its path, or the name of its Parquet file, says test (or validation, valid, val,
    dev); if none does, test pictures are split off. Ids are the paths below PATH, or "train/000017" (row) for Parquet.
    Classes are the distinct labels, sorted (as numbers if they all are), or the names that the Parquet file carries.

    path:          the folder, as it stands or below the data folder.
    image_column:  column of the pictures in Parquet files.
    label_column:  column of the labels.
    side:          crop every picture to its centre square and resize it (Lanczos) to side x side.
    test_fraction: share of each class that becomes test pictures where there is no test split; chosen by id.
    split_seed:    another seed splits off others.
    on_broken:     "fail" stops at a broken picture, "skip" leaves it out and names it.
    max_pixels:    the largest picture that is decoded.
    train_limit:   take only n train pictures, chosen by id and seed.
    test_limit:    take only n test pictures, chosen likewise.
    """

    version: ClassVar[int] = 1
    path: str
    image_column: str = "image"
    label_column: str = "label"
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
        """Read all pictures, Parquet files in the order of their names and a few rows at a time.

        Raises:
            DataError: when there is no table, a row is wrong or leads outside the folder, a picture is absent, broken
                or of another size, or a class is too small.
        """
        from countermove.unlearnable.dataset import from_arrays

        folder = locate(self.path, root)
        tables = _tables(folder)
        rows, names = self._metadata_rows(folder, tables), None
        if not tables:
            rows, names = self._parquet_rows(folder)
        classes, train, test = self._entries(folder, rows, names)
        train_split, skipped = self._read(thin(train, self.train_limit, seed=self.split_seed))
        test_split, also = self._read(thin(test, self.test_limit, seed=self.split_seed))
        return from_arrays(folder.name, classes, train_split, test_split, [*skipped, *also])

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the tables and pictures, or over the Parquet files."""
        folder = locate(self.path, root)
        tables = _tables(folder)
        names = [t.relative_to(folder).as_posix() for t in tables]
        names += walk_pictures(folder) if tables else [p.relative_to(folder).as_posix() for p in _parquet_files(folder)]
        return fingerprint_files([(name, safe_child(folder, name)) for name in names], rehash=rehash)

    def _metadata_rows(self, folder: Path, tables: Sequence[Path]) -> list[_Row]:
        rows = []
        for table in tables:
            for where, row in _read_table(table):
                for column in ("file_name", self.label_column):
                    if row.get(column) in (None, ""):
                        raise DataError(f"{where} has no {column!r}; its columns are {', '.join(map(str, row))}")
                path = safe_child(table.parent, str(row["file_name"]))
                if not path.is_file():
                    raise DataError(f"{where} names {row['file_name']!r}, but {path} is absent")
                name = path.relative_to(folder).as_posix()
                rows.append(_Row(id=name, label=row[self.label_column], source=path, test=name.split("/")[0] in _TEST))
        unlisted = set(walk_pictures(folder)) - {row.id for row in rows} if tables else set()
        if unlisted:
            raise DataError(f"{folder} holds {len(unlisted)} pictures without a label, for example {min(unlisted)!r}")
        return rows

    def _parquet_rows(self, folder: Path) -> tuple[list[_Row], list[str] | None]:
        files = _parquet_files(folder)
        if not files:
            raise DataError(f"{folder} holds neither {' nor '.join(_METADATA)} nor a Parquet file")
        rows: list[_Row] = []
        names = None
        counts = {True: 0, False: 0}
        reader = CellReader(self.image_column)
        for file in files:
            labels, names = read_shard(file, self.image_column, self.label_column)
            test = any(word in _words_of(file.relative_to(folder)) for word in _TEST)
            for row, label in enumerate(labels):
                name = f"{'test' if test else 'train'}/{counts[test]:06d}"
                counts[test] += 1
                rows.append(_Row(id=name, label=label, source=Cell(reader, file, row), test=test))
        return rows, names

    def _entries(
        self, folder: Path, rows: Sequence[_Row], names: Sequence[str] | None
    ) -> tuple[list[str], list[Entry], list[Entry]]:
        if not rows:
            raise DataError(f"the tables of {folder} name no pictures")
        classes, number = _classes(folder, rows, names)
        if not any(row.test for row in rows):
            chosen = split_off_test(
                [row.id for row in rows],
                [number[str(row.label)] for row in rows],
                self.test_fraction,
                seed=self.split_seed,
            )
            rows = [replace(row, test=bool(take)) for row, take in zip(rows, chosen, strict=True)]
        entries = [(row.test, Entry(id=row.id, label=number[str(row.label)], source=row.source)) for row in rows]
        return classes, [e for test, e in entries if not test], [e for test, e in entries if test]

    def _read(self, entries: Sequence[Entry]) -> tuple[Split, list[str]]:
        limits = Limits(max_pixels=self.max_pixels)
        return read_entries(entries, side=self.side, limits=limits, on_broken=self.on_broken)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    id: str
    label: Any
    source: Path | Cell
    test: bool


def _classes(folder: Path, rows: Sequence[_Row], names: Sequence[str] | None) -> tuple[list[str], dict[str, int]]:
    """Return the class names, and the class number of every label as it is written."""
    if names is not None:
        number = {str(i): i for i in range(len(names))}
        wrong = [row for row in rows if str(row.label) not in number]
        if wrong:
            raise DataError(
                f"labels don't match: {wrong[0].id} in {folder} is labelled {wrong[0].label!r}, but the file names "
                f"{len(names)} classes, so 0 to {len(names) - 1} is expected (-1 usually means 'not labelled')"
            )
        return list(names), number
    labels = {str(row.label) for row in rows}
    numeric = all(label.removeprefix("-").isdecimal() and len(label) < 20 for label in labels)
    classes = sorted(labels, key=int) if numeric else sorted(labels)
    unseen = sorted(labels - {str(row.label) for row in rows if not row.test})
    if unseen:
        raise DataError(f"labels don't match: {folder} labels test pictures {unseen[0]!r}, which no train picture is")
    return classes, {label: i for i, label in enumerate(classes)}


def _tables(folder: Path) -> list[Path]:
    names = [f"{split}{name}" for split in ("", "train/", *(f"{test}/" for test in _TEST)) for name in _METADATA]
    return [safe_child(folder, name) for name in names if (folder / name).is_file()]


def _read_table(table: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where it stands, row)."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            if table.suffix == ".csv":
                reader = csv.DictReader(file)
                for row in reader:
                    yield f"{table}, line {reader.line_num}", row
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise DataError(f"{table}, line {number} is no JSON object")
                    yield f"{table}, line {number}", row
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as {table.suffix[1:]}: {error}") from None


def _parquet_files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*.parquet") if not any(p.startswith(".") for p in path.parts))
    return [safe_child(folder, path.relative_to(folder).as_posix()) for path in files]


def _words_of(path: Path) -> list[str]:
    return path.as_posix().lower().replace("/", " ").replace("-", " ").replace("_", " ").replace(".", " ").split()
