"""The Ray engine on loopback: the local engine's results, whatever dies."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from coin_audits import artifacts, audit, cells, play_in

from countermove.errors import ConfigError
from countermove.game.cell import Task
from countermove.game.config import dump_config
from countermove.game.engines import ray as engine
from countermove.game.engines.alone import Ending
from countermove.game.run import Done, Job, play, resolve

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install countermove[ray]")
FEW: dict[str, Any] = {"seeds": 1, "moves": ["loaded(bias=0.4)"], "countermoves": ["shake"]}
SETTINGS = {"RAY_NUM_REDIS_GET_RETRIES": "2", "RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
"""How long Ray waits for a head that refuses or is gone; its own values are twenty and sixty seconds."""


@pytest.fixture(scope="module", autouse=True)
def token() -> Iterator[None]:
    """Ray reads its settings when it is imported first; in this process that is below."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_AUTH_MODE", "token")
    patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    for name, value in SETTINGS.items():
        patch.setenv(name, value)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def cluster(token: None) -> Iterator[tuple[str, int]]:
    """Address and process of a private cluster with two CPUs."""
    holder = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("coin_cluster.py")), "2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        yield holder.stdout.readline().strip(), holder.pid
    finally:
        holder.stdin.close()
        holder.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            holder.wait(20)
        holder.kill()
        holder.wait()


def on(cluster: tuple[str, int], **changes: Any) -> dict[str, Any]:
    return {"name": "ray", "threads": 1, "address": cluster[0], **changes}


def processes() -> dict[int, tuple[int, str]]:
    """Return parent and command line of every process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = folder.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            found[int(folder.name)] = int(parent), folder.joinpath("cmdline").read_text().replace("\0", " ")
    return found


def below(root: int) -> dict[int, str]:
    """Return the command lines of all processes that descend from one."""
    known, found, added = processes(), {root: ""}, True
    while added:
        added = {pid: line for pid, (parent, line) in known.items() if parent in found and pid not in found}
        found |= added
    return found


def record(out: Path, label: str) -> dict[str, Any]:
    """Return the one record whose move and countermove are these."""
    move, reply = label.split(" | ")
    found = [json.loads(path.read_text()) for path in (out / "cells").glob("*.json")]
    (one,) = [r for r in found if (r["setting"]["move"], r["setting"]["countermove"]) == (move, reply)]
    return one


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The few cells, played by the local engine."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    play_in(out, **FEW)
    return out


def same(out: Path, other: Path) -> None:
    assert cells(out) == cells(other)
    assert artifacts(out) == artifacts(other)


def command(tmp_path: Path, cluster: tuple[str, int], **training: Any) -> list[str]:
    """Return the command that plays the few cells in ``tmp_path/run``."""
    (tmp_path / "few.toml").write_text(dump_config(audit(**FEW, training=training)))
    told = ["--engine", "ray", "--set", f"engine.address={cluster[0]}", "--set", "engine.threads=1"]
    return [sys.executable, "-m", "countermove", "audit", str(tmp_path / "few.toml"), "--out", f"{tmp_path}/run", *told]


def wait_for(condition: Any, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def test_without_ray_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install countermove\[ray\]"):
        play_in(tmp_path / "run", engine={"name": "ray"})
    assert not (tmp_path / "run").exists()


@needs_ray
def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no Ray cluster at 127\.0\.0\.1:1: Connection refused"):
        play_in(tmp_path, **FEW, engine={"name": "ray", "address": "127.0.0.1:1"})


@needs_ray
def test_results_are_those_of_the_local_engine(
    tmp_path: Path, cluster: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    play_in(tmp_path / "local", seeds=1)
    monkeypatch.setenv("RAY_ADDRESS", cluster[0])
    summary, watched = play_in(tmp_path / "ray", seeds=1, engine={"name": "ray", "memory": "100MB"})
    assert not summary.unfinished
    assert len(watched.started) == len(watched.ended) == len(summary.done)
    same(tmp_path / "ray", tmp_path / "local")
    environment = record(tmp_path / "ray", "none | none")["environment"]
    assert environment["engine"] == "ray"
    assert 10_000_000 < environment["peak_memory"] < 500_000_000
    again, _ = play_in(tmp_path / "ray", seeds=1)  # by the local engine, in the same folder
    assert again.cached == again.cells


@needs_ray
def test_trouble_stays_where_it_is(tmp_path: Path, cluster: tuple[str, int]) -> None:
    """A crash, a hung task, a failed artifact with what it blocks, and memory that runs out once."""
    trouble = {"crash": "loaded(bias=0.4) | none", "hang": "none | shake", "fail": "mould", "starve": "loaded | none"}
    summary, _ = play_in(tmp_path, seeds=1, training=trouble, engine=on(cluster, timeout=10, memory="100MB"))
    assert sorted(d.status for d in summary.unfinished) == ["blocked"] * 3 + ["failed"] * 3
    crashed, hung = record(tmp_path, "loaded(bias=0.4) | none"), record(tmp_path, "none | shake")
    assert (crashed["status"], crashed["error"]) == ("failed", "its process was killed by SIGSEGV")
    assert "in _misbehave" in crashed["traceback"]
    assert (hung["status"], hung["error"][:36]) == ("failed", "took longer than engine.timeout = 10")
    blocked = record(tmp_path, "shaved | shake")
    assert blocked["status"] == "blocked"
    assert "told to fail at mould" in blocked["error"]
    starved = record(tmp_path, "loaded | none")["environment"]
    assert starved["out_of_memory"] == "MemoryError: told to run out of memory"
    assert starved["memory_request"] >= 200_000_000
    healed, _ = play_in(tmp_path, seeds=1)
    assert not healed.unfinished


@needs_ray
def test_a_killed_worker_costs_a_try(
    tmp_path: Path, cluster: tuple[str, int], undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed: list[int] = []

    def kill(event: str, task: Task, done: Done | None) -> None:
        watching = [pid for pid, line in below(cluster[1]).items() if line.startswith("ray::_watch")]
        if done is not None and not killed and watching:
            os.kill(watching[0], signal.SIGKILL)
            killed.append(watching[0])

    config = audit(**FEW, engine=on(cluster), training={"sleep": 0.5})
    summary = play(resolve(config, tmp_path), tmp_path, kill)
    assert killed
    assert not summary.unfinished
    assert capsys.readouterr().out == ""
    play_in(tmp_path, **FEW)  # the next call sweeps up what the dead left
    same(tmp_path, undisturbed)


@needs_ray
def test_a_task_that_no_node_can_hold_is_refused(tmp_path: Path, cluster: tuple[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"no node of the Ray cluster can hold .* gpus = 0.5.* 0 GPUs"):
        play_in(tmp_path, **FEW, engine=on(cluster, gpus=0.5))


@needs_ray
def test_what_ray_reports_is_told_apart() -> None:
    from ray import exceptions as errors

    class Reports:
        exceptions = errors

        def get(self, error: Exception) -> None:
            raise error

    memory, lost = engine._outcome(Reports(), errors.OutOfMemoryError("Task was killed\nand more"))
    assert (memory.out_of_memory, lost) == (True, False)
    assert memory.reason == "Ray killed its worker for lack of memory: Task was killed"
    for error in (errors.WorkerCrashedError(), errors.NodeDiedError("the node is gone")):
        ending, lost = engine._outcome(Reports(), error)
        assert (ending.out_of_memory, ending.fatal, lost) == (False, "", True)
    assert "could not begin" in engine._outcome(Reports(), errors.RayTaskError("f", "trace", ValueError()))[0].fatal
    with pytest.raises(errors.LocalRayletDiedError):
        engine._outcome(Reports(), errors.LocalRayletDiedError())


@needs_ray
@pytest.mark.parametrize(
    ("asked", "peak", "again"),
    [(0, 300, 600), (400, 300, 800), (400, 900, 1000)],
    ids=["no-request", "twice", "a-node"],
)
def test_a_second_try_asks_for_twice_the_memory_but_no_more_than_a_node_has(asked: int, peak: int, again: int) -> None:
    sizes = ((True, 1000.0), (False, 9000.0))

    class Cluster:
        def nodes(self) -> list[dict[str, Any]]:
            return [{"Alive": alive, "Resources": {"memory": size, "CPU": 1.0, "GPU": 1.0}} for alive, size in sizes]

    grid = resolve(audit(**FEW))
    first = engine._Attempt(Job(grid.tasks[0], Path("run"), "coin", grid.rules), asked, 0.4)
    second = engine.RayEngine(grid.config.engine, 1)._larger(Cluster(), first, Ending(reason="killed", peak=peak))
    assert (second.memory, second.gpus, second.notes["memory_request"]) == (again, 0.8, again)
    assert second.notes["out_of_memory"] == "killed"


@needs_ray
def test_the_cluster_listens_on_this_machine_alone(cluster: tuple[str, int]) -> None:
    sockets = set()
    for pid in below(cluster[1]):
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                sockets.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    listening = {fields[1].partition(":")[0] for fields in lines if fields[3] == "0A" and fields[9] in sockets}
    assert listening
    assert listening <= {"0100007F", "0000000000000000FFFF00000100007F"}


@needs_ray
def test_who_has_no_token_is_refused(tmp_path: Path, cluster: tuple[str, int]) -> None:
    stranger = {**os.environ, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    done = subprocess.run(command(tmp_path, cluster), env=stranger, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot join the Ray cluster" in done.stderr
    assert not list((tmp_path / "run" / "cells").iterdir())


@needs_ray
def test_a_killed_driver_goes_on(tmp_path: Path, cluster: tuple[str, int], undisturbed: Path) -> None:
    driver = subprocess.Popen(command(tmp_path, cluster, sleep=0.7), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    done = tmp_path / "run" / "cells"
    wait_for(lambda: done.exists() and len(list(done.glob("*.json"))) >= 2)
    driver.kill()
    driver.communicate()
    wait_for(lambda: not any("alone import main" in line for line in below(cluster[1]).values()))
    reached = len(list(done.glob("*.json")))
    assert reached < len(cells(undisturbed))
    again = subprocess.run(command(tmp_path, cluster), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert f"{reached} of them cached" in again.stdout
    same(tmp_path / "run", undisturbed)


@needs_ray
def test_a_killed_head_ends_the_driver_and_nothing_is_lost(
    tmp_path: Path, cluster: tuple[str, int], undisturbed: Path
) -> None:
    """The last test with this cluster."""
    driver = subprocess.Popen(command(tmp_path, cluster, sleep=0.7), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    done = tmp_path / "run" / "cells"
    wait_for(lambda: done.exists() and len(list(done.glob("*.json"))) >= 1)
    before = {path.name: path.read_bytes() for path in done.glob("*.json")}
    for pid, line in below(cluster[1]).items():
        if "gcs_server" in line:
            os.kill(pid, signal.SIGKILL)
    driver.communicate(timeout=60)
    summary, _ = play_in(tmp_path / "run", **FEW)
    assert not summary.unfinished
    assert before.items() <= {path.name: path.read_bytes() for path in done.glob("*.json")}.items()
    same(tmp_path / "run", undisturbed)
