"""A backbone that has seen changed pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.retrieval.plan import Adaptation, Plan, read_known


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """The backbone is fine-tuned on public pictures, untouched and changed with the tool, under one name each.

    The index is built anew with it.

    known:    the moves that the owner has, spelled; empty: the one they meet. With others than that, the tool is not
              known.
    pictures: at most so many public pictures are changed with each.
    epochs, lr: of the fine-tuning; none: as the backbone was trained.
    """

    version: ClassVar[int] = 1
    known: tuple[str, ...] = ()
    pictures: int = 1000
    epochs: int | None = None
    lr: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", read_known(self.known, "adapted"))
        if self.pictures < 1 or (self.epochs is not None and self.epochs < 1) or (self.lr is not None and self.lr <= 0):
            raise ConfigError("countermove 'adapted': pictures, epochs and lr are above 0")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the fine-tuning."""
        plan.once("adapted", "adaptation")
        asked = Adaptation(known=self.known, pictures=self.pictures, epochs=self.epochs, lr=self.lr)
        return replace(plan, adaptation=asked)
