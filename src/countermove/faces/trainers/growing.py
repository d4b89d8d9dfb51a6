"""A gallery that grows with what it recognises."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.faces.trainer import Growing, Plan


@dataclass(frozen=True, kw_only=True)
class GrowingGallery:
    """Photos that were surely named join the gallery, and the others are compared with them too.

    The idea of DynTracker (2025, arXiv:2501.06533): who watches a stream of photos needs to be right once. All photos
    to be named are there together; round by round, those that are nearer to their match than the threshold stand in the
    gallery under the name they got, right or wrong, until nothing changes. For nearest neighbours alone.

    quantile: the share of the gallery's photos that are less near to their nearest other one than the threshold.
    rounds:   at most so many.

    Differs from the paper: its photos arrive one by one and are cloaked themselves.
    """

    version: ClassVar[int] = 1
    quantile: float = 0.5
    rounds: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1 or self.rounds < 1:
            raise ConfigError(
                f"countermove 'growing': quantile = {self.quantile}, rounds = {self.rounds} is refused: a quantile "
                "between 0 and 1, and at least one round"
            )

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with a growing gallery."""
        if plan.mixture:
            raise ConfigError(f"countermove 'growing' grows one recogniser's gallery; leave {plan.mixture} out")
        return replace(plan, growing=Growing(quantile=self.quantile, rounds=self.rounds))
