"""No defence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.recommender.defence import Plan


@dataclass(frozen=True, kw_only=True)
class NoDefence:
    """Lists are made as ever."""

    version: ClassVar[int] = 1

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan."""
        return plan
