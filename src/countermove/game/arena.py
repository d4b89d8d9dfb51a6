"""What the game asks of an arena, and how arenas are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from countermove.errors import ConfigError, did_you_mean
from countermove.game.cell import Crafted, Desk, Outcome, Setting, Task
from countermove.game.methods import Methods, load

if TYPE_CHECKING:
    from countermove.game.store import RunFolder
    from countermove.game.verdict import Results

Number = TypeVar("Number", float, np.ndarray)

ARENAS = {
    "unlearnable": "countermove.unlearnable.arena:Unlearnable",
    "recommender": "countermove.recommender.arena:Recommender",
    "faces": "countermove.faces.arena:Faces",
    "profiles": "countermove.profiles.arena:Profiles",
    "retrieval": "countermove.retrieval.arena:Retrieval",
    "tasks": "countermove.tasks.arena:Tasks",
}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What holds for every cell of an audit besides the five axes.

    training: the arena's own table, checked by the arena.
    device:   "cpu" or "cuda", resolved.
    threads:  how many threads one task may use; part of every key, since sums depend on it.
    """

    training: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    threads: int = 1
    rehash: bool = False


@dataclass(frozen=True, kw_only=True)
class Control:
    """A game whose end is known: it must come out so, or the audit proves nothing.

    The move must have a payoff of at least `works` against countermove none, and the reply must leave at most
    `broken` of that.
    """

    move: str
    countermove: str
    works: float = 0.5
    broken: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """How a payoff is read in words.

    worked:   a payoff against countermove none that is lower: the move did not work.
    relative: whether what is left of a move is compared with its payoff against none, where the aim is never reached
              in full (no item climbs every user's list), or with 1.
    digits:   behind the point, when a payoff is written for people.
    bystanders: whether the clean metric is of those who do not move, so that every cell has it under the move; a
              reply's clean cost is then taken from cells of the same move.
    """

    worked: float = 0.1
    relative: bool = False
    digits: int = 2
    bystanders: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A part of the page that only the arena can draw: inert HTML or SVG, styled by the page."""

    title: str
    html: str
    summary: str = ""


class Arena(Protocol):
    """One place where outside data enter a learning system."""

    name: str
    unit: str
    """What is scored, in the singular: "test picture"."""
    metric: str
    """The metric that counts on clean data; higher is better."""
    metrics: tuple[str, ...]
    """The arena's columns in results.csv, in order."""
    reply_floor: float | None
    """Share of the clean metric that a reply must keep to be eligible; None where the game demands nothing."""
    yardstick: Yardstick
    """How payoffs are read in words."""

    def __init__(self, rules: Rules) -> None: ...

    @property
    def methods(self) -> Methods:
        """Return the registered methods."""
        ...

    def check(self, axes: Mapping[str, Sequence[str]]) -> None:
        """Raise ConfigError where entries of the axes do not fit together."""
        ...

    def controls(self, data: str) -> Sequence[Control]:
        """Return the positive controls that every audit of these data plays."""
        ...

    def extra_countermoves(self, data: str) -> Sequence[str]:
        """Return diagnostics that are played beside the replies but are no eligible reply."""
        ...

    def cell(self, setting: Setting) -> Task:
        """Return the cell and what it needs. Cheap: nothing is trained or decoded."""
        ...

    def reference(self, setting: Setting) -> Setting:
        """Return what the cell is measured against; itself for a reference."""
        ...

    def samples(self, task: Task) -> int:
        """Return how many forward-backward passes a cell will take, for estimates; may read the data to count them."""
        ...

    def make(self, task: Task, desk: Desk) -> Crafted:
        """Make an artifact: write its files into desk.folder."""
        ...

    def play(self, task: Task, desk: Desk) -> Outcome:
        """Play a cell."""
        ...

    def access(self, setting: Setting) -> str:
        """Return what a mover had to know of the trainer's model: "white", "gray", "near-black", "" for move none.

        White is the model, gray what kind it is, near-black what everybody knows: the task and its labels.
        """
        ...

    def payoff(self, mean: Number, reference: Number, chance: float | None) -> Number:
        """Return what the mover gets from mean outcomes under the move and under the reference."""
        ...

    def not_learned(self, metrics: Mapping[str, float]) -> str:
        """Return why a clean cell with these metrics proves nothing, "" where it does.

        The game itself refuses a reference within 0.1 of chance; this is for arenas whose units have no chance level.
        """
        ...

    def panels(self, run: RunFolder, results: Results) -> Sequence[Panel]:
        """Return the arena's own parts of the page."""
        ...


def arena_targets() -> dict[str, str]:
    """Return all arenas, ours and those of entry-point group ``countermove.arenas``.

    Raises:
        ConfigError: when a name is registered twice.
    """
    targets = dict(ARENAS)
    for entry in entry_points(group="countermove.arenas"):
        if entry.name in targets:
            raise ConfigError(f"the arena {entry.name!r} is registered twice; {entry.value} must choose another name")
        targets[entry.name] = entry.value
    return targets


def arena_class(name: str) -> type[Arena]:
    """Import an arena.

    Raises:
        ConfigError: when there is none of that name.
    """
    targets = arena_targets()
    if name not in targets:
        raise ConfigError(f"unknown arena {name!r}: {did_you_mean(name, targets)}")
    return load(targets[name])
