"""The owner does nothing about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.retrieval.plan import Plan


@dataclass(frozen=True, kw_only=True)
class NoReply:
    """Queries arrive as they were sent and are searched for as usual."""

    version: ClassVar[int] = 1

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan as it is."""
        return plan
