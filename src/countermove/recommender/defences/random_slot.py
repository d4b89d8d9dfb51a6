"""Ranking items without history without their pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.recommender.defence import Plan


@dataclass(frozen=True, kw_only=True)
class RandomSlot:
    """The owner's fallback: an item without history enters every list at a random place, its picture unseen.

    All other items are ranked as ever. A promotion cannot gain anything from it, and honest new items get exploration:
    the same place for an item and a user whatever the picture shows.
    """

    version: ClassVar[int] = 1

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with random places."""
        return replace(plan, random_slot=True)
