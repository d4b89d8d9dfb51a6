"""Searching again with what was found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.retrieval.plan import Expansion, Plan


@dataclass(frozen=True, kw_only=True)
class QueryExpansion:
    """The first results are searched for, too, Radenovic et al. 2018, arXiv:1711.02512.

    Scores of the query and of its first results are averaged with weights 1 and similarity to the power alpha, each
    engine's scores brought to 0..1 for every query before. For one product of descriptors that is the published form,
    but for this scaling; it also serves engines without descriptors.

    top:   how many results; none of them is known to be right.
    alpha: 0 weighs them all as the query itself.
    """

    version: ClassVar[int] = 1
    top: int = 3
    alpha: float = 3.0

    def __post_init__(self) -> None:
        if self.top < 1 or self.alpha < 0:
            raise ConfigError("countermove 'query-expansion': top is at least 1, alpha not below 0")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the expansion."""
        plan.once("query-expansion", "expansion")
        return replace(plan, expansion=Expansion(top=self.top, alpha=self.alpha))
