"""Which jobs can start now: each once everything before it is settled, what many wait for first."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from countermove.game.run import Done, Job


class Order:
    """The jobs of a run with what they wait for. A job is ready, out, or settled; time goes with the edges only."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waits: dict[str, int] = {}
        self._after: dict[str, list[Job]] = defaultdict(list)
        self._bad: dict[str, Done] = {}
        self._ready: list[tuple[int, int, Job]] = []
        self._place = {job.task.key: place for place, job in enumerate(jobs)}
        for job in jobs:
            before = {task.key for task in job.task.before} & self._place.keys()
            self._waits[job.task.key] = len(before)
            for key in before:
                self._after[key].append(job)
        for job in jobs:
            if not self._waits[job.task.key]:
                self._push(job)

    def __bool__(self) -> bool:
        """Whether a job can start."""
        return bool(self._ready)

    def take(self) -> Job:
        """Return the next job: artifacts first, then cells that others are measured against, then in grid order."""
        return heapq.heappop(self._ready)[2]

    def settle(self, job: Job, done: Done) -> list[tuple[Job, Done]]:
        """Hear how a job ended. Returns the jobs that it blocks, with the cause; they must be settled in turn."""
        key = job.task.key
        blocked = []
        for later in self._after[key]:
            name = later.task.key
            if done.status != "ok" and name not in self._bad:
                self._bad[name] = done
                blocked.append((later, done))
            self._waits[name] -= 1
            if not self._waits[name] and name not in self._bad:
                self._push(later)
        return blocked

    def _push(self, job: Job) -> None:
        key = job.task.key
        rank = 0 if job.task.setting is None else 1 if self._after[key] else 2
        heapq.heappush(self._ready, (rank, self._place[key], job))
