"""Playing a grid: what is missing is done, what fails is recorded, the rest goes on."""

from __future__ import annotations

import os
import platform
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from countermove.errors import CountermoveError, RunError
from countermove.game.arena import Arena, Rules, arena_class
from countermove.game.cell import Cost, Desk, Outcome, Payer, Task, canonical
from countermove.game.config import AuditConfig
from countermove.game.engines.alone import peak_memory
from countermove.game.engines.local import Engine, LocalEngine
from countermove.game.engines.torchrun import Torchrun
from countermove.game.grid import Grid, expand
from countermove.game.payoff import payoff
from countermove.game.store import FORMAT, RunFolder

Status = Literal["ok", "failed", "blocked"]


@dataclass(frozen=True)
class Job:
    """A task with everything a worker process needs to perform it."""

    task: Task
    run: Path
    arena: str
    rules: Rules
    alone: bool = False
    """Whether it has a process of its own, so that the process's peak memory is the task's."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What an engine adds to the environment field of the record."""


@dataclass(frozen=True)
class Done:
    """How a task ended."""

    key: str
    status: Status
    seconds: float
    error: str = ""
    trace: str = ""
    out_of_memory: bool = False


@dataclass
class Summary:
    """What a call to `play` did."""

    run: RunFolder
    cells: int
    cached: int
    done: list[Done] = field(default_factory=list)

    @property
    def unfinished(self) -> list[Done]:
        """Return what failed or was blocked."""
        return [done for done in self.done if done.status != "ok"]


Watcher = Callable[[str, Task, Done | None], None]
"""Called with "started" or "ended", the task, and how it ended."""


def resolve(config: AuditConfig, out: Path | None = None, *, rehash: bool = False) -> Grid:
    """Settle what depends on the machine (threads, device) and expand the grid.

    The number of threads is part of every key; a run folder that was begun keeps its own.
    """
    threads = config.engine.threads
    if threads is None and out is not None and (out / "audit.toml").exists():
        threads = RunFolder.existing(out).read_config().engine.threads
    if threads is None:
        at_a_time = (config.engine.workers or 1) * config.engine.processes
        threads = 1 if config.engine.name == "ray" else max(1, (os.cpu_count() or 1) // at_a_time)
    on_nodes = (config.engine.name, config.device) == ("ray", "cuda")
    device = "cuda" if on_nodes else _device(config.device, config.engine.processes)
    engine = config.engine.model_copy(update={"threads": threads})
    return expand(config.model_copy(update={"engine": engine, "device": device}), rehash=rehash)


def missing(grid: Grid, run: RunFolder) -> list[Task]:
    """Return the tasks that must still be done, in order: unfinished cells and the artifacts that they need."""
    wanted: set[Task] = set()
    for cell in grid.cells:
        if not _finished(run, cell):
            wanted.add(cell)
            wanted.update(need for need in _closure(cell) if not _finished(run, need))
    return [task for task in grid.tasks if task in wanted]


def play(grid: Grid, out: Path, watch: Watcher = lambda *_: None) -> Summary:
    """Play what is missing of a grid in a run folder.

    Killed at any moment, the same call goes on and has lost only what was in flight.

    Raises:
        RunError: when the folder is locked, foreign, of another format, or cannot be written.
        ConfigError: when the engine is not there.
    """
    engine, config = _engine(grid), grid.config.engine
    run = RunFolder(out)
    with run.locked():
        run.write_config(grid.config)
        run.write_plan([{"key": cell.key, "setting": asdict(_setting(cell))} for cell in grid.cells])
        todo = missing(grid, run)
        summary = Summary(run, len(grid.cells), len(grid.cells) - sum(task.setting is not None for task in todo))
        jobs = [Job(task, out.resolve(), grid.config.arena, grid.rules) for task in todo]
        watched = _Recorder(run, summary, watch)
        many = config.processes
        try:
            engine.run(jobs, perform if many == 1 else Torchrun(perform, accompany, many), watched)
        finally:
            run.unmark()
    return summary


def _engine(grid: Grid) -> Engine:
    config = grid.config.engine
    if config.name == "local":
        return LocalEngine(config.workers or 1, grid.rules.threads, config.timeout, alone=config.processes > 1)
    from countermove.game.engines.ray import RayEngine

    return RayEngine(config, grid.rules.threads, grid.rules.device)


def perform(job: Job) -> Done:
    """Do one task: make an artifact or play a cell, and store it. Runs in a worker; errors become records.

    Only what the arena does is caught: a store that cannot be written ends the run.
    """
    run = RunFolder(job.run)
    began = time.perf_counter()
    arena = _arena(job.arena, job.rules)
    try:
        if job.task.setting is None:
            with run.making(job.task) as (desk, crafted):
                crafted.append(arena.make(job.task, desk))
            return Done(job.task.key, "ok", time.perf_counter() - began)
        record = _record(run, arena, job, arena.play(job.task, run.desk(job.task)))
        canonical(record)  # a metric that is not a number fails its cell, not the run
    except Exception as error:  # a method's failure of any kind is recorded, and the rest goes on
        if isinstance(error, RunError) and job.task.setting is None:
            raise  # it is the store that failed the artifact
        text = str(error) if isinstance(error, CountermoveError) else f"{type(error).__name__}: {error}"
        trace, memory = traceback.format_exc(), _out_of_memory(error)
        done = Done(job.task.key, "failed", time.perf_counter() - began, text, trace, memory)
        _record_failure(run, job.task, done)
        return done
    run.write_cell(job.task.key, record)
    run.clear_scratch(job.task)
    return Done(job.task.key, "ok", time.perf_counter() - began)


def accompany(job: Job, folder: Path) -> Callable[[], None]:
    """Prepare to do one task beside the process that performs it, with the checkpoints that are there now.

    Returns:
        What does the same work in the folder, of which nothing is kept.
    """
    run = RunFolder(job.run)
    desk = Desk(folder=folder / "artifact", scratch=folder / "scratch", artifacts=run.artifacts)
    desk.folder.mkdir(parents=True)
    checkpoints = run.desk(job.task).scratch
    if checkpoints.is_dir():
        shutil.copytree(checkpoints, desk.scratch)
    return partial(_work_along, job, desk)


def _work_along(job: Job, desk: Desk) -> None:
    arena = _arena(job.arena, job.rules)
    (arena.make if job.task.setting is None else arena.play)(job.task, desk)


class _Recorder:
    """Hears from the engine how tasks end; records what was blocked or lost with its worker."""

    def __init__(self, run: RunFolder, summary: Summary, watch: Watcher) -> None:
        self.run, self.summary, self.watch = run, summary, watch

    def started(self, job: Job) -> None:
        self.watch("started", job.task, None)

    def ended(self, job: Job, done: Done) -> None:
        self.summary.done.append(done)
        self.watch("ended", job.task, done)

    def lost(self, job: Job, reason: str, trace: str = "") -> Done:
        """Record a task whose worker died under it, unless its result was already stored."""
        if _finished(self.run, job.task):
            return Done(job.task.key, "ok", 0.0)
        done = Done(job.task.key, "failed", 0.0, reason, trace)
        _record_failure(self.run, job.task, done)
        return done

    def blocked(self, job: Job, cause: Done) -> Done:
        """Record a task that needs something that failed."""
        reason = f"needs {cause.key[:12]}, which did not finish: {cause.error}"
        done = Done(job.task.key, "blocked", 0.0, reason, cause.trace)
        _record_failure(self.run, job.task, done)
        return done


def _record(run: RunFolder, arena: Arena, job: Job, outcome: Outcome) -> dict[str, Any]:
    task = job.task
    setting = _setting(task)
    units = outcome.units
    record: dict[str, Any] = {
        "format": FORMAT,
        "key": task.key,
        "status": "ok",
        "setting": asdict(setting),
        "payload": dict(task.payload),
        "needs": {need.kind: need.key for need in task.needs},
        "reference": task.reference.key if task.reference else task.key,
        "metrics": dict(outcome.metrics),
        "chance": outcome.chance,
        "payoff": None,
        "price": vars(_charged(run, task, "trainer", outcome.cost)),
        "move_cost": vars(_charged(run, task, "mover", Cost())),
        "units": {
            "ids": list(units.ids),
            "outcome": list(units.outcome),
            "counted": None if units.counted is None else list(units.counted),
        },
        "curves": {name: list(values) for name, values in outcome.curves.items()},
        "tables": {name: [list(line) for line in table] for name, table in outcome.tables.items()},
        "environment": {**environment(job.rules), **({"peak_memory": peak_memory()} if job.alone else {}), **job.notes},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    reference = record if task.reference is None else run.read_cell(task.reference.key)
    if reference is not None:
        record["payoff"] = payoff(arena, record, reference)
    return record


def _charged(run: RunFolder, task: Task, payer: Payer, own: Cost) -> Cost:
    """Add the artifacts that one side pays for, in full, to what the cell itself took."""
    return sum((Cost(**run.manifest(key)["cost"]) for key in task.charged_to(payer)), own)


def _out_of_memory(error: Exception) -> bool:
    """Whether an error says so: Python's and numpy's, that of a GPU, that of PyTorch on a processor."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def _record_failure(run: RunFolder, task: Task, done: Done) -> None:
    """Write a failed or blocked cell. What happened to an artifact stands in the cells that it blocks."""
    if task.setting is None:
        return
    record = {
        "format": FORMAT,
        "key": task.key,
        "status": done.status,
        "setting": asdict(task.setting),
        "payload": dict(task.payload),
        "error": done.error,
        "traceback": done.trace,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    run.write_cell(task.key, record)


def environment(rules: Rules) -> dict[str, Any]:
    """Return what a number may depend on besides the key: versions and hardware."""
    return {**_machine(), "device": rules.device, "threads": rules.threads}


@cache
def _machine() -> Mapping[str, Any]:
    facts: dict[str, Any] = {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}
    facts["machine"] = platform.machine()
    for package in ("countermove", "torch", "torchvision", "numpy", "pillow"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = None
    return facts


@cache
def _arena_of(name: str, rules: str) -> Arena:
    import json

    return arena_class(name)(Rules(**json.loads(rules)))


def _arena(name: str, rules: Rules) -> Arena:
    """Return the arena of a worker; kept, so that its data are read once a process."""
    import json

    return _arena_of(name, json.dumps(asdict(rules), sort_keys=True))


def _finished(run: RunFolder, task: Task) -> bool:
    if task.setting is None:
        return run.has_artifact(task.key)
    record = run.read_cell(task.key)
    return record is not None and record["status"] == "ok"


def _closure(task: Task) -> set[Task]:
    found: set[Task] = set()
    for earlier in task.before:
        found |= {earlier} | _closure(earlier)
    return found


def _setting(cell: Task) -> Any:
    assert cell.setting is not None, "artifacts have no setting"
    return cell.setting


def _device(name: str, processes: int) -> Literal["cpu", "cuda"]:
    """Settle "auto" and refuse GPUs that are not there."""
    if name == "cpu":
        return "cpu"
    import torch

    from countermove.errors import DeviceError

    if torch.cuda.is_available():
        if processes > torch.cuda.device_count():
            raise DeviceError(
                f"engine.processes = {processes} of one task need as many GPUs, and there are "
                f"{torch.cuda.device_count()}; lower it, or use device = 'cpu'"
            )
        return "cuda"
    if name == "cuda":
        raise DeviceError("device = 'cuda' was asked for, but PyTorch finds no GPU here; use device = 'cpu' or 'auto'")
    return "cpu"
