"""A small network that takes changes away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.retrieval.plan import On, Plan, Purification, check_on, read_known


@dataclass(frozen=True, kw_only=True)
class Purifier:
    """A network that gives clean queries back, after PuFace 2024, arXiv:2406.02253.

    A small convolutional network learns, on pieces of public pictures, what to add to a changed one so that pixels
    and descriptors become the clean one's, and to leave clean ones alone. Queries of any size go through it; the
    backbone stays as it is.

    known:    the moves that the owner has, spelled; empty: the one that is met.
    pictures: at most so many public pictures are changed with each.
    width:    channels of its layers.
    weight:   of the descriptors' distance beside the pixels'; of no account for engines without a backbone.
    epochs, lr: of Adam.
    on:       "query", or "all" (indexed pictures too).
    """

    version: ClassVar[int] = 1
    known: tuple[str, ...] = ()
    pictures: int = 500
    width: int = 32
    weight: float = 0.01
    epochs: int = 10
    lr: float = 2e-3
    on: On = "query"

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", read_known(self.known, "purifier"))
        check_on("purifier", self.on)
        if min(self.pictures, self.width, self.epochs) < 1 or self.lr <= 0 or self.weight < 0:
            raise ConfigError("countermove 'purifier': pictures, width, epochs and lr are above 0, weight not below")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the network."""
        if plan.purification is not None:
            raise ConfigError("countermove 'purifier' stands twice in a reply; name several moves in known=[...]")
        asked = Purification(
            known=self.known,
            pictures=self.pictures,
            width=self.width,
            weight=self.weight,
            epochs=self.epochs,
            lr=self.lr,
            indexed=self.on == "all",
        )
        return replace(plan, purification=asked)
