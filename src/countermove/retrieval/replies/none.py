"""Queries are answered as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.retrieval.plan import Plan


@dataclass(frozen=True, kw_only=True)
class NoReply:
    """Queries are answered as they come."""

    version: ClassVar[int] = 1

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan."""
        return plan
