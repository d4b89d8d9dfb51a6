"""What a trainer does about cloaks.

A countermove is a frozen, keyword-only dataclass, called with the plan so far::

    __call__(plan: Plan) -> Plan

Parts of a composition apply in order. None is told who moves: galleries are treated alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

from countermove.errors import ConfigError
from countermove.pixels.squeezes import Squeeze

On = Literal["gallery", "all"]
Mixture = Literal["", "top-2", "confidence"]


@dataclass(frozen=True, kw_only=True)
class Knowing:
    """Something that is trained on photos of people who are in no gallery, clean and cloaked.

    known:  the cloaks that are used, spelled; empty: the very one that the trainer meets.
    photos: at most so many of each person's photos are cloaked with each.
    """

    known: tuple[str, ...]
    photos: int


@dataclass(frozen=True, kw_only=True)
class Adaptation(Knowing):
    """How an extractor is fine-tuned.

    epochs, lr: None: as its own recipe says.
    adaptation: which part of it may change, spelled; all but "full" by AdamW at a learning rate of their own.
    examples:   clean photos of the public at most; 0: all.
    """

    epochs: int | None
    lr: float | None
    adaptation: str = "full"
    examples: int = 0


@dataclass(frozen=True, kw_only=True)
class Purification(Knowing):
    """How a network is trained that takes cloaks away; see the countermove purifier."""

    epochs: int
    lr: float
    width: int
    weight: float
    probes: bool


@dataclass(frozen=True, kw_only=True)
class Detection(Knowing):
    """How a network is trained that tells cloaked from clean; see the countermove detector."""

    epochs: int
    lr: float
    network: str
    quality: int | None


@dataclass(frozen=True, kw_only=True)
class Growing:
    """How a gallery takes in what it names; see the countermove growing."""

    quantile: float
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the trainer will make a recogniser.

    gallery:      squeezes that collected photos go through before they are embedded.
    probes:       squeezes that photos to be named go through.
    leaked:       how many of a mover's published photos are clean.
    adaptation:   how the extractor is made robust; None: it stays as it is.
    mixture:      how the adapted extractor is joined with the plain one; "": it replaces it.
    quantile:     of the confidence mixture: the share of the gallery that is less near than the threshold.
    purification: how a network is trained that photos go through before all squeezes; None: there is none.
    detection:    how a detector is trained; None: there is none.
    growing:      how the gallery takes in what it names; None: it does not.
    """

    gallery: tuple[Squeeze, ...] = ()
    probes: tuple[Squeeze, ...] = ()
    leaked: int = 0
    adaptation: Adaptation | None = None
    mixture: Mixture = ""
    quantile: float = 0.0
    purification: Purification | None = None
    detection: Detection | None = None
    growing: Growing | None = None

    def squeezed(self, squeeze: Squeeze, on: On) -> Plan:
        """Return the plan with one more squeeze, of the gallery or of all photos."""
        probes = (*self.probes, squeeze) if on == "all" else self.probes
        return replace(self, gallery=(*self.gallery, squeeze), probes=probes)


class Countermove(Protocol):
    """A reply of this arena."""

    version: ClassVar[int]

    def __call__(self, plan: Plan) -> Plan:
        """Return the changed plan."""
        ...


def check_on(name: str, on: str) -> None:
    """Refuse a choice of photos that is neither.

    Raises:
        ConfigError: when it is not "gallery" or "all".
    """
    if on not in ("gallery", "all"):
        raise ConfigError(f"countermove {name!r}: on = {on!r} is refused; it is gallery (what was collected) or all")


def read_known(known: Sequence[str], owner: str) -> tuple[str, ...]:
    """Return the canonical spellings of the cloaks that a trainer has.

    Raises:
        ConfigError: when one is no move of this arena, or nothing is done by it.
    """
    from countermove.faces.methods import METHODS  # it lists the countermoves, too

    read = tuple(METHODS.compose("move", spelled) for spelled in known)
    for composition in read:
        if composition.is_none:
            raise ConfigError(f"countermove {owner!r}: known = [none] is refused; name cloaks, or none at all: []")
        _ = composition.method
    return tuple(composition.spelling for composition in read)
