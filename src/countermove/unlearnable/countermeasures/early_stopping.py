"""Early stopping as a reply of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.learning.stopping import Stopping
from countermove.unlearnable.countermeasure import Plan, ReplyContext


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """Early stopping, Sandoval-Segura et al. 2022, arXiv:2204.08615.

    Training ends when the accuracy on the received pictures, as trained on, has hardly risen for some epochs, and the
    model of the epoch before them is taken. Nothing but received data decides.

    patience: epochs without a gain before training stops.
    gain:     the rise in accuracy that counts as one, in [0, 1).

    Differs from the paper, which takes the epoch with the best accuracy on clean test pictures (its peak); a trainer
    who only has received data cannot know that epoch. The peak is reported as accuracy_best.
    """

    version: ClassVar[int] = 1

    patience: int = 2
    gain: float = 0.01

    def __post_init__(self) -> None:
        Stopping(patience=self.patience, gain=self.gain)

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        return replace(plan, stop=Stopping(patience=self.patience, gain=self.gain))
