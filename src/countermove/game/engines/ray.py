"""Tasks on a Ray cluster: an existing one, or one of this machine that nobody else can reach.

A Ray worker does nothing but watch: every task runs in a process of its own (`engines.alone`). A crash takes that task
alone, a timeout can kill it, its memory can be measured, and the cluster's token is not in it. A new process of ours
starts in a fraction of what a new Ray worker takes, so workers are kept.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermove.errors import ConfigError, RunError
from countermove.game.engines.alone import Alone, Ending
from countermove.game.engines.leftovers import own_folder
from countermove.game.engines.order import Order

if TYPE_CHECKING:
    from countermove.game.config import EngineConfig
    from countermove.game.engines.local import Listener
    from countermove.game.run import Done, Job

LOST_WORKERS = 3
"""How often a task is handed out again whose worker or node died; after that it is recorded as failed."""
STORE_BYTES = 100 * 2**20
"""Object store of a cluster of our own: what passes through it are tasks and endings, a few kilobytes each."""
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Despite its name, read everywhere when Ray is imported: 127.0.0.1 is then not replaced by an address seen outside."""
_LOGS: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
_FOLDER = "countermove-ray-"
_PLACE = "/tmp" if os.path.isdir("/tmp") else None  # noqa: S108  # TMPDIR may be long, and paths of sockets must be short
_LOOK_AGAIN = 10.0
"""Seconds after which the size of the cluster is asked for anew; nodes come and go."""


@dataclass
class _Attempt:
    """A job with what its next try asks for.

    memory: bytes, 0 for no request.
    single: whether it ran out of memory once, and is now tried with nothing of the run beside it.
    lost:   how many workers died under it.
    notes:  go into the environment field.
    """

    job: Job
    memory: int
    gpus: float
    single: bool = False
    lost: int = 0
    notes: dict[str, Any] = field(default_factory=dict)


class RayEngine:
    """Hands tasks to Ray workers, a bounded number at a time. The driver alone decides what is retried.

    config: the audit's engine table.
    threads: of each of a task's processes; a task asks for as many CPUs as it has threads.
    device: "cpu" or "cuda"; on the latter a process asks for one GPU unless the configuration says what a task takes.

    Raises:
        ConfigError: when Ray is not installed.
    """

    def __init__(self, config: EngineConfig, threads: int, device: str = "cpu") -> None:
        if find_spec("ray") is None:
            raise ConfigError("engine 'ray' needs Ray, which is not installed here: pip install countermove[ray]")
        self.config, self.threads, self.cpus = config, threads, threads * config.processes
        self.gpus = config.gpus if config.gpus is not None else float((device == "cuda") * config.processes)
        self._looked, self._fits = -_LOOK_AGAIN, 1

    def run(self, jobs: Sequence[Job], perform: Callable[[Job], Done], listener: Listener) -> None:
        """Do all jobs. A job whose needs failed is blocked; a worker's death costs its one task a try.

        Raises:
            ConfigError: when there is no such cluster, or none of its nodes can hold a task.
            RunError: when the cluster is gone, or a worker cannot use the run folder.
            KeyboardInterrupt: on Ctrl-C, after the tasks in flight were cancelled; what is finished is stored.
        """
        if not jobs:
            return
        with _cluster(self.config, self.cpus) as ray, _quiet(ray):
            self._check(ray)
            try:
                self._play(ray, jobs, perform, listener)
            except (ConnectionError, ray.exceptions.LocalRayletDiedError) as error:
                raise RunError(f"the Ray cluster is gone ({error}); run the same command again to go on") from None

    def _play(self, ray: Any, jobs: Sequence[Job], perform: Callable[[Job], Done], listener: Listener) -> None:
        order = Order(jobs)
        again: deque[_Attempt] = deque()
        single: deque[_Attempt] = deque()
        flying: dict[Any, _Attempt] = {}
        driver = version("countermove"), sys.path
        remote = ray.remote(max_retries=0, num_cpus=self.cpus)(_watch)

        def start(attempt: _Attempt) -> None:
            job = replace(attempt.job, notes={**attempt.notes, "engine": "ray"})
            hand = remote.options(memory=attempt.memory or None, num_gpus=attempt.gpus or None)
            flying[hand.remote(driver, perform, job, self.threads, self.config.timeout)] = attempt

        def settle(job: Job, done: Done) -> None:
            listener.ended(job, done)
            for later, cause in order.settle(job, done):
                settle(later, listener.blocked(later, cause))

        try:
            while order or again or single or flying:
                if single and not flying:
                    start(single.popleft())
                elif not single and not any(attempt.single for attempt in flying.values()):
                    while again and len(flying) < self._room(ray):
                        start(again.popleft())
                    while order and len(flying) < self._room(ray):
                        job = order.take()
                        listener.started(job)
                        start(_Attempt(job, self.config.memory or 0, self.gpus))
                for ref in _finished(ray, flying):
                    attempt = flying.pop(ref)
                    ending, lost = _outcome(ray, ref)
                    if ending.fatal:
                        raise RunError(ending.fatal)
                    if ending.out_of_memory and not attempt.single:
                        single.append(self._larger(ray, attempt, ending))
                    elif lost and attempt.lost < LOST_WORKERS:
                        notes = {**attempt.notes, "lost_workers": attempt.lost + 1}
                        queue = single if attempt.single else again
                        queue.append(replace(attempt, lost=attempt.lost + 1, notes=notes))
                    else:
                        settle(attempt.job, ending.done or listener.lost(attempt.job, ending.reason, ending.trace))
        finally:
            for ref in flying:
                with contextlib.suppress(Exception):
                    ray.cancel(ref, force=True)

    def _larger(self, ray: Any, attempt: _Attempt, ending: Ending) -> _Attempt:
        """Return the second try of a task that ran out of memory: twice the request, no more than a node has."""
        largest = max((_of(node, "memory") for node in _nodes(ray) if self._fit(node)), default=0.0)
        memory = min(2 * max(attempt.memory, ending.peak), int(largest))
        told = ending.reason or (ending.done.error if ending.done else "")
        notes = {**attempt.notes, "out_of_memory": told, "memory_request": memory}
        gpus = min(1.0, 2 * attempt.gpus) if attempt.gpus < 1 else attempt.gpus
        return replace(attempt, memory=memory, gpus=gpus, single=True, notes=notes)

    def _room(self, ray: Any) -> int:
        """Return how many tasks may be in flight: as configured, or what fits and an eighth more close at hand."""
        if self.config.workers is not None:
            return self.config.workers
        if time.monotonic() - self._looked > _LOOK_AGAIN:
            self._looked = time.monotonic()
            self._fits = sum(self._fit(node) for node in _nodes(ray))
        return max(1, self._fits + max(1, self._fits // 8))

    def _fit(self, node: Mapping[str, Any]) -> int:
        """Return how many tasks a node can hold at a time."""
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.config.memory or 0}
        return int(min(_of(node, name) / amount for name, amount in asked.items() if amount))

    def _check(self, ray: Any) -> None:
        """Refuse what no node can hold: Ray would wait for such a node for ever."""
        nodes = _nodes(ray)
        if any(self._fit(node) for node in nodes):
            return
        each = f"engine.threads = {self.threads}, processes = {self.config.processes}"
        asked = f"{each}, gpus = {self.gpus:g}, memory = {self.config.memory or 0} bytes"
        have = (f"{_of(n, 'CPU'):g} CPUs, {_of(n, 'GPU'):g} GPUs, {_of(n, 'memory'):.0f} bytes" for n in nodes)
        raise ConfigError(f"no node of the Ray cluster can hold a task that asks for {asked}; it has {'; '.join(have)}")


def _watch(
    driver: tuple[str, list[str]], perform: Callable[[Job], Done], job: Job, threads: int, timeout: float | None
) -> Ending:
    """Perform a task in a process beside this Ray worker. The driver tells its version, and where it finds modules."""
    here = f"node {socket.gethostname()}"
    if (ours := version("countermove")) != driver[0]:
        return Ending(fatal=f"{here} has countermove {ours}, the driver has {driver[0]}; install the same")
    if not (job.run / "audit.toml").is_file():
        return Ending(fatal=f"{here} does not see {job.run}: a cluster needs the run folder at one path on all nodes")
    sys.path.extend(path for path in driver[1] if path not in sys.path)
    return Alone(threads, timeout)(perform, job)


def _finished(ray: Any, flying: Mapping[Any, _Attempt]) -> list[Any]:
    """Wait for the first task to end, and return all that have."""
    refs = list(flying)
    first, _ = ray.wait(refs, num_returns=1, timeout=_LOOK_AGAIN)
    return ray.wait(refs, num_returns=len(refs), timeout=0)[0] if first else []


def _outcome(ray: Any, ref: Any) -> tuple[Ending, bool]:
    """Return how a task ended, and whether what ended was the worker or the node under it."""
    errors = ray.exceptions
    try:
        return ray.get(ref), False
    except errors.LocalRayletDiedError:
        raise
    except errors.OutOfMemoryError as error:
        return Ending(reason=f"Ray killed its worker for lack of memory: {_first(error)}", out_of_memory=True), False
    except errors.RayTaskError as error:
        return Ending(fatal=f"a Ray worker could not begin a task: {error}"), False
    except errors.RayError as error:
        return Ending(reason=f"its Ray worker or node died {LOST_WORKERS + 1} times: {_first(error)}"), True


def _first(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]


def _nodes(ray: Any) -> list[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _of(node: Mapping[str, Any], name: str) -> float:
    return float(node["Resources"].get(name, 0.0))


@contextlib.contextmanager
def _cluster(config: EngineConfig, cpus: int) -> Iterator[Any]:
    """Connect to the cluster that is asked for, or start one of this machine; give the module `ray`."""
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    if address != "local":
        _prepare(address)
        import ray

        try:
            ray.init(address=address, **_LOGS)
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"cannot join the Ray cluster at {address}: {_first(error)}. Is a node of it running on this machine, "
                "and is the token in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token its own?"
            ) from None
        try:
            yield ray
        finally:
            ray.shutdown()
        return
    with private_cluster(max(os.cpu_count() or 1, (config.workers or 1) * cpus)) as ray:
        yield ray


@contextlib.contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Send what Ray says about dead workers to standard error: standard output is the verdict's, perhaps as JSON."""
    worker = ray._private.worker
    say = getattr(worker, "print_worker_logs", None)
    if say is None:
        yield
        return
    worker.print_worker_logs = lambda data, sink, *rest: say(data, sys.stderr, *rest)
    try:
        yield
    finally:
        worker.print_worker_logs = say


@contextlib.contextmanager
def private_cluster(cpus: int) -> Iterator[Any]:
    """Start a Ray cluster that listens on 127.0.0.1 only and asks for a token that nobody else knows.

    It has no dashboard and reports nothing, and ends with this process. Gives the module `ray`, connected.

    Raises:
        RunError: when Ray would listen beyond this machine, because it was imported with other settings.
    """
    private = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32),
        **_LOOPBACK,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    before = {name: os.environ.get(name) for name in private}
    os.environ.update(private)
    try:
        with own_folder(_FOLDER, _PLACE) as folder:
            import ray

            context: Any = ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                _temp_dir=str(folder),
                **_LOGS,
            )
            try:
                node = context.address_info["node_ip_address"]
                if node != "127.0.0.1":
                    raise RunError(f"Ray listens on {node}, not on this machine alone: import countermove before ray")
                yield ray
            finally:
                ray.shutdown()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _prepare(address: str) -> None:
    """Show a token where there is one, and find out at once when nobody listens: Ray would try for two minutes."""
    token = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if any(map(os.environ.get, token)) or (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    host, _, port = address.rpartition(":")
    if not host:
        return
    if host in {"127.0.0.1", "localhost"}:
        os.environ |= _LOOPBACK
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise ConfigError(f"there is no Ray cluster at {address}: {error.strerror or error}") from None
