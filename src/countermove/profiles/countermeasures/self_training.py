"""Learning from the profiles that are to be read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.profiles.plan import Plan, SelfTraining


@dataclass(frozen=True, kw_only=True)
class SelfTrained:
    """A semi-supervised profiler: what it reads with confidence it learns from, Lee 2013.

    Received profiles, pivoted where their owners moved, join the training with the value that the profiler reads; then
    it is trained afresh. The thesis names semi-supervised profilers in its outlook.

    rounds:     of reading and training.
    confidence: a profile joins whose value is read with at least this probability.
    """

    version: ClassVar[int] = 1
    rounds: int = 1
    confidence: float = 0.8

    def __post_init__(self) -> None:
        if self.rounds < 1 or not 0 <= self.confidence <= 1:
            raise ConfigError("countermove 'self-training': rounds is at least 1, confidence lies in 0..1")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the training."""
        if plan.self_training is not None:
            raise ConfigError("countermove 'self-training' stands twice in a reply; raise its rounds")
        return replace(plan, self_training=SelfTraining(rounds=self.rounds, confidence=self.confidence))
