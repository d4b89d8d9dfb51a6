"""A network that takes changes away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.retrieval.plan import Plan, Purification, read_known


@dataclass(frozen=True, kw_only=True)
class Purifier:
    """Queries go through a small network that was trained to give untouched pictures back.

    Five convolutions that predict what was added, trained on public pictures, changed and untouched.

    known:    the moves that the owner has, spelled; empty: the one they meet.
    pictures: at most so many public pictures are changed with each.
    epochs, lr, width: of the network's training (Adam), and its channels.
    """

    version: ClassVar[int] = 1
    known: tuple[str, ...] = ()
    pictures: int = 1000
    epochs: int = 10
    lr: float = 0.001
    width: int = 24

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", read_known(self.known, "purifier"))
        if min(self.pictures, self.epochs, self.width) < 1 or self.lr <= 0:
            raise ConfigError("countermove 'purifier': pictures, epochs, lr and width are above 0")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the network."""
        plan.once("purifier", "purification")
        asked = Purification(known=self.known, pictures=self.pictures, epochs=self.epochs, lr=self.lr, width=self.width)
        return replace(plan, purification=asked)
