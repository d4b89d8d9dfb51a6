"""A backbone that has seen changed pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.retrieval.plan import Adaptation, Plan, read_known


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """Fine-tuning on public pictures, clean and changed by known moves, under one name each.

    What Radiya-Dixit et al. 2022 (arXiv:2106.14851) do to cloaks of faces: the owner has the tool. Both queries and
    indexed pictures are described by the adapted backbone.

    known:    the moves that the owner has, spelled; empty: the one that is met.
    pictures: at most so many public pictures are changed with each.
    epochs, lr: of the fine-tuning; none: the backbone's own.
    """

    version: ClassVar[int] = 1
    known: tuple[str, ...] = ()
    pictures: int = 500
    epochs: int | None = None
    lr: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", read_known(self.known, "adapted"))
        if self.pictures < 1 or (self.epochs is not None and self.epochs < 1) or (self.lr is not None and self.lr <= 0):
            raise ConfigError("countermove 'adapted': pictures, epochs and lr are above 0")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the fine-tuning."""
        if plan.adaptation is not None:
            raise ConfigError("countermove 'adapted' stands twice in a reply; name several moves in known=[...]")
        asked = Adaptation(known=self.known, pictures=self.pictures, epochs=self.epochs, lr=self.lr)
        return replace(plan, adaptation=asked)
