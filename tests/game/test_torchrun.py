"""One task by several processes: the first one's result counts, and none is left behind."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from coin_audits import artifacts, audit, cells, play_in

from countermove.errors import RunError
from countermove.game.engines.alone import Alone
from countermove.game.engines.torchrun import Torchrun
from countermove.game.run import Done, Job, accompany, resolve

FEW: dict[str, Any] = {"seeds": 1, "moves": ["loaded(bias=0.4)"], "countermoves": ["none"]}
TWO: dict[str, Any] = {"threads": 1, "workers": 2, "processes": 2}


def test_two_processes_give_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    trouble = {"crash": "loaded(bias=0.4) | none"}
    play_in(tmp_path / "one", **FEW)
    summary, _ = play_in(tmp_path / "two", **FEW, training=trouble, engine=TWO)
    (crashed,) = summary.unfinished
    assert crashed.error == "its process was killed by SIGSEGV"
    healed, _ = play_in(tmp_path / "two", **FEW, engine=TWO)
    assert not healed.unfinished
    assert cells(tmp_path / "two") == cells(tmp_path / "one")
    assert artifacts(tmp_path / "two") == artifacts(tmp_path / "one")
    records = [json.loads(path.read_text()) for path in (tmp_path / "two" / "cells").glob("*.json")]
    assert {record["environment"]["processes"] for record in records} == {2}
    assert not any((tmp_path / "two" / "scratch").iterdir())
    assert {path.name.partition("_")[0] for path in (tmp_path / "temporary").iterdir()} <= {"torchinductor"}


def job_in(out: Path) -> Job:
    (out / "scratch").mkdir()
    grid = resolve(audit(**FEW))
    return Job(grid.tasks[0], out, "coin", grid.rules)


def tell_ports(job: Job) -> Done:
    """Tell on which addresses the processes of this group listen."""
    own = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[2]) == os.getpgrp():
                own |= {os.readlink(handle) for handle in (stat.parent / "fd").iterdir()}
        except OSError:
            continue
    listening = []
    for kind, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", kind).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                words = fields[1].partition(":")[0]
                packed = b"".join(bytes.fromhex(words[i : i + 8])[::-1] for i in range(0, len(words), 8))
                listening.append(socket.inet_ntop(family, packed))
    return Done(job.task.key, "ok", 0.0, json.dumps(listening))


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
def test_nobody_else_can_join(tmp_path: Path) -> None:
    done = Alone(1, None)(Torchrun(tell_ports, accompany, 2), job_in(tmp_path)).done
    assert done is not None
    assert set(json.loads(done.error)) == {"127.0.0.1"}


def complain(job: Job) -> Done:
    raise RunError("the disk is full")


def test_a_store_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    assert Alone(1, None)(Torchrun(complain, accompany, 2), job_in(tmp_path)).fatal == "the disk is full"
