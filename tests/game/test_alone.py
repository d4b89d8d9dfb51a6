"""A task in a process of its own: what it does to that process is its own affair."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from coin_audits import artifacts, audit, cells, play_in

from countermove.errors import RunError
from countermove.game.engines.alone import Alone
from countermove.game.run import Done, Job, resolve

FEW: dict[str, Any] = {"seeds": 1, "moves": ["loaded(bias=0.4)"], "countermoves": ["shake"]}
ALONE: dict[str, Any] = {"threads": 1, "workers": 2, "timeout": 30}


def record(out: Path, label: str) -> dict[str, Any]:
    """Return the one record whose move and countermove are these."""
    move, reply = label.split(" | ")
    found = [json.loads(path.read_text()) for path in (out / "cells").glob("*.json")]
    (one,) = [r for r in found if (r["setting"]["move"], r["setting"]["countermove"]) == (move, reply)]
    return one


def one_job(out: Path) -> Job:
    grid = resolve(audit(**FEW))
    return Job(grid.tasks[0], out, "coin", grid.rules)


def test_a_timeout_gives_what_no_timeout_gives(tmp_path: Path) -> None:
    play_in(tmp_path / "one", **FEW)
    summary, watched = play_in(tmp_path / "two", **FEW, engine=ALONE)
    assert not summary.unfinished
    assert len(watched.started) == len(watched.ended)
    assert cells(tmp_path / "two") == cells(tmp_path / "one")
    assert artifacts(tmp_path / "two") == artifacts(tmp_path / "one")
    assert 10_000_000 < record(tmp_path / "two", "none | none")["environment"]["peak_memory"] < 500_000_000
    assert "peak_memory" not in record(tmp_path / "one", "none | none")["environment"]


def test_a_task_that_hangs_or_crashes_fails_alone(tmp_path: Path) -> None:
    trouble = {"hang": "none | shake", "crash": "loaded(bias=0.4) | shake"}
    summary, _ = play_in(tmp_path, **FEW, training=trouble, engine={**ALONE, "timeout": 6})
    assert len(summary.unfinished) == 2
    hung, crashed = record(tmp_path, "none | shake"), record(tmp_path, "loaded(bias=0.4) | shake")
    assert hung["error"] == "took longer than engine.timeout = 6 s; its process was killed"
    assert crashed["error"] == "its process was killed by SIGSEGV"
    assert "in _misbehave" in crashed["traceback"]
    healed, _ = play_in(tmp_path, **FEW)
    assert not healed.unfinished


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def complain(job: Job) -> Done:
    raise RunError("the disk is full")


def chatter(job: Job) -> Done:
    subprocess.Popen(["sleep", "1000"])
    print("a task may say what it likes")
    assert sys.stdin.read() == ""
    return Done(job.task.key, "ok", 0.0, os.environ["OMP_NUM_THREADS"] + str(job.alone) + str(os.getpgrp()))


def test_a_store_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    assert Alone(1, None)(complain, one_job(tmp_path)).fatal == "the disk is full"


def test_what_a_task_prints_reads_and_leaves_behind_is_no_answer(tmp_path: Path) -> None:
    done = Alone(3, None)(chatter, one_job(tmp_path)).done
    assert done is not None
    assert done.error.startswith("3True")
    deadline = time.monotonic() + 10
    while group_lives(int(done.error.removeprefix("3True"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def group_lives(group: int) -> bool:
    """Whether a process of this group is more than a zombie."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = read(stat).decode(errors="replace").rpartition(")")[2].split()
        if fields and fields[0] != "Z" and int(fields[2]) == group:
            return True
    return False


def test_a_task_ends_with_who_waits_for_it(tmp_path: Path) -> None:
    code = f"""
import sys; sys.path[:] = {sys.path!r}
from pathlib import Path
from coin_audits import play_in
play_in(Path({str(tmp_path)!r}), **{FEW!r}, training={{"hang": "none | none"}}, engine={ALONE!r})
"""
    driver = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 30
    try:
        while not (hung := children(driver.pid)) or not (tmp_path / "plan.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    while any(map(group_lives, hung)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = read(stat).decode(errors="replace").rpartition(")")[2].split()
        if fields and int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_the_peak_is_the_most_that_was_held() -> None:
    code = """
from countermove.game.engines.alone import peak_memory
before = peak_memory()
block = bytearray(b"x" * 200_000_000)
del block
print(before, peak_memory())
"""  # in a process of its own: this one may have held more before than it holds now
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    before, after = map(int, told.split())
    assert after > max(before, 200_000_000)
