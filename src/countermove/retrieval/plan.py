"""What happens to queries on their way, and what an engine's owner does about changed ones.

A countermove is a frozen, keyword-only dataclass, called with the plan so far::

    __call__(plan: Plan) -> Plan

Parts of a composition apply in order. None is told which query is changed: all are treated alike. Legend: Q queries,
M indexed pictures, V views of a query.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

from torch import Tensor

from countermove.errors import ConfigError
from countermove.game.methods import load

On = Literal["query", "all"]
Edit = Callable[[Tensor, str, int], Tensor]
"""From a picture uint8 [3, H, W], its id and a seed to another such picture, perhaps of another size."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """Something that is trained on public pictures, clean and changed.

    known:    the moves that are used, spelled; empty: the very one that the owner meets.
    pictures: at most so many public pictures are changed with each.
    """

    known: tuple[str, ...]
    pictures: int


@dataclass(frozen=True, kw_only=True)
class Adaptation(Known):
    """How a backbone is fine-tuned.

    epochs, lr: None: as its own recipe says.
    adaptation: which part of it may change, spelled; all but "full" by AdamW at a learning rate of their own.
    examples:   untouched public pictures at most; 0: all.
    """

    epochs: int | None
    lr: float | None
    adaptation: str = "full"
    examples: int = 0


@dataclass(frozen=True, kw_only=True)
class Purification(Known):
    """How a network is trained that takes changes away; see the countermove purifier."""

    epochs: int
    lr: float
    width: int
    weight: float
    indexed: bool


@dataclass(frozen=True, kw_only=True)
class Views:
    """What of a query is searched for beside the whole; see the countermove multi-crop."""

    crops: tuple[float, ...]
    scales: tuple[float, ...]
    flip: bool


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """How a query is searched for once more, with what it has found; see the countermove query-expansion."""

    top: int
    alpha: float


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Which share of what a query should find is indexed as changed by which move; "": the query's own."""

    share: float
    move: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How queries arrive and how the owner searches.

    edits:         what queries go through, in order.
    indexed:       what indexed pictures go through.
    views:         how a query is looked at several times; None: once.
    expansion:     how it is searched for once more; None: it is not.
    engines:       models whose scores are averaged with the engine's own, spelled.
    adaptation:    how the backbone is made robust; None: it stays as it is.
    purification:  how a network is trained that queries go through after all edits; None: there is none.
    leaked:        which indexed pictures are changed ones; None: none is.
    """

    edits: tuple[Edit, ...] = ()
    indexed: tuple[Edit, ...] = ()
    views: Views | None = None
    expansion: Expansion | None = None
    engines: tuple[str, ...] = ()
    adaptation: Adaptation | None = None
    purification: Purification | None = None
    leaked: Leak | None = None

    def edited(self, edit: Edit, on: On = "query") -> Plan:
        """Return the plan with one more edit, of queries or of all pictures."""
        indexed = (*self.indexed, edit) if on == "all" else self.indexed
        return replace(self, edits=(*self.edits, edit), indexed=indexed)


class Countermove(Protocol):
    """A reply of this arena."""

    version: ClassVar[int]

    def __call__(self, plan: Plan) -> Plan:
        """Return the changed plan."""
        ...


def through(edits: Sequence[Edit], picture: Tensor, name: str, seed: int) -> Tensor:
    """Return a picture uint8 [3, H, W] after all edits."""
    for edit in edits:
        picture = edit(picture, name, seed)
    return picture


def check_on(name: str, on: str) -> None:
    """Refuse a choice of pictures that is neither.

    Raises:
        ConfigError: when it is not "query" or "all".
    """
    if on not in ("query", "all"):
        raise ConfigError(f"countermove {name!r}: on = {on!r} is refused; it is query, or all (indexed pictures too)")


def read_known(known: Sequence[str], owner: str) -> tuple[str, ...]:
    """Return the canonical spellings of the moves that an owner has.

    Raises:
        ConfigError: when one is no move of this arena, or nothing is done by it.
    """
    methods = load("countermove.retrieval.methods:METHODS")  # they list the countermoves, too
    read = tuple(methods.compose("move", spelled) for spelled in known)
    for composition in read:
        if composition.is_none:
            raise ConfigError(f"countermove {owner!r}: known = [none] is refused; name moves, or none at all: []")
        _ = composition.method
    return tuple(composition.spelling for composition in read)


def read_engines(engines: Sequence[str], owner: str) -> tuple[str, ...]:
    """Return canonical spellings of models.

    Raises:
        ConfigError: when there is none, one stands twice, or is no model of this arena.
    """
    methods = load("countermove.retrieval.methods:METHODS")
    read = tuple(methods.compose("model", spelled).spelling for spelled in engines)
    if not read or len(set(read)) != len(read):
        raise ConfigError(f"countermove {owner!r}: engines = {list(engines)} is refused; name others, each once")
    return read
