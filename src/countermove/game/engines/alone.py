"""One task in a process of its own: it may crash, hang or fill the memory, and nothing else falls with it."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from countermove.errors import CountermoveError

if TYPE_CHECKING:
    from countermove.game.run import Done, Job

THREAD_NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What numeric libraries read before they start their threads."""
_TAIL = 4000
"""Bytes of a dead process's standard error that are kept."""
_SECRETS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""A cell has no business with the cluster."""


@dataclass(frozen=True)
class Ending:
    """How a process of its own ended.

    done:          what the task reported, None when the process ended before it could.
    reason:        why there is no report.
    trace:         the end of what the process wrote to its standard error.
    fatal:         why the run cannot go on (a store that cannot be written); "" where it can.
    out_of_memory: whether memory ran out, or may have: the kernel kills with SIGKILL.
    peak:          the most memory the process held, in bytes; from the kernel's account, where it died.
    """

    done: Done | None = None
    reason: str = ""
    trace: str = ""
    fatal: str = ""
    out_of_memory: bool = False
    peak: int = 0


class Alone:
    """Performs tasks, each in a new process, and waits for it.

    threads: what numeric libraries may use in there.
    timeout: seconds a task may take; None for as long as it needs.
    """

    def __init__(self, threads: int, timeout: float | None) -> None:
        self.threads, self.timeout = threads, timeout
        self._lock = threading.Lock()
        self._living: set[int] = set()
        self._stopped = False

    def __call__(self, perform: Callable[[Job], Done], job: Job) -> Ending:
        """Perform a task. Whatever happens to its process, an ending is returned.

        Raises:
            OSError: when no process can be started.
        """
        with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as complaints:
            process = self._start(answer, complaints)
            late = threading.Event()
            timer = threading.Timer(self.timeout or 0, self._too_late, (process.pid, late))
            timer.daemon = True
            try:
                if self.timeout is not None:
                    timer.start()
                self._tell(process, perform, replace(job, alone=True))
                peak = self._wait(process)
            finally:
                timer.cancel()
            return _ending(process, _content(answer), _content(complaints)[-_TAIL:], peak, late.is_set(), self.timeout)

    def stop(self) -> None:
        """Kill every process that still works, and start none any more."""
        with self._lock:
            self._stopped = True
            for pid in self._living:
                _kill(pid)

    def _start(self, answer: IO[bytes], complaints: IO[bytes]) -> subprocess.Popen[bytes]:
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
        environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
        environment |= dict.fromkeys(THREAD_NAMES, str(self.threads))
        with self._lock:
            if self._stopped:
                raise InterruptedError("stopped")
            process = subprocess.Popen(  # noqa: S603  # this interpreter, with our own code
                [sys.executable, "-X", "faulthandler", "-c", code],
                stdin=subprocess.PIPE,
                stdout=answer,
                stderr=complaints,
                env=environment,
                start_new_session=True,  # a terminal's Ctrl-C is the driver's to hear, and the group can be killed
            )
            self._living.add(process.pid)
        return process

    def _tell(self, process: subprocess.Popen[bytes], perform: Callable[[Job], Done], job: Job) -> None:
        """Hand over the task. The pipe stays open: its end tells the process that nobody waits for it any more."""
        message = pickle.dumps((perform, job))
        assert process.stdin is not None
        try:
            process.stdin.write(len(message).to_bytes(8, "big") + message)
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it died at its start; how it ended says why

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        _, status, usage = os.wait4(process.pid, 0)
        with self._lock:
            self._living.discard(process.pid)
        process.returncode = os.waitstatus_to_exitcode(status)
        _kill(process.pid)  # what it started and left behind
        assert process.stdin is not None
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
        return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def _too_late(self, pid: int, late: threading.Event) -> None:
        with self._lock:
            if pid in self._living:
                late.set()
                _kill(pid)


def peak_memory() -> int:
    """Return the most memory that this process held so far, in bytes, without processes that it started."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # getrusage counts what stood here before exec, too
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Perform the one task that comes through standard input, and answer through standard output."""
    answer = os.fdopen(os.dup(1), "wb")
    orders = os.fdopen(os.dup(0), "rb", buffering=0)
    os.dup2(2, 1)  # what a task prints is no answer
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    told = _read(orders, int.from_bytes(_read(orders, 8), "big"))
    perform, job = pickle.loads(told)  # noqa: S301  # written by `_tell`, in the process that started this one
    threading.Thread(target=_end_with_caller, args=(orders,), daemon=True).start()
    try:
        ending: dict[str, Any] = {"done": asdict(perform(job))}
    except CountermoveError as error:
        ending = {"fatal": str(error)}
    except BaseException:
        ending = {"fatal": f"{job.task.label}: {traceback.format_exc()}"}
    answer.write(json.dumps({**ending, "peak": peak_memory()}).encode())
    answer.flush()
    os._exit(0)  # everything is stored; what libraries do when they are taken down can only go wrong


def _read(stream: Any, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = stream.read(count - len(parts))
        if not part:
            os._exit(1)
        parts += part
    return bytes(parts)


def _end_with_caller(orders: Any) -> None:
    orders.read(1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _ending(
    process: subprocess.Popen[bytes], answer: bytes, trace: bytes, peak: int, late: bool, timeout: float | None
) -> Ending:
    from countermove.game.run import Done

    try:
        told = json.loads(answer)
    except ValueError:
        told = None
    if told is not None:  # it may still have crashed while it ended
        done = Done(**told["done"]) if "done" in told else None
        memory = done is not None and done.out_of_memory
        return Ending(done=done, fatal=told.get("fatal", ""), out_of_memory=memory, peak=told["peak"])
    text = trace.decode(errors="replace")
    if late:
        return Ending(reason=f"took longer than engine.timeout = {timeout:g} s; its process was killed", peak=peak)
    code = process.returncode
    how = f"ended with {code}"
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"got signal {-code}"
    memory = code == -signal.SIGKILL
    hint = ", perhaps for lack of memory" if memory else ""
    return Ending(reason=f"its process {how}{hint}", trace=text, out_of_memory=memory, peak=peak)


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
