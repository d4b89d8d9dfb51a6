"""No reply at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.unlearnable.countermeasure import Plan, ReplyContext


@dataclass(frozen=True, kw_only=True)
class NoCountermeasure:
    """Train on the data as they came."""

    version: ClassVar[int] = 1

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the plan."""
        return plan
