"""What `protect` chooses with and asks: profilers and extractors, trained once and kept, and what they read.

Legend: K additions.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor

from countermove.errors import RunError, WeightsError
from countermove.game.arena import Rules
from countermove.game.cell import Desk, Setting, Task
from countermove.game.content import cache_folder
from countermove.pixels.decode import words
from countermove.profiles.arena import NONE
from countermove.profiles.arena import Profiles as Arena
from countermove.profiles.artifacts import read_extractor_network, read_profiler
from countermove.profiles.candidates import drawn
from countermove.profiles.dataset import Profiles
from countermove.profiles.extractor import ItemNetwork, extract
from countermove.profiles.fitting import read_bags
from countermove.profiles.pivot import Additions, PivotContext, chosen, extended
from countermove.profiles.profiler import Reader

Watch = Callable[[str, int, int], None]
"""Told what is being done, and how much of how much is done."""

CACHE = "profilers"
DRAWS = 20
"""Random choices of as many candidates that additions are compared with."""
T = TypeVar("T")
_HOW = ("arena", "data", "seed", "threads", "device", "rooms")


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a profiler reads of the owner's value.

    before:   its probability as things are.
    read:     whether it is the most probable value then.
    after:    with the first k additions, k = 1 to K.
    control:  with k random candidates, mean, least and most of some draws, for each k; None where there are too few.
    right, of, guessed: test profiles of the set that it reads rightly, of how many, and what guessing gets.
    chosen_with: whether the additions were chosen with this very profiler.
    """

    before: float
    read: bool
    after: tuple[float, ...]
    control: tuple[tuple[float, float, float], ...] | None
    right: int
    of: int
    guessed: int
    chosen_with: bool


class Surrogates:
    """The profilers and extractors that a call needs; what is trained is kept in the cache folder."""

    def __init__(self, data: str, move: str, model: str, *, seed: int, device: str, reads: bool) -> None:
        """Find out which they are; nothing is trained.

        Args:
            data: canonical spelling of the set.
            move: of the pivot.
            model: of the profiler.
            seed: of all training.
            device: where networks run.
            reads: whether the profiler is asked what it reads.

        Raises:
            ConfigError, DataError: when a spelling or the data behind it cannot be used.
        """
        # one thread: sums, and so the choice among candidates that are nearly equal, depend on how many there are
        self.arena = Arena(Rules(device=device, threads=1))
        cell = self.arena.cell(Setting("profiles", data, move, NONE, model, seed))
        made = cell.need("move")
        self.behind = () if made is None else made.needs
        self.profiler = cell.need("profiler") if reads else None
        self.seed, self.device = seed, device
        self.root = cache_folder() / CACHE

    def identity(self) -> list[dict[str, Any]]:
        """Return what the additions and their effect depend on beside method, data and seed."""
        found = []
        for task in self._tasks():
            found.append({"kind": task.kind, **{k: v for k, v in task.payload.items() if k not in _HOW}})
        return found

    def make(self, watch: Watch) -> None:
        """Train what is not in the cache."""
        tasks = self._tasks()
        for number, task in enumerate(tasks):
            watch("profiler and extractor, trained once and kept", number, len(tasks))
            self._make(task)
        if tasks:
            watch("profiler and extractor, trained once and kept", len(tasks), len(tasks))

    def context(self) -> PivotContext:
        """Return what the move may use."""
        profiler = next((task for task in self.behind if task.kind == "profiler"), None)
        extractor = next((task for task in self.behind if task.kind == "extractor"), None)
        return PivotContext(
            reader=None if profiler is None else self._reader(profiler),
            network=None if extractor is None else self._network(extractor),
            seed=self.seed,
            device=self.device,
        )

    def effect(self, data: Profiles, mover: int, added: Additions, place: str) -> Effect | None:
        """Return what the profiler reads of a mover's value with additions; None where none is asked."""
        if self.profiler is None:
            return None
        reader = self._reader(self.profiler)
        assert isinstance(reader.body, ItemNetwork), "a profiler looks through something"
        tested = [data.bags[row] for row in data.test.tolist()]
        wanted = torch.cat([data.bags[mover], data.background, *tested]).unique()
        features = torch.zeros(len(data.items) + len(added), reader.body.dim + data.captions.shape[1])
        seen = extract(reader.body, data.items[wanted], data.medium, device=self.device)
        features[wanted] = data.described(seen, wanted)
        seen = extract(reader.body, added.items, data.medium, device=self.device)
        features[len(data.items) :] = data.described(seen, added.source)

        def asked(bags: list[Tensor]) -> Tensor:
            return read_bags(Reader(reader.bag), features, bags, medium=data.medium, device=self.device)[0]

        label, movers = int(data.labels[mover]), torch.tensor([mover])
        count = len(added)
        mine = asked([extended(data, movers, _first(added, k))[0] for k in range(count + 1)])
        control = None
        if count <= len(data.background):
            draws = []
            for number in range(DRAWS):
                rows = drawn(data.background, count, f"control {number}", self.seed)
                random = chosen(data, movers, [rows], place)
                bags = [extended(data, movers, _first(random, k))[0] for k in range(1, count + 1)]
                at = [
                    torch.where(bag < len(data.items), bag, rows[(bag - len(data.items)).clamp(min=0)]) for bag in bags
                ]
                draws.append(asked(at)[:, label])
            of_k = torch.stack(draws, dim=1)
            control = tuple((float(k.mean()), float(k.min()), float(k.max())) for k in of_k)
        right = asked(tested).argmax(1) == data.labels[data.test]
        return Effect(
            before=float(mine[0, label]),
            read=int(mine[0].argmax()) == label,
            after=tuple(mine[1:, label].tolist()),
            control=control,
            right=int(right.sum()),
            of=len(right),
            guessed=round(data.chance * len(right)),
            chosen_with=self.profiler.key in {task.key for task in self.behind},
        )

    def _tasks(self) -> list[Task]:
        """Return everything that is to be made, each after what it needs."""
        found: dict[str, Task] = {}

        def visit(task: Task) -> None:
            for need in task.needs:
                visit(need)
            found.setdefault(task.key, task)

        for task in (*self.behind, *([self.profiler] if self.profiler else [])):
            visit(task)
        return list(found.values())

    def _make(self, task: Task) -> None:
        """Make an artifact whole or not at all, where it is not there.

        Raises:
            RunError: when the cache cannot be written.
        """
        done = self.root / task.key
        if done.is_dir():
            return
        temporary = self.root / f".{task.key[:16]}.{secrets.token_hex(8)}.tmp"
        desk = Desk(folder=temporary / "made", scratch=temporary / "scratch", artifacts=self.root)
        try:
            desk.folder.mkdir(parents=True)
            desk.scratch.mkdir()
            self._mended(task.needs, lambda: self.arena.make(task, desk))
            if not done.is_dir():
                desk.folder.replace(done)
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"{self.root} cannot be written: {words(error)}; profilers and extractors that were trained are kept "
                "there. Make it writable, make room, or let COUNTERMOVE_CACHE name another folder"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _mended(self, parts: Sequence[Task], work: Callable[[], T]) -> T:
        """Do what reads artifacts; where one turns out to be broken they are made anew, and it is done again."""
        try:
            return work()
        except (WeightsError, SafetensorError, OSError):
            if not parts:
                raise
            for part in parts:
                shutil.rmtree(self.root / part.key, ignore_errors=True)
            for part in parts:
                self._make(part)
            return work()

    def _reader(self, task: Task) -> Reader:
        return self._mended((*task.needs, task), lambda: read_profiler(self.arena, task, self._desk))

    def _network(self, task: Task) -> ItemNetwork:
        asked = replace(task, needs=(task,))
        network = self._mended((task,), lambda: read_extractor_network(self.arena, asked, self._desk))
        assert network is not None, "it is an extractor"
        return network

    @property
    def _desk(self) -> Desk:
        return Desk(folder=self.root, scratch=self.root, artifacts=self.root)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, so that the same call gives the same result everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _first(added: Additions, count: int) -> Additions:
    return Additions(
        items=added.items[:count], mover=added.mover[:count], source=added.source[:count], when=added.when[:count]
    )
