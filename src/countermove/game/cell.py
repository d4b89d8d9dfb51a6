"""Tasks and cells: what is run once, under which key, and what comes out of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

Payer = Literal["mover", "trainer"]


def canonical(value: Any) -> str:
    """Write plain data as JSON in the one way that keys are made from: sorted, compact, no NaN.

    Raises:
        ValueError: on NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of plain data's canonical form, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


@dataclass(frozen=True, order=True)
class Setting:
    """One point of the grid: canonical spellings and a seed."""

    arena: str
    data: str
    move: str
    countermove: str
    model: str
    seed: int

    @property
    def label(self) -> str:
        """Return a line for people."""
        return f"{self.move} | {self.countermove} | {self.model} | {self.data} | seed {self.seed}"


@dataclass(frozen=True)
class Task:
    """One unit of work: an artifact that cells share, or a cell.

    kind:    what it makes: "cell", or an artifact's kind ("move", "surrogate", "features", ...).
    payload: everything that its result depends on, as plain data; the key is made from it.
    needs:   the artifacts that it reads. They are part of the payload through their keys.
    setting: the grid point, for cells.
    reference: the cell that its payoff is measured against, None when it is its own.
    payer:   who an artifact is charged to: the "mover" (a move, its surrogate) or the "trainer" (features, an index).
    """

    kind: str
    label: str
    payload: Mapping[str, Any]
    needs: tuple[Task, ...] = ()
    setting: Setting | None = None
    reference: Task | None = None
    payer: Payer = "trainer"

    @cached_property
    def key(self) -> str:
        """Return the SHA-256 key under which the result is stored."""
        return digest({"kind": self.kind, "payload": self.payload, "needs": [need.key for need in self.needs]})

    @property
    def before(self) -> tuple[Task, ...]:
        """Return everything that must be finished before this can start."""
        return self.needs if self.reference is None else (*self.needs, self.reference)

    def need(self, kind: str) -> Task | None:
        """Return the needed artifact of a kind."""
        return next((need for need in self.needs if need.kind == kind), None)

    def charged_to(self, payer: Payer) -> dict[str, Task]:
        """Return the artifacts behind this task that one side pays for, by key; each once, however often it is used.

        What a mover only looked at, such as the ranker that a promotion was made for, is not charged to the trainer
        through the move.
        """
        found: dict[str, Task] = {}
        for need in self.needs:
            if need.payer == payer:
                found[need.key] = need
            if payer == "mover" or need.payer == payer:
                found |= need.charged_to(payer)
        return found

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and other.key == self.key


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What something took. Totals: differences are taken when prices are reported.

    seconds:            wall clock.
    samples:            forward-backward passes of one sample.
    parameters_changed: how many numbers of the model differ from what the trainer had before.
    bytes_stored:       what must be kept for the task.
    clean_examples:     untouched examples that were needed.
    """

    seconds: float = 0.0
    samples: int = 0
    parameters_changed: int = 0
    bytes_stored: int = 0
    clean_examples: int = 0

    def __add__(self, other: Cost) -> Cost:
        mine, theirs = asdict(self), asdict(other)
        return Cost(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True, kw_only=True)
class Units:
    """The outcome of every test unit (picture, mover, item, profile, query).

    outcome: one number a unit; the arena's payoff is a function of its mean.
    counted: which units the payoff counts (None: all).
    """

    ids: Sequence[str]
    outcome: Sequence[float]
    counted: Sequence[bool] | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What playing a cell gives. Raw: the payoff is derived from units and reference.

    metrics: the arena's metrics by name.
    chance:  what guessing reaches on the metric, from the data; None where it has no meaning.
    cost:    the trainer's total.
    curves:  series by name, one value an epoch or step.
    tables:  numbers in rows and columns by name, for the arena's own panels.
    """

    metrics: Mapping[str, float]
    units: Units
    chance: float | None
    cost: Cost
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Crafted:
    """What making an artifact gives besides its files: its cost and facts for the manifest."""

    cost: Cost
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where a task is performed.

    folder:    an empty folder for an artifact's files (cells must not write).
    scratch:   a folder for checkpoints, kept until the task is done, found again after a crash.
    artifacts: the folder with the finished artifacts, one sub-folder a key.
    """

    folder: Path
    scratch: Path
    artifacts: Path

    def artifact(self, task: Task) -> Path:
        """Return the folder of a finished artifact."""
        return self.artifacts / task.key
