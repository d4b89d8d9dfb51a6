"""Training on pivoted profiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.finetuning.adaptation import check_adaptation
from countermove.profiles.plan import Pivoted, Plan, read_known


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining:
    """The profiler is trained on pivoted profiles beside the original ones, Liu, thesis, chapter 4.

    The trainer has the tool, and pivots their own training profiles with it. What a pivot is made on with them is the
    trainer's profiler as it was before.

    known: the pivots that the trainer has, spelled as moves; empty: the one it meets. With others than that, it is a
           pivot that the trainer does not know.
    share: of the training profiles that are pivoted, with one of the known pivots each, in turn.
    adaptation: full, critical-layers, mask, lora or bitfit, spelled with settings: the profiler that was there before
           is fine-tuned by AdamW, all of it or little; see the arena tasks. Empty: a fresh one is trained.

    Where nobody moves and no pivot is known, it is trained as always.
    """

    version: ClassVar[int] = 1
    known: tuple[str, ...] = ()
    share: float = 1.0
    adaptation: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", read_known(self.known, "adversarial-training"))
        if self.adaptation:
            object.__setattr__(self, "adaptation", check_adaptation(self.adaptation))
        if not 0 < self.share <= 1:
            raise ConfigError(f"countermove 'adversarial-training': share = {self.share:g} is refused; it is in 0..1")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the training."""
        if plan.pivoted is not None:
            raise ConfigError("countermove 'adversarial-training' stands twice; name several pivots in known=[...]")
        return replace(plan, pivoted=Pivoted(known=self.known, share=self.share, adaptation=self.adaptation))
