"""Leaving out what does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.profiles.plan import On, Plan, check_on, outliers_dropped


@dataclass(frozen=True, kw_only=True)
class Outliers:
    """Items that are unlike the rest of their profile are left out.

    Unlike is far, in the profiler's features, from the profile's median in each of them. As long as most items are the
    owner's own, the median is theirs.

    share: of each profile's items that are left out, the farthest first. At least one item is left.
    on:    "received" (the profiles to be read), or "all" (those trained on, too).
    """

    version: ClassVar[int] = 1
    share: float = 0.25
    on: On = "received"

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ConfigError(f"countermove 'outliers': share = {self.share:g} is refused; it lies in 0..1, below 1")
        check_on("outliers", self.on)

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more filter."""
        return plan.filtered(f"outliers {self.share!r}", partial(outliers_dropped, share=self.share), self.on)
