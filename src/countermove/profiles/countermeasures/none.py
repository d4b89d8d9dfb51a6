"""Nothing is done about pivots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.profiles.plan import Plan


@dataclass(frozen=True, kw_only=True)
class NoReply:
    """Profiles are read as they come."""

    version: ClassVar[int] = 1

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan."""
        return plan
