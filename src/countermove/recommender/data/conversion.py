"""Turning a file of DVBPR's authors, a pickle, into plain files: a table, pictures and a manifest."""

from __future__ import annotations

import hashlib
import json
import reprlib
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from countermove.errors import DataError, RunError
from countermove.pixels.files import write_atomic
from countermove.recommender.data.pickled import read_pickled_npy

FORMAT = 1
PARTS = ("train", "validation", "test")
TABLE = "interactions.parquet"
MANIFEST = "manifest.json"


def convert(source: Path | str, out: Path | str) -> dict[str, Any]:
    """Convert a published file to a folder that AmazonMen and Tradesy read. Nothing that the file asks for is run.

    The folder appears whole or not at all. The file is held in memory (2 to 4 GB).

    Returns:
        what the manifest says: sizes, and SHA-256 of the source and of every table.

    Raises:
        DataError: when the file is broken, asks for code to be run, or holds something else; when `out` is there.
        RunError: when the folder cannot be written.
    """
    source, out = Path(source), Path(out)
    if out.exists():
        raise DataError(f"{out} is already there; name another folder, or remove it first")
    rows, pictures, users = _published(source)
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(8)}.tmp")
    try:
        (temporary / "pictures").mkdir(parents=True)
        for item, picture in enumerate(pictures):
            (temporary / "pictures" / f"{item}.jpg").write_bytes(picture)
        _write_table(temporary / TABLE, rows)
        manifest = {
            "format": FORMAT,
            "users": users,
            "items": len(pictures),
            "interactions": len(rows),
            "tables": {TABLE: _digest(temporary / TABLE)},
            "source": {"name": source.name, "bytes": source.stat().st_size, "sha256": _digest(source)},
        }
        write_atomic(temporary / MANIFEST, json.dumps(manifest, indent=2).encode())
        temporary.rename(out)
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def _published(source: Path) -> tuple[list[tuple[int, int, str]], list[bytes], int]:
    """Return rows (user, item, part), pictures by item, and how many users there are."""
    content = read_pickled_npy(source)
    if len(content) != len(PARTS) + 3:
        raise DataError(f"{source} holds {len(content)} objects; six are expected: three parts, items, and two counts")
    *parts, shown, users, items = content
    if not all(isinstance(count, int) and 0 < count < 10**8 for count in (users, items)):
        ends = f"{reprlib.repr(users)} and {reprlib.repr(items)}"
        raise DataError(f"{source} ends in {ends}; the numbers of users and of items are expected")
    rows = []
    for name, part in zip(PARTS, parts, strict=True):
        for user in range(users):
            touched = list(_touched(source, name, part, user, items))
            if name != "train" and len(touched) > 1:
                raise DataError(f"{source}: user {user} has {len(touched)} {name} items; one is expected")
            rows += [(user, item, name) for item in touched]
    return rows, [_picture(source, shown, item) for item in range(items)], users


def _touched(source: Path, name: str, part: Any, user: int, items: int) -> Iterator[int]:
    try:
        for entry in part[user]:
            item = entry[b"productid"] if b"productid" in entry else entry["productid"]
            if not isinstance(item, int) or not 0 <= item < items:
                raise DataError(
                    f"{source}: {name}, user {user} touched item {reprlib.repr(item)}; items are 0 to {items - 1}"
                )
            yield item
    except (LookupError, TypeError) as error:
        raise DataError(f"{source}: {name} has no list of items of user {user} ({type(error).__name__})") from None


def _picture(source: Path, shown: Any, item: int) -> bytes:
    try:
        picture = shown[item][b"imgs"] if b"imgs" in shown[item] else shown[item]["imgs"]
    except (LookupError, TypeError) as error:
        raise DataError(f"{source}: item {item} has no picture ({type(error).__name__})") from None
    if not isinstance(picture, bytes) or not picture.startswith(b"\xff\xd8\xff"):
        raise DataError(f"{source}: the picture of item {item} is no JPEG: it begins with {reprlib.repr(picture)}")
    return picture


def _write_table(path: Path, rows: Sequence[tuple[int, int, str]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    user, item, part = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    pq.write_table(
        pa.table({"user": pa.array(user, pa.int64()), "item": pa.array(item, pa.int64()), "part": part}), path
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
