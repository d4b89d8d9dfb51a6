"""What a profiler does about pivots.

A countermove is a frozen, keyword-only dataclass, called with the plan so far::

    __call__(plan: Plan) -> Plan

Whatever the order of a composition, items are squeezed first, then filtered in the order of the filters, then looked at
by a detector. None is told who moves: all profiles are treated alike.
Legend: N items of a profile, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from countermove.errors import ConfigError
from countermove.profiles.dataset import Medium

On = Literal["received", "all"]
Squeeze = Callable[[Tensor, int], Tensor]
"""From stored items [M, ...] and their rate to such items."""
Filter = Callable[[Tensor], Tensor]
"""From a profile's features [N, D], oldest first, to which items are read, bool [N]; at least one."""


@dataclass(frozen=True, kw_only=True)
class Squeezing:
    """A squeeze, how it is spelled, and the medium that it is for."""

    spelling: str
    medium: Medium
    squeeze: Squeeze


@dataclass(frozen=True, kw_only=True)
class Filtering:
    """A filter, how it is spelled, and whether training profiles go through it as well."""

    spelling: str
    filter: Filter
    on: On


@dataclass(frozen=True, kw_only=True)
class Pivoted:
    """Training on pivoted profiles.

    known: the pivots that are used, spelled; empty: the very one that the profiler meets.
    share: of the training profiles, each pivoted with one of them in turn, that stand beside the originals.
    adaptation: which part of the profiler that was there before may change, spelled; "": a fresh one is trained.
    """

    known: tuple[str, ...]
    share: float
    adaptation: str = ""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """How additions are looked for; see the countermove detector."""

    known: tuple[str, ...]
    epochs: int
    lr: float
    hidden: int
    quantile: float
    drop: bool


@dataclass(frozen=True, kw_only=True)
class SelfTraining:
    """How profiles without labels are learned from; see the countermove self-training."""

    rounds: int
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How an attribute will be read.

    squeezes:      that all items go through, those of training profiles too.
    filters:       which items of a profile are read.
    pivoted:       how pivoted profiles are trained on; None: they are not.
    detection:     how additions are looked for; None: they are not.
    self_training: how received profiles are learned from; None: they are not.
    """

    squeezes: tuple[Squeezing, ...] = ()
    filters: tuple[Filtering, ...] = ()
    pivoted: Pivoted | None = None
    detection: Detection | None = None
    self_training: SelfTraining | None = None

    def squeezed(self, spelling: str, medium: Medium, squeeze: Squeeze) -> Plan:
        """Return the plan with one more squeeze."""
        return replace(self, squeezes=(*self.squeezes, Squeezing(spelling=spelling, medium=medium, squeeze=squeeze)))

    def filtered(self, spelling: str, chosen: Filter, on: On) -> Plan:
        """Return the plan with one more filter."""
        return replace(self, filters=(*self.filters, Filtering(spelling=spelling, filter=chosen, on=on)))

    @property
    def trained_through(self) -> tuple[str, ...]:
        """Return what of the plan changes the training, spelled."""
        return (*(one.spelling for one in self.squeezes), *(one.spelling for one in self.filters if one.on == "all"))


class Countermove(Protocol):
    """A reply of this arena."""

    version: ClassVar[int]

    def __call__(self, plan: Plan) -> Plan:
        """Return the changed plan."""
        ...


def check_on(name: str, on: str) -> None:
    """Refuse a choice of profiles that is neither.

    Raises:
        ConfigError: when it is not "received" or "all".
    """
    if on not in ("received", "all"):
        raise ConfigError(f"countermove {name!r}: on = {on!r} is refused; it is received (what is to be read) or all")


def read_known(known: Sequence[str], owner: str) -> tuple[str, ...]:
    """Return the canonical spellings of the pivots that a profiler has.

    Raises:
        ConfigError: when one is no move of this arena, nothing is added by it, or it spoils training profiles.
    """
    from countermove.profiles.methods import METHODS  # it lists the countermoves, too

    read = tuple(METHODS.compose("move", spelled) for spelled in known)
    for composition in read:
        if composition.is_none or hasattr(composition.method, "takes_part"):
            raise ConfigError(
                f"countermove {owner!r}: known = [{composition.spelling}] is refused; name pivots, or none at all: []"
            )
    return tuple(composition.spelling for composition in read)


def kept(bag: Tensor, features: Tensor, filters: Sequence[Filter]) -> Tensor:
    """Return the rows of a profile that are left when all filters went over it, one after the other.

    Args:
        bag: rows of items, int64 [N], oldest first.
        features: of all items, [M, D].
        filters: what each profile goes through.
    """
    for one in filters:
        mask = one(features[bag])
        bag = bag[mask] if bool(mask.any()) else bag[:1]
    return bag


def newest_dropped(features: Tensor, *, share: float) -> Tensor:
    """Return all items but the newest, bool [N]; at least one is left."""
    left = max(1, len(features) - round(share * len(features)))
    return torch.arange(len(features)) < left


def outliers_dropped(features: Tensor, *, share: float) -> Tensor:
    """Return all items but those farthest from the median of every feature, bool [N]; at least one is left."""
    left = max(1, len(features) - round(share * len(features)))
    distance = (features - features.median(0).values).square().sum(1)
    kept_rows = distance.argsort(stable=True)[:left]
    return torch.zeros(len(features), dtype=torch.bool).index_fill_(0, kept_rows, True)
