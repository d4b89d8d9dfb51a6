"""Where users' data lie, and what identifies their content without decoding it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from countermove.errors import DataError, RunError
from countermove.game.store import write_atomic

# A file that changed this recently may change again without its time stamp moving; its hash is not remembered.
_SETTLED_NS = 2_000_000_000


def data_folder(root: Path | None) -> Path:
    """Return the folder with the user's data sets: root, else $COUNTERMOVE_DATA, else the cache folder."""
    if root is not None:
        return Path(root)
    named = os.environ.get("COUNTERMOVE_DATA")
    return Path(named).expanduser() if named else cache_folder()


def cache_folder() -> Path:
    """Return $COUNTERMOVE_CACHE, else ~/.cache/countermove. It need not exist."""
    named = os.environ.get("COUNTERMOVE_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "countermove"


def locate(path: str, root: Path | None) -> Path:
    """Find a folder that a setting names: as it stands, seen from here, else below the data folder.

    Raises:
        DataError: when there is no such folder; the message says where it was sought.
    """
    return _sought(path, root, Path.is_dir, "folder", "path=FOLDER")


def locate_file(setting: str, path: str, root: Path | None) -> Path:
    """Find a file that a setting names, in the same places.

    Raises:
        DataError: when there is no such file; the message says where it was sought.
    """
    return _sought(path, root, Path.is_file, "file", f"{setting}=FILE")


def _sought(path: str, root: Path | None, fits: Callable[[Path], bool], what: str, give: str) -> Path:
    here = Path(path).expanduser()
    places = list(dict.fromkeys([here, data_folder(root) / here]))
    for place in places:
        if fits(place):
            return place
    raise DataError(f"there is no {what} {' or '.join(str(place.absolute()) for place in places)}; give {give}")


def fingerprint_files(files: Sequence[tuple[str, Path]], *, rehash: bool = False, extra: Sequence[str] = ()) -> str:
    """Return SHA-256 over the names and contents of files, and over further words, in the order given.

    Args:
        files: the name under which a file counts (it should not depend on where the data lie), and its path.
        rehash: read every file again, whatever the cache says.
        extra: what else identifies the content.
    """
    digests = _file_digests([path for _, path in files], rehash=rehash)
    words = [*extra, *(f"{name}\0{digest}" for (name, _), digest in zip(files, digests, strict=True))]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _file_digests(paths: Sequence[Path], *, rehash: bool) -> list[str]:
    memory = cache_folder() / "hashes.json"
    known = _read_memory(memory)
    digests, learned = [], {}
    for path in paths:
        try:
            status = path.stat()
            key, stamp = os.path.abspath(path), [status.st_size, status.st_mtime_ns]
            entry = known.get(key)
            if not rehash and entry is not None and entry[:2] == stamp:
                digests.append(entry[2])
                continue
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        digests.append(digest)
        if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
            learned[key] = [*stamp, digest]
    if learned:
        # The hashes are right without the memory; where it cannot be kept, the next call only takes longer.
        with suppress(OSError, RunError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(memory, json.dumps({**_read_memory(memory), **learned}, indent=0))
    return digests


def _read_memory(path: Path) -> dict[str, list]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: row for key, row in content.items() if isinstance(row, list) and len(row) == 3}
