"""A backbone that has seen changed pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.finetuning.adaptation import check_adaptation
from countermove.retrieval.plan import Adaptation, Plan, read_known


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """Fine-tuning on public pictures, clean and changed by known moves, under one name each.

    What Radiya-Dixit et al. 2022 (arXiv:2106.14851) do to cloaks of faces: the owner has the tool. Both queries and
    indexed pictures are described by the adapted backbone.

    known:    the moves that the owner has, spelled; empty: the one that is met.
    pictures: at most so many public pictures are changed with each.
    epochs, lr: of the fine-tuning; none: the backbone's own.
    adaptation: full, critical-layers, mask, lora or bitfit, spelled with settings; see the arena tasks.
              All but full are trained by AdamW at their own learning rate.
    examples: public pictures that it has at most, chosen by id; it changes no others. 0: all.
    """

    version: ClassVar[int] = 1
    known: tuple[str, ...] = ()
    pictures: int = 500
    epochs: int | None = None
    lr: float | None = None
    adaptation: str = "full"
    examples: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", read_known(self.known, "adapted"))
        object.__setattr__(self, "adaptation", check_adaptation(self.adaptation))
        if self.pictures < 1 or (self.epochs is not None and self.epochs < 1) or (self.lr is not None and self.lr <= 0):
            raise ConfigError("countermove 'adapted': pictures, epochs and lr are above 0")
        if self.examples < 0 or (self.lr is not None and self.adaptation != "full"):
            raise ConfigError("countermove 'adapted': examples is not below 0; another adaptation has its own lr")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the fine-tuning."""
        if plan.adaptation is not None:
            raise ConfigError("countermove 'adapted' stands twice in a reply; name several moves in known=[...]")
        asked = Adaptation(
            known=self.known,
            pictures=self.pictures,
            epochs=self.epochs,
            lr=self.lr,
            adaptation=self.adaptation,
            examples=self.examples,
        )
        return replace(plan, adaptation=asked)
