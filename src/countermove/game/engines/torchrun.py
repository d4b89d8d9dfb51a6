"""One task by several processes of one machine, started by torchrun: a training's batches are divided among them."""

from __future__ import annotations

import json
import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from countermove.errors import CountermoveError, RunError
from countermove.game.engines.leftovers import own_folder

if TYPE_CHECKING:
    from countermove.game.run import Done, Job

_PRIVATE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
"""Processes meet in a file, not at a port that listens to the world, and talk over the loopback."""
_PATIENCE = timedelta(days=7)
"""How long one process waits for another; torchrun ends all when one ends badly, `engine.timeout` when all hang."""
_GRACE = 30.0
"""Seconds in which the first process may meet the error of another one, and record it."""
_ANSWER = "answer.json"


@dataclass(frozen=True)
class Torchrun:
    """Performs a task in several processes. To be called in a process that may be killed with them.

    perform:   what the first does.
    accompany: what the others do: from a job and a folder of their own to the same work, of which nothing is kept.
    processes: how many; on GPUs each has its own.
    """

    perform: Callable[[Job], Done]
    accompany: Callable[[Job, Path], Callable[[], None]]
    processes: int

    def __call__(self, job: Job) -> Done:
        """Perform a task; when one of the processes dies, this one ends in the same way.

        Raises:
            RunError: when the store cannot be written.
        """
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

        os.environ.update({name: os.environ.get(name, value) for name, value in _PRIVATE.items()})
        desks = own_folder(f"torchrun-{socket.gethostname()}-", str(job.run / "scratch"))
        with own_folder("countermove-torchrun-") as place, desks as beside:
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=self.processes,
                run_id=job.task.key,
                rdzv_backend="c10d",
                rdzv_endpoint=str(place / "agent"),
                rdzv_configs={"store_type": "file"},
                max_restarts=0,
                start_method="spawn",
                local_addr="127.0.0.1",
                logs_specs=DefaultLogsSpecs(log_dir=str(place / "logs")),
            )
            code = 1
            try:
                elastic_launch(config, _one_of_them)(self, job, place, beside)
            except ChildFailedError as error:
                code = error.get_first_failure()[1].exitcode
            if (place / _ANSWER).exists():
                return _read_answer(place / _ANSWER)
        _end_as(code)


def _one_of_them(told: Torchrun, job: Job, place: Path, beside: Path) -> None:
    """Perform or accompany a task as one of several processes.

    place:  where they meet, and the first one answers.
    beside: where the others work.
    """
    import torch
    import torch.distributed as dist

    rank, on_gpu = int(os.environ["RANK"]), job.rules.device == "cuda"
    job = replace(job, notes={**job.notes, "processes": told.processes})
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{place / 'processes'}",
        rank=rank,
        world_size=told.processes,
        timeout=_PATIENCE,
    )
    work = told.accompany(job, beside / str(rank)) if rank else None
    dist.barrier()  # before anything that the others copied is changed
    if work is None:
        _answer(told.perform, job, place / _ANSWER)
    else:
        _along(work, place / _ANSWER)
    dist.barrier()  # libraries may fail while a process is taken down: not before the first one has answered
    dist.destroy_process_group()


def _answer(perform: Callable[[Job], Done], job: Job, path: Path) -> None:
    """Perform a task and write how it ended. After a failure the others, who may wait for this one, are ended too."""
    try:
        done = perform(job)
        told, good = {"done": asdict(done)}, done.status == "ok"
    except CountermoveError as error:
        told, good = {"fatal": str(error)}, False
    written = path.with_suffix(".tmp")
    written.write_text(json.dumps(told), encoding="utf-8")
    written.replace(path)
    if not good:
        os._exit(1)


def _along(work: Callable[[], None], answer: Path) -> None:
    """Do the same work. Its failure is the first process's to tell; one that the first does not share ends all."""
    try:
        work()
    except Exception:  # the first process meets it, too, and records it; one of this process alone is raised again
        traceback.print_exc()
        deadline = time.monotonic() + _GRACE
        while not answer.exists():
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _read_answer(path: Path) -> Done:
    from countermove.game.run import Done

    told = json.loads(path.read_text(encoding="utf-8"))
    if "fatal" in told:
        raise RunError(told["fatal"])
    return Done(**told["done"])


def _end_as(code: int) -> NoReturn:
    """End this process as another one ended."""
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code if code > 0 else 1)
