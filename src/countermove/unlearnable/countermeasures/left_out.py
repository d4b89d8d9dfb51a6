"""A diagnostic: what the moved pictures were worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import DataError
from countermove.learning.scoring import Examples
from countermove.pixels.mapped import selected
from countermove.unlearnable.countermeasure import Plan, ReplyContext


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Leave the moved pictures out (a control), Huang et al. 2021, arXiv:2101.04898.

    A move that makes its pictures worthless leaves the learner with what the other pictures teach. This looks at who
    moved what, which no trainer can: it is played beside the replies wherever only a part of the data is moved, and is
    never chosen as the best reply.
    """

    version: ClassVar[int] = 1

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the plan without the moved pictures."""
        kept = ~plan.moved
        if int(kept.sum()) < 2:
            raise DataError("left-out needs pictures that were not moved; join +moved(fraction=...) to the data")
        received = Examples(pictures=selected(plan.received.pictures, kept), labels=plan.received.labels[kept])
        return replace(plan, received=received, moved=plan.moved[kept])
