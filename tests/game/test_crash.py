"""Killed at any moment, a run goes on where it was, and ends with the same bytes as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from coin_audits import artifacts, cells, play_in

DRIVER = Path(__file__).with_name("coin_driver.py")
SLEEP = 0.005
"""Seconds a task takes; there are 60 of them. Short, so that many kills fall between two writes."""


def started(out: Path, workers: int, sleep: float = SLEEP) -> subprocess.Popen[str]:
    """Start a driver in a process group of its own and wait until it begins to play."""
    command = [sys.executable, str(DRIVER), str(out), str(workers), str(sleep)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def finished(out: Path, workers: int) -> int:
    """Play to the end and return how many tasks were done."""
    process = started(out, workers, sleep=0)
    text, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    return int(text.split()[0])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    finished(out, 1)
    return out


def same(out: Path, other: Path) -> None:
    assert cells(out) == cells(other)
    assert artifacts(out) == artifacts(other)


def progress(out: Path) -> int:
    """Count what is finished."""
    return len(list((out / "cells").glob("*.json"))) + len(list((out / "artifacts").glob("[!.]*/manifest.json")))


def group(leader: int) -> set[int]:
    """Return the living processes of a session, zombies apart."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session = entry.joinpath("stat").read_text().rsplit(")", 1)[1].split()[:4]
        except (OSError, ValueError):
            continue
        if int(session) == leader and state != "Z":
            found.add(int(entry.name))
    return found


def wait_until_gone(leader: int) -> None:
    """Wait until no process of a session lives; fail when one stays."""
    deadline = time.monotonic() + 10
    while left := group(leader):
        assert time.monotonic() < deadline, f"processes {left} outlive their driver"
        time.sleep(0.05)


@pytest.mark.parametrize(("workers", "kills"), [(1, 20), (2, 4)])
def test_kill_at_random_moments(tmp_path: Path, undisturbed: Path, workers: int, kills: int) -> None:
    chance = random.Random(workers)
    killed, run = 0, 0
    while killed < kills:
        out, reached, run = tmp_path / str(run), [0], run + 1
        while killed < kills and reached[-1] < progress(undisturbed):
            process = started(out, workers)
            time.sleep(chance.uniform(0, 0.2 if workers == 1 else 0.9))
            process.kill()  # the driver alone: its workers must notice
            process.communicate(timeout=10)
            killed += process.returncode == -signal.SIGKILL
            wait_until_gone(process.pid)
            reached.append(progress(out))
        assert reached == sorted(reached), "what was finished is never lost"
        assert finished(out, workers) + reached[-1] == progress(undisturbed)
        same(out, undisturbed)
        assert not list(out.rglob(".tmp-*"))
        assert not list((out / "scratch").iterdir())


def test_kill_at_every_touch_of_the_disk(tmp_path: Path) -> None:
    play_in(tmp_path / "undisturbed", seeds=1)
    command = [sys.executable, str(DRIVER.with_name("coin_stumbler.py")), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
    same(tmp_path / "run", tmp_path / "undisturbed")
    assert not list((tmp_path / "run").rglob(".tmp-*"))
    assert not list((tmp_path / "run" / "scratch").iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_leaves_a_run_that_goes_on(tmp_path: Path, undisturbed: Path, workers: int) -> None:
    out = tmp_path / "run"
    process = started(out, workers, sleep=0.05)
    deadline = time.monotonic() + 20
    while progress(out) < 5:
        assert time.monotonic() < deadline, "nothing is being played"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everyone hears it
    process.communicate(timeout=10)
    assert process.returncode == 130
    wait_until_gone(process.pid)
    before = progress(out)
    assert 5 <= before < progress(undisturbed)
    assert finished(out, workers) == progress(undisturbed) - before
    same(out, undisturbed)


def test_ctrl_c_does_not_wait_for_long_work(tmp_path: Path) -> None:
    process = started(tmp_path / "run", 2, sleep=600)
    deadline = time.monotonic() + 20
    while not list((tmp_path / "run").glob("scratch/*")):
        assert time.monotonic() < deadline, "nothing is being made"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    wait_until_gone(process.pid)
    assert not list((tmp_path / "run").glob("cells/*"))


def test_two_drivers_do_not_disturb_each_other(tmp_path: Path, undisturbed: Path) -> None:
    out = tmp_path / "run"
    first = started(out, 1, sleep=600)  # it holds the folder for as long as this test may take
    deadline = time.monotonic() + 20
    while not (out / "plan.json").exists():
        assert time.monotonic() < deadline, "nothing is being made"
        time.sleep(0.02)
    second = started(out, 1)
    _, complaint = second.communicate(timeout=20)
    assert second.returncode == 1
    assert f"another process (pid {first.pid}) is playing" in complaint
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate(timeout=20)
    finished(out, 1)
    same(out, undisturbed)
