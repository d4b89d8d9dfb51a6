"""The default engine: this process, or N worker processes on this machine."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Protocol

from countermove.errors import RunError
from countermove.game.engines.alone import THREAD_NAMES, Alone, Ending
from countermove.game.engines.order import Order
from countermove.game.store import RunFolder

if TYPE_CHECKING:
    from countermove.game.run import Done, Job


DIED = "its worker process died (killed, out of memory, or a crash)"


class Listener(Protocol):
    """Who hears how tasks go."""

    def started(self, job: Job) -> None:
        """Hear that a job begins."""
        ...

    def ended(self, job: Job, done: Done) -> None:
        """Hear how a job ended."""
        ...

    def lost(self, job: Job, reason: str, trace: str = "") -> Done:
        """Record a job whose worker died, and say how it ended."""
        ...

    def blocked(self, job: Job, cause: Done) -> Done:
        """Record a job that needs something that failed, and say how it ended."""
        ...


class Engine(Protocol):
    """Who has tasks done."""

    def run(self, jobs: Sequence[Job], perform: Callable[[Job], Done], listener: Listener) -> None:
        """Do all jobs, given in a possible order; each starts when everything before it is finished."""
        ...


class LocalEngine:
    """Runs tasks one after the other (one worker) or in N processes with `threads` threads each.

    timeout: seconds a task may take. With it, every task has a process of its own that can be killed, and reads its
             data anew.
    alone:   whether every task has a process of its own in any case.
    """

    def __init__(self, workers: int, threads: int, timeout: float | None = None, *, alone: bool = False) -> None:
        self.workers = workers
        self.threads = threads
        self.timeout = timeout
        self.alone = alone or timeout is not None

    def run(self, jobs: Sequence[Job], perform: Callable[[Job], Done], listener: Listener) -> None:
        """Do all jobs. A job whose needs failed is blocked; a worker's death costs the job that it died of.

        With one worker that death is this process's, and the next run does the job in a process of its own.

        Raises:
            KeyboardInterrupt: on Ctrl-C, after the workers were ended; what is finished is stored.
        """
        if self.alone:
            self._each_alone(jobs, perform, listener)
        elif self.workers == 1:
            self._in_this_process(jobs, perform, listener)
        else:
            self._in_workers(jobs, perform, listener)

    def _in_this_process(self, jobs: Sequence[Job], perform: Callable[[Job], Done], listener: Listener) -> None:
        bad: dict[str, Done] = {}
        marks = {run: RunFolder(run) for run in {job.run for job in jobs}}
        fell = {run.marked() for run in marks.values()}
        for job in jobs:
            cause = _cause(job, bad)
            if cause is not None:
                done = listener.blocked(job, cause)
            else:
                listener.started(job)
                if job.task.key in fell:
                    done = self._apart(job, perform, listener)
                else:
                    marks[job.run].mark(job.task.key)
                    done = perform(job)
            if done.status != "ok":
                bad[job.task.key] = done
            listener.ended(job, done)

    def _apart(self, job: Job, perform: Callable[[Job], Done], listener: Listener) -> Done:
        """Do a job that may have taken the last driver with it in a process of its own."""
        ending = Alone(self.threads, None)(perform, job)
        if ending.fatal:
            raise RunError(ending.fatal)
        return ending.done or listener.lost(job, ending.reason, ending.trace)

    def _in_workers(self, jobs: Sequence[Job], perform: Callable[[Job], Done], listener: Listener) -> None:
        waiting = list(jobs)
        unfinished = {job.task.key for job in jobs}
        bad: dict[str, Done] = {}
        flying: dict[Future[Done], Job] = {}
        suspects: list[Job] = []  # they were in flight when a worker died; each flies again, alone, to tell whose fault
        pool = self._pool()

        def settle(job: Job, done: Done) -> None:
            unfinished.discard(job.task.key)
            if done.status != "ok":
                bad[job.task.key] = done
            listener.ended(job, done)

        try:
            while waiting or flying or suspects:
                broken, fallen = False, []
                for job in suspects[:1] or list(waiting):
                    cause = _cause(job, bad)
                    if cause is not None:
                        waiting.remove(job)
                        settle(job, listener.blocked(job, cause))
                    elif len(flying) < self.workers and not any(t.key in unfinished for t in job.task.before):
                        try:
                            flying[pool.submit(perform, job)] = job
                        except BrokenProcessPool:  # a worker died just now, or while it was idle
                            broken = True
                            break
                        if suspects:
                            suspects.pop(0)
                            break
                        waiting.remove(job)
                        listener.started(job)
                finished, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in finished:
                    job = flying.pop(future)
                    try:
                        settle(job, future.result())
                    except BrokenProcessPool:
                        fallen.append(job)
                if broken or fallen:  # every job in flight fell with the pool; the rest goes on in a new one
                    fallen += flying.values()
                    flying.clear()
                    if len(fallen) == 1:
                        settle(fallen[0], listener.lost(fallen[0], DIED))
                    else:
                        suspects += fallen
                    pool.shutdown(wait=True, cancel_futures=True)
                    pool = self._pool()
        except BaseException:
            for process in list(getattr(pool, "_processes", {}).values()):
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        pool.shutdown(wait=True)

    def _each_alone(self, jobs: Sequence[Job], perform: Callable[[Job], Done], listener: Listener) -> None:
        order, alone = Order(jobs), Alone(self.threads, self.timeout)
        flying: dict[Future[Ending], Job] = {}
        pool = ThreadPoolExecutor(self.workers)

        def settle(job: Job, done: Done) -> None:
            listener.ended(job, done)
            for later, cause in order.settle(job, done):
                settle(later, listener.blocked(later, cause))

        try:
            while order or flying:
                while order and len(flying) < self.workers:
                    job = order.take()
                    listener.started(job)
                    flying[pool.submit(alone, perform, job)] = job
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    job, ending = flying.pop(future), future.result()
                    if ending.fatal:
                        raise RunError(ending.fatal)
                    settle(job, ending.done or listener.lost(job, ending.reason, ending.trace))
        finally:
            alone.stop()
            pool.shutdown(wait=True, cancel_futures=True)

    def _pool(self) -> ProcessPoolExecutor:
        # Spawned, not forked: a fork of a process with running threads can hang.
        return ProcessPoolExecutor(
            self.workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(self.threads,)
        )


def _start_worker(threads: int) -> None:
    """Divide the threads before any numeric library starts its own, leave Ctrl-C to the driver, end when it ends."""
    for name in THREAD_NAMES:
        os.environ[name] = str(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()


def _end_with_driver() -> None:
    """A worker whose driver was killed would otherwise wait for work for ever."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        multiprocessing.connection.wait([driver.sentinel])
        os._exit(1)


def _cause(job: Job, bad: dict[str, Done]) -> Done | None:
    return next((bad[task.key] for task in job.task.before if task.key in bad), None)
