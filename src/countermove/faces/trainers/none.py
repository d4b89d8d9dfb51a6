"""Nothing is done about cloaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.faces.trainer import Plan


@dataclass(frozen=True, kw_only=True)
class NoReply:
    """The recogniser as it is: what every reply is compared with. An oblivious trainer is this with a newer model."""

    version: ClassVar[int] = 1

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan."""
        return plan
