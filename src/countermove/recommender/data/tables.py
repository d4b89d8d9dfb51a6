"""Tables that owners bring, CSV or Parquet: columns by name, ids as texts, missing values refused by row."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.pixels.parquet import listed, opened

KINDS = (".csv", ".parquet")
# From here on neighbouring integers share one floating-point number.
_INEXACT = 2.0**53


@dataclass(frozen=True)
class Table:
    """Columns of a table, and where each row stands: its line in a CSV file, its number in a Parquet file."""

    path: Path
    columns: Mapping[str, Sequence[Any]]
    rows: Sequence[int]

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def ids(self, column: str) -> list[str]:
        """Return a column as texts. Integers are written as integers, also those that are stored as 7.0.

        Raises:
            DataError: at a missing value, or one that is neither a text nor an integer; names its row.
        """
        return [self._text(column, row, value) for row, value in zip(self.rows, self.columns[column], strict=True)]

    def labels(self, column: str) -> list[str]:
        """Return a column as texts like `ids`; empty where the value is missing."""
        pairs = zip(self.rows, self.columns[column], strict=True)
        return ["" if _missing(value) else self._text(column, row, value) for row, value in pairs]

    def numbers(self, column: str) -> list[float]:
        """Return a column as finite numbers.

        Raises:
            DataError: at a missing value, or one that is no finite number; names its row.
        """
        return [self._number(column, row, value) for row, value in zip(self.rows, self.columns[column], strict=True)]

    def where(self, row: int) -> str:
        """Say where a row stands."""
        return f"{self.path}, {'line' if self.path.suffix.lower() == '.csv' else 'row'} {row}"

    def _text(self, column: str, row: int, value: Any) -> str:
        if _missing(value):
            raise DataError(f"{self.where(row)} has no {column!r}; fill it in or leave the row out")
        if isinstance(value, str) and "\0" not in value:
            return value
        if isinstance(value, float) and value.is_integer() and abs(value) < _INEXACT:
            return str(int(value))
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise DataError(
            f"{self.where(row)}: {column} = {value!r} is refused: it must be a text or an integer (one stored as a "
            "floating-point number must be below 2**53)"
        )

    def _number(self, column: str, row: int, value: Any) -> float:
        if value is None or value == "":
            raise DataError(f"{self.where(row)} has no {column!r}; fill it in or leave the row out")
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise DataError(
                f"{self.where(row)}: {column} = {value!r} is refused: it must be a finite number, such as seconds "
                "since 1970"
            )
        return number


def check_table(setting: str, path: str) -> None:
    """Refuse a path whose suffix says neither CSV nor Parquet.

    Raises:
        ConfigError: naming the setting.
    """
    if Path(path).suffix.lower() not in KINDS:
        raise ConfigError(f"{setting} = {path!r} is refused: a table ends in {' or '.join(KINDS)}")


def read_table(path: Path, needed: Mapping[str, str], *, optional: Sequence[str] = ()) -> Table:
    """Read columns of a table.

    Args:
        path: of a .csv file in UTF-8 whose first line names the columns, or of a .parquet file.
        needed: the columns, each under the name of the setting that names it.
        optional: columns that are read where they are there.

    Raises:
        DataError: when the file cannot be read, a needed column is absent (with the nearest names), a CSV line has
            too few or too many fields, or there are no rows.
    """
    read = _read_csv if path.suffix.lower() == ".csv" else _read_parquet
    table = read(path, needed, optional)
    if not table.rows:
        raise DataError(f"{path} names its columns but has no rows")
    return table


def _wanted(path: Path, there: Sequence[str], needed: Mapping[str, str], optional: Sequence[str]) -> list[str]:
    """Return the columns to read, in the order of the file."""
    for setting, column in needed.items():
        if column not in there:
            hint = did_you_mean(column, there)
            raise DataError(f"{path} has no column {column!r}: {hint} Name yours with {setting}")
    wanted = [column for column in there if column in needed.values() or column in optional]
    twice = {column for column in wanted if wanted.count(column) > 1}
    if twice:
        raise DataError(f"{path} has several columns named {min(twice)!r}; rename all but one")
    return wanted


def _read_csv(path: Path, needed: Mapping[str, str], optional: Sequence[str]) -> Table:
    lines: list[int] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            wanted = _wanted(path, header, needed, optional)
            at = [header.index(column) for column in wanted]
            columns: list[list[str]] = [[] for _ in wanted]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num} has {len(row)} fields; the first line names {len(header)}"
                    )
                lines.append(reader.line_num)
                for column, i in zip(columns, at, strict=True):
                    column.append(row[i])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV in UTF-8: {error}") from None
    return Table(path, dict(zip(wanted, columns, strict=True)), lines)


def _read_parquet(path: Path, needed: Mapping[str, str], optional: Sequence[str]) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        wanted = _wanted(path, pq.read_schema(path).names, needed, optional)
        with opened(path, *wanted) as file:
            content = file.read(columns=wanted)
        columns = {
            column: [value for chunk in _plain(content[column]).chunks for value in listed(chunk)] for column in wanted
        }
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from None
    return Table(path, columns, range(1, content.num_rows + 1))


def _plain(column: Any) -> Any:
    """Return points in time as integers, whose order is what counts; everything else as it is."""
    import pyarrow as pa

    if pa.types.is_date32(column.type):
        return column.cast(pa.int32())
    return column.cast(pa.int64()) if pa.types.is_temporal(column.type) else column


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
