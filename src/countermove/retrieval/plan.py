"""What becomes of a query on its way, and what the owner of an engine does about changed ones.

A countermove is a frozen, keyword-only dataclass, called with the plan so far::

    __call__(plan: Plan) -> Plan

Parts of a composition apply in order. None is told who moves: all queries are treated alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from torch import Tensor

from countermove.errors import ConfigError

Edit = Callable[[Tensor, str, int], Tensor]
"""From a picture uint8 [3, H, W], its id and a seed to a picture; deterministic."""
Views = Callable[[Tensor], Sequence[Tensor]]
"""From a picture to several, each of which is searched for."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """Something that is trained on public pictures, untouched and changed.

    known:    the moves that are used, spelled; empty: the very one that the owner meets.
    pictures: at most so many are changed with each.
    """

    known: tuple[str, ...]
    pictures: int


@dataclass(frozen=True, kw_only=True)
class Adaptation(Known):
    """How a backbone is fine-tuned; None: as it was trained."""

    epochs: int | None
    lr: float | None


@dataclass(frozen=True, kw_only=True)
class Purification(Known):
    """How a network is trained that takes changes away; see the countermove purifier."""

    epochs: int
    lr: float
    width: int


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """How first results are searched for in their turn; see the countermove query-expansion."""

    top: int
    alpha: float


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Changed pictures in the collection; see the countermove leaked.

    move: how they were changed, spelled; "": like the query.
    """

    share: float
    move: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How queries will be answered.

    edits:        what every query goes through before it is searched for.
    views:        what a query is split into, whose scores are averaged; None: itself.
    expansion:    how first results are searched for, too; None: they are not.
    engines:      others whose scores are added, spelled.
    adaptation:   how the backbone is made robust; None: it stays as it is.
    purification: how a network is trained that queries go through before all edits; None: there is none.
    leaked:       what changed pictures are in the collection; None: none.
    """

    edits: tuple[Edit, ...] = ()
    views: Views | None = None
    expansion: Expansion | None = None
    engines: tuple[str, ...] = ()
    adaptation: Adaptation | None = None
    purification: Purification | None = None
    leaked: Leak | None = None

    def edited(self, edit: Edit) -> Plan:
        """Return the plan with one more edit."""
        return replace(self, edits=(*self.edits, edit))

    def once(self, name: str, part: str) -> None:
        """Refuse a second part of a kind.

        Raises:
            ConfigError: when there is one.
        """
        if getattr(self, part):
            raise ConfigError(f"countermove {name!r} stands twice in a reply; once is enough")


class Countermove(Protocol):
    """A reply of this arena."""

    version: ClassVar[int]

    def __call__(self, plan: Plan) -> Plan:
        """Return the changed plan."""
        ...


def read_known(known: Sequence[str], owner: str) -> tuple[str, ...]:
    """Return the canonical spellings of the moves that an owner has.

    Raises:
        ConfigError: when one is no move of this arena, or nothing is done by it.
    """
    from countermove.retrieval.methods import METHODS  # it lists the countermoves, too

    read = tuple(METHODS.compose("move", spelled) for spelled in known)
    for composition in read:
        if composition.is_none:
            raise ConfigError(f"countermove {owner!r}: known = [none] is refused; name moves, or none at all: []")
        _ = composition.method
    return tuple(composition.spelling for composition in read)
