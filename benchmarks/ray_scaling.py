"""What Ray costs a task, measured with one and two workers here, and what follows for up to 1,000 workers on paper.

Measured: a small audit of cells that sleep, with one and with two workers; then the driver alone, on tasks that do
nothing. Simulated: an audit of 10,000 cells in the order in which the engine really starts them (`engines.order`), with
the measured costs: the driver serves one start or end at a time, a worker starts a process and plays. The simulation
knows no network, no shared file system and no Ray head under load; those come on top.

``python benchmarks/ray_scaling.py [CELL_SECONDS]``
"""

from __future__ import annotations

import heapq
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from countermove.game.config import AuditConfig, make_config
from countermove.game.engines import ray as engine
from countermove.game.engines.alone import Ending
from countermove.game.engines.order import Order
from countermove.game.run import Done, Job, perform, resolve
from countermove.game.store import RunFolder

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "plugins"))
WORKERS = (1, 2, 10, 100, 1000)
TRIVIAL = 2000
"""Tasks that do nothing, for the driver's own cost."""


def audit(seeds: int, sleep: float = 0.0, **settings: Any) -> AuditConfig:
    """Return an audit of the toy arena: 14 cells and 3 artifacts a seed."""
    return make_config(
        {
            "arena": "coin",
            "data": "purse(size=60)",
            "moves": "shaved",
            "countermoves": ["shake", "scale", "shake(times=9)", "scale(grams=4)", "blindfold"],
            "models": "thumb",
            "seeds": seeds,
            "training": {"sleep": sleep},
            "engine": {"threads": 1, "name": "ray", **settings},
        }
    )


class Silent:
    """A listener that records nothing."""

    def started(self, job: Job) -> None:
        """Hear that a job begins."""

    def ended(self, job: Job, done: Done) -> None:
        """Hear how a job ended."""
        assert done.status == "ok", done

    def lost(self, job: Job, reason: str, trace: str = "") -> Done:
        """Nothing is lost here."""
        raise AssertionError(reason + trace)

    def blocked(self, job: Job, cause: Done) -> Done:
        """Nothing is blocked here."""
        raise AssertionError(cause.error)


def main() -> None:
    """Measure, simulate, print."""
    sleep = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    with engine.private_cluster(2) as ray:
        starting = _measured(ray, sleep)
        _fresh_workers(ray)
        driving = _driver_alone(ray)
    jobs = _jobs(audit(714), Path("run"))
    cells = sum(job.task.setting is not None for job in jobs)
    print(f"on paper, {len(jobs):,} tasks of an audit of {cells:,} cells, each after what it needs:")
    for seconds in (sleep, 60.0, 600.0):
        full = (starting + seconds) / driving
        print(f"  tasks of {seconds:g} s; the driver has no pause from {full:,.0f} workers on")
        alone = _simulated(jobs, 1, starting + seconds, driving)
        for workers in WORKERS:
            took = _simulated(jobs, workers, starting + seconds, driving)
            times = alone / took
            print(f"    {workers:5d} workers: {took / 3600:8.2f} h, {times:6.1f} times as fast ({times / workers:.0%})")


def _measured(ray: Any, sleep: float) -> float:
    """Play cells that sleep with one and two workers; return the seconds that a task takes besides sleeping."""
    took = {}
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            config, run = audit(1, sleep, workers=workers), RunFolder(Path(folder))
            jobs = _jobs(config, Path(folder))
            with run.locked():
                run.write_config(resolve(config).config)
                took[workers] = _played(ray, config, jobs)
        besides = workers * took[workers] / len(jobs) - sleep
        print(
            f"{workers} workers: {len(jobs)} tasks of {sleep:g} s in {took[workers]:.1f} s, "
            f"{took[1] / took[workers]:.2f} times as fast; {besides:.2f} s a task besides sleeping",
            flush=True,
        )
    return took[1] / len(jobs) - sleep


def _fresh_workers(ray: Any) -> None:
    """Show what a task takes when Ray starts a worker of its own for it, which is what the engine does not do."""
    fresh = ray.remote(max_calls=1, max_retries=0)(lambda: os.getpid())
    began, tasks = time.perf_counter(), 16
    workers = set(ray.get([fresh.remote() for _ in range(tasks)]))
    assert len(workers) == tasks
    took = 2 * (time.perf_counter() - began) / tasks
    print(f"a new Ray worker for every task, instead: {took:.2f} s a task besides its work", flush=True)


def _driver_alone(ray: Any) -> float:
    """Let the engine hand out tasks that do nothing; return the driver's seconds a task."""
    config = audit(TRIVIAL // 17, workers=32)
    jobs, watch = _jobs(config, Path("run")), engine._watch
    engine._watch = _nothing
    try:
        _played(ray, config, jobs[:100])  # workers start, code is loaded
        busy = time.process_time()
        took = _played(ray, config, jobs)
        busy = time.process_time() - busy
    finally:
        engine._watch = watch
    print(
        f"driver alone: {len(jobs):,} tasks that do nothing in {took:.1f} s, {1000 * took / len(jobs):.2f} ms a task; "
        f"{1000 * busy / len(jobs):.2f} ms of processor time in the driver",
        flush=True,
    )
    return took / len(jobs)


def _played(ray: Any, config: AuditConfig, jobs: list[Job]) -> float:
    began = time.perf_counter()
    engine.RayEngine(config.engine, 1)._play(ray, jobs, perform, Silent())
    return time.perf_counter() - began


def _nothing(driver: Any, perform: Any, job: Job, threads: int, timeout: float | None) -> Ending:
    return Ending(done=Done(job.task.key, "ok", 0.0))


def _simulated(jobs: list[Job], workers: int, seconds: float, driving: float) -> float:
    """Return the seconds until all jobs are done: half of the driver's work is at a start, half at an end."""
    order, driver, free = Order(jobs), 0.0, workers
    flying: list[tuple[float, int, Job]] = []
    while order or flying:
        while order and free:
            job = order.take()
            driver += driving / 2
            heapq.heappush(flying, (driver + seconds, id(job), job))
            free -= 1
        ended, _, job = heapq.heappop(flying)
        driver = max(driver, ended) + driving / 2
        free += 1
        order.settle(job, Done(job.task.key, "ok", 0.0))
    return driver


def _jobs(config: AuditConfig, run: Path) -> list[Job]:
    grid = resolve(config)
    return [Job(task, run, "coin", grid.rules) for task in grid.tasks]


if __name__ == "__main__":
    main()
