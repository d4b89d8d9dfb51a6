"""Pictures in Parquet files, read from front to back, a few rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from countermove.errors import DataError
from countermove.pixels.decode import Limits
from countermove.pixels.files import safe_child
from countermove.pixels.parquet import listed, opened

_ROWS_AT_ONCE = 16


class Shard(NamedTuple):
    """What is known of a file before its pictures are read: every row's label, and the class names if it has them."""

    labels: list[Any]
    names: list[str] | None


@dataclass(frozen=True, slots=True)
class Cell:
    """The picture of one row, not yet read.

    reader: reads it, fastest in the order of the rows.
    file:   the Parquet file.
    row:    counted from 0.
    """

    reader: CellReader
    file: Path
    row: int

    def content(self, *, name: str, limits: Limits) -> bytes | Path:
        """Return the bytes of a picture file, or where it lies.

        Raises:
            DataError: when the cell holds neither, is larger than a picture file may be, leads out of the folder, or
                the file is broken.
        """
        return self.reader.content(self.file, self.row, name=name, limits=limits)


def read_shard(file: Path, image: str, label: str) -> Shard:
    """Read all of a file but its pictures.

    Raises:
        DataError: when it is broken, lacks a column, or would unpack to more than is read.
    """
    with opened(file, image, label) as parquet:
        schema = parquet.schema_arrow
        absent = [column for column in (image, label) if column not in schema.names]
        if absent:
            raise DataError(
                f"{file} has no column {absent[0]!r}; it has {', '.join(schema.names)}. "
                "Name yours with image_column and label_column"
            )
        labels: list[Any] = []
        for group in range(parquet.num_row_groups):
            for chunk in parquet.read_row_group(group, columns=[label]).column(0).chunks:
                labels += listed(chunk)
        return Shard(labels, _class_names(schema.metadata or {}, label))


class CellReader:
    """Reads pictures of Parquet files; one file is open, and a few rows of it are in memory."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._rows: Iterator[tuple[int, Any]] = iter(())
        self._file: Path | None = None
        self._end = 0
        self._first, self._cells = 0, []

    def content(self, file: Path, row: int, *, name: str, limits: Limits) -> bytes | Path:
        """Return what the cell of a row holds; see Cell.content."""
        if file != self._file or not self._first <= row < self._end:
            self._file, self._first, self._cells = file, 0, []
            self._rows = self._batches(file, row)
        try:
            while row >= self._first + len(self._cells):
                self._first, self._cells = next(self._rows)
        except StopIteration:
            raise DataError(f"{file} cannot be read as Parquet: it ends before row {row}") from None
        return _content(self._cells[row - self._first], file, name, limits)

    def _batches(self, file: Path, row: int) -> Iterator[tuple[int, Any]]:
        """Yield (number of the first row, cells) from the row group that holds a row on, up to the group's end."""
        with opened(file, self._image) as parquet:
            first, group = 0, 0
            while row >= first + parquet.metadata.row_group(group).num_rows:
                first += parquet.metadata.row_group(group).num_rows
                group += 1
            self._end = first + parquet.metadata.row_group(group).num_rows
            for batch in parquet.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=[self._image]):
                yield first, batch.column(0)
                first += batch.num_rows


def _content(cell: Any, file: Path, name: str, limits: Limits) -> bytes | Path:
    cell = _unpacked(cell)
    held = [cell]
    if hasattr(cell, "keys"):
        held = [_unpacked(cell[part]) for part in ("bytes", "path") if part in cell.keys()]
    for value in held:
        if not value.is_valid or not hasattr(value, "as_buffer"):
            continue
        if (size := value.as_buffer().size) > limits.max_bytes:
            most = f"at most {limits.max_bytes:,} are read"
            raise DataError(f"{file}: the picture of row {name} has {size:,} bytes; {most}")
        content = value.as_py()
        if isinstance(content, bytes):
            return content
        if value is not cell:
            return safe_child(file.parent, content)
    raise DataError(f"{file}: the picture of row {name} is neither bytes nor a path")


def _unpacked(scalar: Any) -> Any:
    """Return the value behind a scalar of a packed column."""
    return scalar.value if hasattr(scalar, "dictionary") and scalar.is_valid else scalar


def _class_names(metadata: dict[bytes, bytes], label: str) -> list[str] | None:
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
        return [str(name) for name in names] if isinstance(names, list) else None
    except (LookupError, TypeError, ValueError, RecursionError):
        return None
