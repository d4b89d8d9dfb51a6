"""A folder of changed pictures that is about to be published: its manifest, its lock, and how it goes on after a kill.

OUT/manifest.jsonl, format 1. The first line says how the pictures were made; it must be the same in every call. Then
every picture has a line, appended when its PNG is in place. Where an id has several lines the last one counts; a last
line without its end was torn by a kill and is removed. Lines without an id are notes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from array import array
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from countermove.errors import DataError, RunError
from countermove.pixels.decode import words
from countermove.pixels.files import read_bytes, remove_leftovers, safe_child, write_png

MANIFEST = "manifest.jsonl"
WORK = ".work"
FORMAT = 1
_OURS = {"format", "arena", "method", "seed"}
_BEGINNING = b'{"format": '
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Line:
    """What is remembered of a published picture: hashes of its source and of its file, its measured budget, and facts.

    facts: what else the arena wants to know of it in a later call; None where it keeps nothing.
    """

    source_sha256: str
    out: str
    out_sha256: str
    budget: float
    kept: bool | None
    facts: dict[str, Any] | None = None


class Lines(MutableMapping[str, Line]):
    """The line of every picture by its id. Usual ones are packed: some 250 bytes a picture, its id among them."""

    def __init__(self) -> None:
        self._kept: dict[str, int | Line] = {}
        self._hashes, self._budgets, self._inside = bytearray(), array("d"), array("b")

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __getitem__(self, sample: str) -> Line:
        at = self._kept[sample]
        if isinstance(at, Line):
            return at
        hashes, inside = self._hashes[64 * at : 64 * at + 64].hex(), self._inside[at]
        return Line(
            source_sha256=hashes[:64],
            out=_usual(sample),
            out_sha256=hashes[64:],
            budget=self._budgets[at],
            kept=None if inside < 0 else bool(inside),
        )

    def __setitem__(self, sample: str, line: Line) -> None:
        hashes = line.source_sha256 + line.out_sha256
        usual = line.facts is None and line.out == _usual(sample) and isinstance(line.budget, float)
        if not usual or not (_HASH.fullmatch(line.source_sha256) and _HASH.fullmatch(line.out_sha256)):
            self._kept[sample] = line
            return
        self._kept[sample] = len(self._budgets)
        self._hashes += bytes.fromhex(hashes)
        self._budgets.append(line.budget)
        self._inside.append(-1 if line.kept is None else line.kept)

    def __delitem__(self, sample: str) -> None:
        del self._kept[sample]


@dataclass(frozen=True, kw_only=True)
class Protected:
    """What was done.

    out, manifest: where.
    pictures: how many of the source are in the output now; written: how many of them by this call.
    skipped:  a message for every picture that was left out as asked.
    undone:   a message for every picture that was to be changed and could not be; where there is one, the call did
              not do all that was asked.
    gone:     ids in the output that the source no longer has. They stay; publish them or remove them yourself.
    budget:   norm, radius (None: nothing is promised), largest and mean change measured on the stored pictures, in
              [0, 1] pixel units, and whether all kept the radius.
    facts:    what else the arena measured, for machines; told: the same as sentences for people.
    """

    out: Path
    manifest: Path
    pictures: int
    written: int
    skipped: tuple[str, ...]
    gone: tuple[str, ...]
    budget: dict[str, Any]
    undone: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    told: tuple[str, ...] = ()


class Published:
    """An open output folder, held by this process. See `published`."""

    def __init__(self, folder: Path, handle: IO[bytes]) -> None:
        self.folder = folder
        self.lines = Lines()
        self.notes: list[Mapping[str, Any]] = []
        self._handle = handle

    def finished(self, sample: str, out: str, source_sha256: str) -> Line | None:
        """Return a picture's line when its source is the same and its file is there, untouched; None otherwise."""
        line = self.lines.get(sample)
        if line is None or (line.out, line.source_sha256) != (out, source_sha256):
            return None
        path = safe_child(self.folder, out)
        return line if path.is_file() and sha256(read_bytes(path)) == line.out_sha256 else None

    def write(self, out: str, picture: np.ndarray) -> str:
        """Write uint8 [H, W, 3] as PNG to a relative path, whole or not at all; return the SHA-256 of the file.

        Raises:
            DataError: when the path leads outside the folder, through a link for example.
            RunError: when it cannot be written.
        """
        path = safe_child(self.folder, out)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path.parent} cannot be made: {words(error)}. {_advice(self.folder)}") from None
        write_png(path, picture)
        return sha256(read_bytes(path))

    def note(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records to the manifest and flush them to the disk.

        Raises:
            RunError: when the disk is full or gone; what was finished before is kept.
        """
        records = list(records)
        self._append(records)
        self._remember(records)

    def _append(self, records: Iterable[Mapping[str, Any]]) -> None:
        data = b"".join(_encoded(record) for record in records)
        try:
            while data:  # unbuffered: a full disk may take a part, which the next call finds torn and removes
                data = data[self._handle.write(data) :]
            os.fsync(self._handle.fileno())
        except OSError as error:
            raise RunError(
                f"{self.folder / MANIFEST} cannot be written: {words(error)}. {_advice(self.folder)}"
            ) from None

    def begin(self, header: Mapping[str, Any]) -> None:
        """Read what an earlier call has done, or write the first line of a new manifest.

        A call that ended before its first picture binds nobody: its manifest is begun anew.

        Raises:
            RunError: when the earlier call was of another kind, or the manifest cannot be understood.
        """
        first, pictures, whole, size = self._look()
        wanted = {"format": FORMAT, **json.loads(_encoded(header))}
        if first is not None and (pictures or not first.keys() >= _OURS):
            _check_header(self.folder, first, wanted)
        elif first != wanted:
            self.remove_work()
            self._handle.truncate(0)
            self._append([wanted])
            return
        if whole < size:
            self._handle.truncate(whole)
        self._remember(islice(self._records(), 1, None))

    @property
    def work(self) -> Path:
        """A hidden folder for work in flight, of this header only; the caller makes it."""
        return self.folder / WORK

    def remove_work(self) -> None:
        """Remove the work in flight."""
        shutil.rmtree(self.work, ignore_errors=True)

    def _remember(self, records: Iterable[Mapping[str, Any]]) -> None:
        for record in records:
            if "id" in record:
                line: dict[str, Any] = {f.name: record.get(f.name) for f in fields(Line)}
                if not _is_line(line):
                    raise RunError(
                        f"{self.folder / MANIFEST} has a line of {str(record['id'])[:60]!r} that is none of ours; "
                        "restore the file, or choose another folder"
                    )
                self.lines[str(record["id"])] = Line(**line)
            else:
                self.notes.append(record)

    def _look(self) -> tuple[dict[str, Any] | None, bool, int, int]:
        """Return the first record, whether one is a picture's, the length of all whole lines, and that of the file."""
        path = self.folder / MANIFEST
        first, pictures, whole = None, False, 0
        for record in self._records():
            first = record if first is None else first
            pictures = pictures or "id" in record
        with path.open("rb") as file:
            start = file.read(len(_BEGINNING))
            file.seek(0)
            whole = sum(len(line) for line in file if line.endswith(b"\n"))
            size = file.tell()
        if first is None and not (start.startswith(_BEGINNING) or _BEGINNING.startswith(start)):
            raise RunError(f"{path} is no manifest of ours; choose another output folder")
        return first, pictures, whole, size

    def _records(self) -> Iterator[dict[str, Any]]:
        """Yield the record of every whole line."""
        path = self.folder / MANIFEST
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    record = None
                if not isinstance(record, dict):
                    raise RunError(
                        f"line {number} of {path} is no JSON object; restore the file, or choose another folder"
                    )
                yield record


@contextmanager
def published(folder: Path) -> Iterator[Published]:
    """Open an output folder as its only writer; make it when it is new, remove what a killed writer left half-written.

    The manifest itself carries the lock, so nothing is left in the folder that would not be published.

    Raises:
        RunError: when another process writes there, it holds other things, or it cannot be written.
    """
    path = folder / MANIFEST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() and any(folder.iterdir()):
            raise RunError(
                f"{folder} is not empty and holds no {MANIFEST}: it is no output of an earlier call; choose another one"
            )
        if path.is_symlink():
            raise RunError(f"{path} is a link; put the file itself in its place, or choose another output folder")
        handle = path.open("a+b", buffering=0)
    except OSError as error:
        raise RunError(f"{folder} cannot be used: {words(error)}. {_advice(folder)}") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"another process is writing to {folder}; wait until it ends, or choose another output folder"
            ) from None
        remove_leftovers(folder)
        yield Published(folder, handle)


def check_apart(source: Path, out: Path) -> None:
    """Refuse an output folder that is the source, lies inside it or holds it; links and ".." are followed first.

    Raises:
        DataError: in these cases, and where the source is no folder.
        RunError: where the output is a file.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; name the folder with the originals")
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; name a folder for the output")
    inner, outer = out.resolve(), source.resolve()
    if inner == outer:
        raise DataError(
            f"{out} is the folder of the sources itself; the originals are never overwritten: choose another"
        )
    if inner.is_relative_to(outer):
        raise DataError(f"the output {out} lies inside the sources {source}; choose a folder beside it")
    if outer.is_relative_to(inner):
        raise DataError(f"the sources {source} lie inside the output {out}; choose a folder beside them")


def summed_budget(lines: Iterable[Line], norm: str, radius: float | None) -> dict[str, Any]:
    """Return the largest and the mean change over pictures, and whether all kept a radius (None: none is promised)."""
    count, largest, total, kept = 0, 0.0, 0.0, True
    for line in lines:
        count, largest, total = count + 1, max(largest, line.budget), total + line.budget
        kept = kept and bool(line.kept)
    return {
        "norm": norm,
        "radius": radius,
        "largest": largest,
        "mean": total / max(1, count),
        "kept": None if radius is None else kept,
    }


def sha256(data: bytes) -> str:
    """Return the SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _check_header(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    if found.get("format") != FORMAT:
        raise RunError(
            f"{folder / MANIFEST} was written in format {found.get('format')!r}, and this version reads format "
            f"{FORMAT}. Use the version that wrote it, or choose another output folder."
        )
    differing = [k for k in {**wanted, **found} if k != "package" and found.get(k) != wanted.get(k)]
    if differing:
        changes = "; ".join(f"{k} was {_short(found.get(k))} and is now {_short(wanted.get(k))}" for k in differing)
        raise RunError(
            f"{folder} was begun otherwise: {changes}. Go on with the same call as before, or choose another "
            "output folder; what is there is left as it is"
        )


def _is_line(line: Mapping[str, Any]) -> bool:
    texts = all(isinstance(line[name], str) for name in ("source_sha256", "out", "out_sha256"))
    budget, kept, facts = line["budget"], line["kept"], line["facts"]
    number = isinstance(budget, (int, float)) and abs(budget) < 1e300
    return texts and number and isinstance(kept, (bool, type(None))) and isinstance(facts, (dict, type(None)))


def _usual(sample: str) -> str:
    return f"{sample}.png"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _encoded(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _advice(folder: Path) -> str:
    return f"Make room in {folder} or make it writable and run the same command again; what is finished is kept"
