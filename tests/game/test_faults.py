"""A disk, a clock, a method or a second driver that fails: nothing finished is lost, nothing half-written believed."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest
from coin_audits import artifacts, cells, play_in
from coin_faulter import FAULTS

from countermove.errors import RunError
from countermove.game import run as run_module
from countermove.game.arena import Arena, arena_class
from countermove.game.cell import Crafted, Desk, Task
from countermove.game.store import RunFolder

FAULTER = Path(__file__).with_name("coin_faulter.py")
DRIVER = FAULTER.with_name("coin_driver.py")


@pytest.mark.parametrize("fault", FAULTS)
def test_every_touch_of_the_disk_may_fail(tmp_path: Path, fault: str) -> None:
    """The promises themselves are checked after every fault, in `coin_faulter.py`."""
    done = subprocess.run([sys.executable, FAULTER, tmp_path, fault], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["faults"] == sum(found["met"].values()) == sum(found["ends"].values())
    # plan, audit, five cells and three artifacts with four checkpoints each, every one of them renamed into place
    assert found["met"]["rename"] >= 2 + 5 + 3 * (1 + 4)
    assert found["met"]["write"] > found["met"]["rename"] // 2
    assert set(found["met"]) == {"create", "write", "fsync", "mode", "rename", "mkdir", "remove", "rmdir"}
    codes, stays = FAULTS[fault]
    if codes == (None,):
        assert set(found["ends"]) == {"killed"}
    elif stays:
        # a disk that stays broken ends the run, with advice; the last touch takes a note away that nothing depends on
        assert found["ends"] == {"refused": found["faults"] - 1, "ended": 1}
    else:
        assert found["ends"]["refused"] > found["faults"] / 2


def test_a_full_disk_under_an_artifact_ends_the_run_and_blames_no_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: RunFolder, *_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "_finish", full)
        with pytest.raises(RunError, match=r"cannot write artifact .*Free some space"):
            play_in(tmp_path, seeds=1)
    assert not [record for record in RunFolder(tmp_path).records() if record["status"] != "ok"]


class Backwards:
    """A clock that goes back by an hour whenever it is looked at."""

    def __init__(self) -> None:
        self.seconds = 2e9

    def time(self) -> float:
        self.seconds -= 3600
        return self.seconds

    def time_ns(self) -> int:
        return int(self.time() * 1e9)


def test_a_clock_that_jumps_changes_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play_in(tmp_path / "undisturbed", seeds=1)
    clock = Backwards()

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.fromtimestamp(clock.time(), tz)

    with monkeypatch.context() as patch:
        patch.setattr(time, "time", clock.time)
        patch.setattr(time, "time_ns", clock.time_ns)
        patch.setattr(run_module, "datetime", Jumping)
        summary, _ = play_in(tmp_path / "run", seeds=1)
        again, _ = play_in(tmp_path / "run", seeds=1)
    assert not summary.unfinished
    assert again.cached == again.cells, "what is finished is told by its content, not by its time"
    records = RunFolder(tmp_path / "run").records()
    finished = [datetime.fromisoformat(record["finished"]) for record in records]
    assert max(finished) > min(finished) > datetime(2033, 1, 1, tzinfo=UTC)
    assert all(record["price"]["seconds"] >= 0 for record in records)
    assert cells(tmp_path / "run") == cells(tmp_path / "undisturbed")
    assert artifacts(tmp_path / "run") == artifacts(tmp_path / "undisturbed")


def test_a_cell_that_crashes_its_worker_takes_no_other_with_it(tmp_path: Path) -> None:
    play_in(tmp_path / "undisturbed", seeds=1)
    out, workers = tmp_path / "run", {"threads": 1, "workers": 2}
    summary, _ = play_in(out, seeds=1, engine=workers, training={"crash": "shaved | shake"})
    (lost,) = [record for record in RunFolder(out).records() if record["status"] != "ok"]
    assert lost["setting"]["move"] == "shaved"
    assert "its worker process died" in lost["error"]
    assert len(summary.unfinished) == 1
    play_in(out, seeds=1, engine=workers)
    assert cells(out) == cells(tmp_path / "undisturbed")


def test_a_crash_of_the_only_process_loses_what_was_in_flight_alone(tmp_path: Path) -> None:
    play_in(tmp_path / "undisturbed", seeds=1)
    script = "import sys; from pathlib import Path; from coin_audits import play_in; "
    script += "play_in(Path(sys.argv[1]), seeds=1, training={'crash': 'shaved | shake'})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FAULTER.parent), os.environ["PYTHONPATH"]])}
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "run"], env=environment, check=False)
    assert done.returncode == -signal.SIGSEGV
    kept = {path.name for path in (tmp_path / "run" / "cells").iterdir()}
    assert kept
    summary, _ = play_in(tmp_path / "run", seeds=1, training={"crash": "shaved | shake"})  # now in a process of its own
    assert summary.cached == len(kept)
    assert [done.error for done in summary.unfinished] == ["its process was killed by SIGSEGV"]
    summary, watched = play_in(tmp_path / "run", seeds=1)
    assert watched.played == ["shaved | shake | thumb | purse(size=60) | seed 0"]
    assert cells(tmp_path / "run") == cells(tmp_path / "undisturbed")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_an_artifact_with_a_fact_that_is_no_number_is_never_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: float
) -> None:
    coin = arena_class("coin")
    whole = coin.make

    def wild(self: Arena, task: Task, desk: Desk) -> Crafted:
        crafted = whole(self, task, desk)
        return Crafted(cost=crafted.cost, facts={"budget": number}) if "shaved" in task.label else crafted

    with monkeypatch.context() as patch:
        patch.setattr(coin, "make", wild)
        summary, _ = play_in(tmp_path, seeds=1)
    assert {done.status for done in summary.unfinished} == {"failed", "blocked"}
    assert not [path for path in (tmp_path / "artifacts").iterdir() if path.name.startswith(".tmp-")]
    records = RunFolder(tmp_path).records()
    assert {record["setting"]["move"] for record in records if record["status"] != "ok"} == {"shaved"}
    summary, _ = play_in(tmp_path, seeds=1)
    assert not summary.unfinished


def test_of_drivers_that_start_at_once_one_plays(tmp_path: Path) -> None:
    command = [sys.executable, str(DRIVER), str(tmp_path / "run"), "1", "0.05"]
    drivers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ends = [(driver.communicate(timeout=120), driver.returncode) for driver in drivers]
    (played,) = [said for (said, _), code in ends if code == 0]
    assert int(played.split()[1]) > 0
    refused = [complaint for (_, complaint), code in ends if code == 1]
    assert len(refused) == 2
    assert all("is playing in" in complaint for complaint in refused)
    summary, _ = play_in(tmp_path / "one", seeds=1)
    assert cells(tmp_path / "one").items() <= cells(tmp_path / "run").items()
    assert not summary.unfinished
