"""The run folder: the only truth. Files appear whole or not at all; cells are written last.

Layout (format 1)::

    audit.toml           the resolved configuration, written first
    cells/<key>.json     one finished, failed or blocked cell
    artifacts/<key>/     what cells share, with manifest.json
    scratch/<key>/       checkpoints of work in flight
    scratch/playing      which task the only process performs
    results.csv, report.html, plan.json   derived
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from countermove.errors import RunError
from countermove.game.cell import Crafted, Desk, Task
from countermove.game.config import AuditConfig, dump_config, load_config

FORMAT = 1
_STAMP = "# countermove run folder, format "
_MARK = "playing"


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that it is there whole or not at all: same folder, fsync, rename, fsync of the folder.

    Raises:
        RunError: when the disk is full, read-only or not ours; nothing is left behind.
    """
    raw = data.encode() if isinstance(data, str) else data
    temporary = None
    try:
        with _refusing(f"cannot write {path}"):
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".tmp-", delete=False) as file:
                temporary = Path(file.name)
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
            temporary = None
            _sync_folder(path.parent)
    finally:
        if temporary is not None:
            with suppress(OSError):  # what cannot be removed now is swept by the next driver
                temporary.unlink()


class RunFolder:
    """One run. Readers need no lock; the one driver holds it while it writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells = path / "cells"
        self.artifacts = path / "artifacts"
        self.scratch = path / "scratch"

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """Open a run folder for reading.

        Raises:
            RunError: when it is none, or one of another format.
        """
        audit = path / "audit.toml"
        try:
            first = audit.read_text(encoding="utf-8").split("\n", 1)[0]
        except (OSError, UnicodeDecodeError):
            raise RunError(f"{path} is no run folder: it holds no readable audit.toml") from None
        if not first.startswith(_STAMP):
            raise RunError(f"{path} is no run folder: its audit.toml does not begin with {_STAMP.strip()!r}")
        found = first.removeprefix(_STAMP).strip()
        if found != str(FORMAT):
            raise RunError(
                f"{path} was written in format {found}, and this version reads format {FORMAT}. "
                "Use the version that wrote it, or choose another --out."
            )
        return cls(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder as its one driver; create it when it is new.

        Raises:
            RunError: when another process holds it, or it cannot be written.
        """
        with _refusing(f"cannot use {self.path}"):
            if self.path.exists() and any(self.path.iterdir()) and not self._ours():
                raise RunError(f"{self.path} is not empty and no run folder; choose another --out")
            for folder in (self.cells, self.artifacts, self.scratch):
                folder.mkdir(parents=True, exist_ok=True)
            handle = (self.path / "run.lock").open("a+b", buffering=0)
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                handle.seek(0)
                holder = handle.read(100).decode(errors="replace").strip()
                raise RunError(
                    f"another process ({holder or 'unknown'}) is playing in {self.path}. "
                    "Wait until it ends, or choose another --out."
                ) from None
            with _refusing(f"cannot use {self.path}"):
                handle.truncate(0)
                handle.write(f"pid {os.getpid()}".encode())
                self._sweep()
            yield

    def _ours(self) -> bool:
        if (self.path / "audit.toml").exists():
            RunFolder.existing(self.path)
            return True
        return {p.name for p in self.path.iterdir() if not p.name.startswith(".tmp-")} <= {
            "cells",
            "artifacts",
            "scratch",
            "run.lock",
        }

    def _sweep(self) -> None:
        """Remove what a killed process left half-written, and checkpoints of work that is done."""
        for folder in (self.path, self.cells, self.artifacts):
            for left in folder.glob(".tmp-*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        for left in self.scratch.iterdir():
            cell = self.read_cell(left.name)
            if self.has_artifact(left.name) or (cell is not None and cell.get("status") == "ok"):
                shutil.rmtree(left)

    def write_config(self, config: AuditConfig) -> None:
        """Write audit.toml."""
        write_atomic(self.path / "audit.toml", f"{_STAMP}{FORMAT}\n{dump_config(config)}")

    def read_config(self) -> AuditConfig:
        """Read audit.toml back."""
        return load_config(self.path / "audit.toml")

    def write_plan(self, cells: list[dict[str, Any]]) -> None:
        """Write which cells the audit has now; cells of earlier versions of the audit stay but are not reported."""
        write_atomic(self.path / "plan.json", json.dumps({"format": FORMAT, "cells": cells}, indent=1))

    def read_plan(self) -> list[dict[str, Any]] | None:
        """Return the planned cells (key and setting), None before the first plan."""
        plan = _read_json(self.path / "plan.json")
        cells = plan.get("cells") if isinstance(plan, dict) else None
        if not isinstance(cells, list) or not all(isinstance(cell, dict) and _named(cell.get("key")) for cell in cells):
            return None
        return cells

    def read_cell(self, key: str) -> dict[str, Any] | None:
        """Return a cell's record, None when there is none that can be believed."""
        return _read_record(self.cells / f"{key}.json", key)

    def write_cell(self, key: str, record: dict[str, Any]) -> None:
        """Write a cell's record: the last thing that happens to a cell."""
        write_atomic(self.cells / f"{key}.json", json.dumps(record, indent=1, allow_nan=False) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """Return the records of the planned cells that are there, in the plan's order (all cells without a plan)."""
        plan = self.read_plan()
        keys = [cell["key"] for cell in plan] if plan is not None else sorted(p.stem for p in self.cells.glob("*.json"))
        return [record for key in keys if (record := self.read_cell(key)) is not None]

    def has_artifact(self, key: str) -> bool:
        """Whether an artifact is finished."""
        return _read_record(self.artifacts / key / "manifest.json", key) is not None

    def artifact(self, key: str) -> Path:
        """Return the folder of a finished artifact, for showing what is in it.

        Raises:
            RunError: when it is not there, or a link in it leads out of the run folder.
        """
        self.manifest(key)
        folder, inside = self.artifacts / key, self.path.resolve()
        for path in (folder, *folder.iterdir()):
            if not path.resolve().is_relative_to(inside):
                raise RunError(f"{path} leads out of {self.path}; files of other folders are not shown")
        return folder

    def manifest(self, key: str) -> dict[str, Any]:
        """Return an artifact's manifest.

        Raises:
            RunError: when the artifact is not there.
        """
        record = _read_record(self.artifacts / key / "manifest.json", key)
        if record is None:
            raise RunError(f"artifact {key} in {self.path} has no readable manifest; run the audit again to remake it")
        return record

    @contextmanager
    def making(self, task: Task) -> Iterator[tuple[Desk, list[Crafted]]]:
        """Give an artifact an empty folder; on leaving without error the folder gets its manifest and its name.

        The caller appends what was crafted to the list.

        Raises:
            RunError: when the disk is full, read-only or not ours; nothing is believed of the artifact.
        """
        with _refusing(f"cannot write artifact {task.key}"):
            temporary = Path(tempfile.mkdtemp(dir=self.artifacts, prefix=f".tmp-{task.key[:8]}-"))
        crafted: list[Crafted] = []
        try:
            yield self.desk(task, temporary), crafted
            with _refusing(f"cannot write artifact {task.key}"):
                self._finish(task, temporary, crafted[0])
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.clear_scratch(task)

    def _finish(self, task: Task, temporary: Path, crafted: Crafted) -> None:
        manifest = {
            "format": FORMAT,
            "key": task.key,
            "kind": task.kind,
            "label": task.label,
            "payload": dict(task.payload),
            "needs": {need.kind: need.key for need in task.needs},
            "facts": dict(crafted.facts),
            "cost": vars(crafted.cost),
            "files": {p.name: _sha256(p) for p in sorted(temporary.iterdir())},
        }
        final = self.artifacts / task.key
        for file in temporary.iterdir():
            _sync_file(file)
        write_atomic(temporary / "manifest.json", json.dumps(manifest, indent=1, allow_nan=False) + "\n")
        temporary.chmod(0o755)
        shutil.rmtree(final, ignore_errors=True)  # one without a readable manifest may stand there
        temporary.rename(final)
        _sync_folder(self.artifacts)

    def desk(self, task: Task, folder: Path | None = None) -> Desk:
        """Return where a task is performed."""
        return Desk(folder=folder or self.path, scratch=self.scratch / task.key, artifacts=self.artifacts)

    def mark(self, key: str) -> None:
        """Note which task is performed now, in case that this process falls with it. Nothing depends on the note."""
        with suppress(OSError):
            (self.scratch / _MARK).write_text(key, encoding="utf-8")

    def marked(self) -> str:
        """Return the key of the task that was performed when a process fell, "" when none did."""
        with suppress(OSError, UnicodeDecodeError):
            with (self.scratch / _MARK).open(encoding="utf-8") as file:
                return file.read(100)
        return ""

    def unmark(self) -> None:
        """Take the note away."""
        with suppress(OSError):
            (self.scratch / _MARK).unlink()

    def clear_scratch(self, task: Task) -> None:
        """Remove a finished task's checkpoints."""
        shutil.rmtree(self.scratch / task.key, ignore_errors=True)


def _read_record(path: Path, key: str) -> dict[str, Any] | None:
    """Read a record of this key and format; anything else counts as absent."""
    record = _read_json(path) if _named(key) else None
    good = isinstance(record, dict) and record.get("key") == key and record.get("format") == FORMAT
    return record if good else None


def _read_json(path: Path) -> Any:
    """Read a JSON file, None where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # ValueError: no JSON, no UTF-8, or a number of thousands of digits
        return None


def _named(key: object) -> bool:
    """Whether a key that somebody wrote down names a file or folder of its own: no path, and nothing hidden."""
    return isinstance(key, str) and re.fullmatch(r"[^./\\\0][^/\\\0]{0,99}", key) is not None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Turn what the disk says into a RunError with advice."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{what}: {error.strerror}. {_advice(error)}") from error


def _advice(error: OSError) -> str:
    import errno

    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "Free some space and run the same command again; what is finished is kept."
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return "Choose an --out that you may write to."
    return "Check the folder and run the same command again; what is finished is kept."
