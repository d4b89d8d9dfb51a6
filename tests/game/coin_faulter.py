"""Plays an audit of the toy arena on a disk that fails: ``python coin_faulter.py FOLDER FAULT``.

Fault number n strikes at the n-th time that anything below the run folder is created, written, flushed, renamed, given
a mode or removed; every n gets a new run folder, until a run comes to its end without having met its fault. A write
that is struck has written half. After each, the folder is looked at and the same audit is played again in it on a sound
disk. Prints what was met as JSON; any broken promise ends it with an error.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coin_audits import artifacts, audit, cells

from countermove.errors import RunError
from countermove.game.cell import Task
from countermove.game.grid import Grid
from countermove.game.run import Done, play, resolve
from countermove.game.store import RunFolder, _sha256

FAULTS: dict[str, tuple[tuple[int | None, ...], bool]] = {
    "killed": ((None,), False),
    "full": ((errno.ENOSPC,), True),
    "once": ((errno.ENOSPC, errno.EIO), False),
    "forbidden": ((errno.EROFS, errno.EACCES), True),
}
"""What the operating system says, by turns, and whether it goes on saying so."""

AUDIT: dict[str, Any] = {"data": "purse(size=5)", "moves": ["shaved"], "countermoves": ["none"], "seeds": 1}
FREEING = {"remove", "rmdir"}
"""What a full disk still does."""

ENDED, UNFINISHED, REFUSED, FOREIGN = 0, 3, 2, 1


class Disk:
    """Strikes at the n-th touch of a folder; tells what it struck by way of a file beside it."""

    def __init__(self, folder: Path, at: int, code: int | None, stays: bool, told: Path) -> None:
        self.inside, self.left, self.code, self.stays, self.told = f"{folder}/", at, code, stays, told

    def touched(self, what: str, path: object) -> bool:
        """Count a touch; whether it is to fail."""
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        if not f"{os.fsdecode(path)}/".startswith(self.inside):
            return False
        self.left -= 1
        if self.left == 0:
            with _open(self.told, "w") as file:
                file.write(what)
        struck = self.left <= 0 if self.stays else self.left == 0
        return struck and not (self.code == errno.ENOSPC and what in FREEING)

    def strike(self) -> None:
        """Be killed, or fail."""
        if self.code is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.code, os.strerror(self.code or 0))

    def guard(self, what: str, path: object) -> None:
        """Fail at a touch that is to fail."""
        if self.touched(what, path):
            self.strike()


_open = io.open


class FaultyFile(io.FileIO):
    """A file that may take half of what it is given."""

    disk: Disk

    def write(self, data: Any) -> int:
        """Write, or strike in the middle."""
        if self.disk.touched("write", self.name if isinstance(self.name, str) else None):
            super().write(bytes(data)[: len(data) // 2])
            self.disk.strike()
        return super().write(data)


def fail_with(disk: Disk) -> None:
    """Put the failing disk under this process."""

    class File(FaultyFile):
        pass

    File.disk = disk

    def faulty_open(file: Any, mode: str = "r", buffering: int = -1, *further: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+"):
            return _open(file, mode, buffering, *further, **options)
        disk.guard("create", file)
        raw = File(file, mode.replace("b", "").replace("t", ""), opener=options.get("opener"))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding="utf-8")

    builtins.open = io.open = faulty_open

    def guarded(name: str, what: str) -> None:
        whole: Callable[..., Any] = getattr(os, name)

        def touch(path: Any, *further: Any, **options: Any) -> Any:
            # Removal of a tree names what is in it relative to its open folder.
            full = path if (at := options.get("dir_fd")) is None else f"{os.readlink(f'/proc/self/fd/{at}')}/{path}"
            disk.guard(what, full)
            return whole(path, *further, **options)

        setattr(os, name, touch)

    for name, what in {
        "mkdir": "mkdir",
        "chmod": "mode",
        "rename": "rename",
        "replace": "rename",
        "unlink": "remove",
        "rmdir": "rmdir",
    }.items():
        guarded(name, what)

    def fsync(handle: int) -> None:
        disk.guard("fsync", os.readlink(f"/proc/self/fd/{handle}"))

    os.fsync = fsync


def play_on(disk: Disk, grid: Grid, out: Path, finished: Path) -> int:
    """Play on the failing disk in this process; keep a list of what was said to be finished."""

    def watch(event: str, task: Task, done: Done | None) -> None:
        if event == "ended" and done is not None and done.status == "ok":
            with _open(finished, "a") as file:
                file.write(f"{'cell' if task.setting else 'artifact'} {task.key}\n")

    fail_with(disk)
    try:
        summary = play(grid, out, watch)
    except RunError:
        return REFUSED
    return UNFINISHED if summary.unfinished else ENDED


def looked_at(out: Path, finished: Path, whole: dict[str, Any], made: dict[str, bytes]) -> None:
    """Nothing that was finished is lost, and nothing is believed that is not whole."""
    run = RunFolder(out)
    for line in finished.read_text().splitlines() if finished.exists() else []:
        kind, key = line.split()
        record = run.read_cell(key) if kind == "cell" else None
        assert run.has_artifact(key) if kind == "artifact" else record is not None and record["status"] == "ok", line
    believed = {path.stem for path in (out / "cells").glob("*.json") if run.read_cell(path.stem) is not None}
    for name, record in cells(out).items() if believed else ():
        if record["status"] == "ok":
            assert record == whole[name]
    for folder in (out / "artifacts").glob("[!.]*"):
        if run.has_artifact(folder.name):
            files = run.manifest(folder.name)["files"]
            assert files
            assert {name: _sha256(folder / name) for name in files} == files
    for path, content in artifacts(out).items() if (out / "artifacts").exists() else ():
        if ".tmp-" not in path and run.has_artifact(path.split("/")[1]):
            assert content == made[path], path


def main() -> int:
    """Let every touch fail once."""
    os.fsync = lambda _: None  # nothing here cuts the power, and flushing would take most of the time
    folder, (codes, stays) = Path(sys.argv[1]).resolve(), FAULTS[sys.argv[2]]
    grid = resolve(audit(**AUDIT))
    play(grid, folder / "whole")
    whole, made = cells(folder / "whole"), artifacts(folder / "whole")
    met: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for at in range(1, 5000):
        out, told, finished = folder / "run", folder / "told", folder / "finished"
        code = codes[at % len(codes)]
        child = os.fork()
        if child == 0:
            end = FOREIGN
            try:
                end = play_on(Disk(out, at, code, stays, told), grid, out, finished)
            finally:
                if end == FOREIGN:
                    import traceback

                    traceback.print_exc()
                os._exit(end)
        end = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if not told.exists():
            assert end == ENDED, end
            print(json.dumps({"faults": at - 1, "met": met, "ends": ends}), flush=True)
            return 0
        met[told.read_text()] += 1
        ends[{ENDED: "ended", UNFINISHED: "unfinished", REFUSED: "refused", -signal.SIGKILL: "killed"}[end]] += 1
        assert (end == -signal.SIGKILL) == (code is None)
        looked_at(out, finished, whole, made)
        again = play(grid, out)
        assert not again.unfinished, (at, again.unfinished)
        assert cells(out) == whole, at
        assert artifacts(out) == made, at
        assert not list(out.rglob(".tmp-*")), at
        assert not list((out / "scratch").iterdir()), at
        shutil.rmtree(out)
        told.unlink()
        finished.unlink(missing_ok=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
