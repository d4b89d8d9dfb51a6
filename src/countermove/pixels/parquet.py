"""Parquet files that strangers may have made: what they say of themselves is checked before anything is unpacked."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from countermove.errors import ConfigError, DataError

MAX_ROWS = 50_000_000
"""Rows of a file."""

MAX_ROW_GROUP = 2 * 2**30
"""Bytes that the columns that are read of a row group may have when they are unpacked, equal values once."""

_BUFFER = 1 << 20


@contextmanager
def opened(file: Path, *columns: str) -> Iterator[Any]:
    """Open a file as pyarrow's ParquetFile, equal texts of some columns unpacked once.

    What it raises while it is read is told as a DataError, too.

    Raises:
        ConfigError: where pyarrow is not installed.
        DataError: when the file is broken, or has more rows or larger row groups than are read.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError("reading Parquet files needs pyarrow, which is not installed: pip install pyarrow") from None
    try:
        found = pq.read_metadata(file)
        _check(file, found, columns)
        parts = [part for part in found.schema if part.path.split(".")[0] in columns]
        texts = [p.path for p in parts if p.physical_type == "BYTE_ARRAY" and p.logical_type.type != "DECIMAL"]
        with pq.ParquetFile(
            file, metadata=found, read_dictionary=texts, buffer_size=_BUFFER, pre_buffer=False
        ) as parquet:
            yield parquet
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} cannot be read as Parquet: {' '.join(str(error).split())}") from None


def listed(chunk: Any) -> list[Any]:
    """Return the values of an Arrow array as Python's; equal ones of a packed column are one object.

    Raises:
        DataError: when its values are lists or records, which would be unpacked row by row.
    """
    import pyarrow as pa

    if pa.types.is_nested(chunk.type):
        raise DataError(f"a column has a {chunk.type} in every row; a number or a text is expected")
    if not isinstance(chunk, pa.DictionaryArray):
        return chunk.to_pylist()
    values = chunk.dictionary.to_pylist()
    return [None if at is None else values[at] for at in chunk.indices.to_pylist()]


def _check(file: Path, metadata: Any, columns: Collection[str]) -> None:
    if metadata.num_rows > MAX_ROWS:
        raise DataError(f"{file} unpacks to {metadata.num_rows:,} rows; at most {MAX_ROWS:,} are read")
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        parts = (group.column(i) for i in range(group.num_columns))
        size = sum(p.total_uncompressed_size for p in parts if p.path_in_schema.split(".")[0] in columns)
        size += group.num_rows * sum(p.length for p in metadata.schema if p.physical_type == "FIXED_LEN_BYTE_ARRAY")
        if size > MAX_ROW_GROUP:
            raise DataError(
                f"{file}: row group {number} unpacks to {size:,} bytes; at most {MAX_ROW_GROUP:,} are read. Write the "
                "file with smaller row groups"
            )
