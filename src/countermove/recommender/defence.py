"""What an owner does about promoted pictures.

A defence is a frozen, keyword-only dataclass, called with the plan so far::

    __call__(plan: Plan) -> Plan

Squeezes of a composition apply in order; a gate sees uploads as they came. None is told which promotion it faces; all
see cooperative uploads and promoted ones alike.
One that fits another ranker instead has a method besides::

    refit(model: RankerMethod) -> RankerMethod
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol, runtime_checkable

from countermove.errors import ConfigError
from countermove.pixels.squeezes import Squeeze
from countermove.recommender.fitting import RankerMethod

On = Literal["new", "all"]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Refuse uploads whose embedding a squeeze moves further than those of most pictures in the catalogue.

    squeeze: what is done to a picture to see how far its embedding moves.
    passed:  share of the catalogue that must pass.
    """

    squeeze: Squeeze
    passed: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the owner will make lists.

    new:         squeezes that every upload goes through before it is embedded.
    catalogue:   squeezes that all other pictures go through.
    gate:        who is let in; None: everybody.
    random_slot: whether items without history enter lists at a random place, their pictures unseen.
    """

    new: tuple[Squeeze, ...] = ()
    catalogue: tuple[Squeeze, ...] = ()
    gate: Gate | None = None
    random_slot: bool = False

    def squeezed(self, squeeze: Squeeze, on: On) -> Plan:
        """Return the plan with one more squeeze of uploads, or of all pictures."""
        catalogue = (*self.catalogue, squeeze) if on == "all" else self.catalogue
        return replace(self, new=(*self.new, squeeze), catalogue=catalogue)


class Defence(Protocol):
    """A reply of this arena."""

    version: ClassVar[int]

    def __call__(self, plan: Plan) -> Plan:
        """Return the changed plan."""
        ...


@runtime_checkable
class Refits(Protocol):
    """A reply that fits another ranker."""

    def refit(self, model: RankerMethod) -> RankerMethod:
        """Return what is fitted in the model's place.

        Raises:
            ConfigError: when it has no answer to this model.
        """
        ...


def check_examples(examples: int, adaptation: str, name: str) -> None:
    """Refuse numbers of examples that mean nothing.

    Raises:
        ConfigError: below 0, or without an adaptation that would go on with them.
    """
    if examples < 0 or (examples and not adaptation):
        raise ConfigError(f"countermove {name!r}: examples is not below 0, and of a fine-tuning; give an adaptation")


def check_on(name: str, on: str) -> None:
    """Refuse a choice of pictures that is neither.

    Raises:
        ConfigError: when it is not "new" or "all".
    """
    if on not in ("new", "all"):
        raise ConfigError(f"countermove {name!r}: on = {on!r} is refused; it is new (uploads only) or all")
