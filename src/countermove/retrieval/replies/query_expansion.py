"""Searching once more, with what was found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.retrieval.plan import Expansion, Plan


@dataclass(frozen=True, kw_only=True)
class QueryExpansion:
    """The first results join the query (alpha query expansion), Radenovic et al. 2018, arXiv:1711.02512.

    What was found first is searched for as well, and scores are averaged; a result weighs its own score to the power of
    alpha, the query weighs 1. For descriptors that are compared by cosines it is the average of descriptors. Where the
    first results are right it helps, and where a changed query has found something else it strays further.

    top:   how many results.
    alpha: 0 weighs all alike (Chum et al. 2007); the larger, the more only near ones count.

    Differs from the paper: engines without cosines may expand too, with scores between their median and their best.
    """

    version: ClassVar[int] = 1
    top: int = 5
    alpha: float = 3.0

    def __post_init__(self) -> None:
        if self.top < 1 or self.alpha < 0:
            raise ConfigError(
                f"countermove 'query-expansion': top = {self.top}, alpha = {self.alpha:g} is refused; at least one "
                "result, and alpha not below 0"
            )

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with an expansion."""
        if plan.expansion is not None:
            raise ConfigError("countermove 'query-expansion' stands twice in a reply; once more is once")
        return replace(plan, expansion=Expansion(top=self.top, alpha=self.alpha))
