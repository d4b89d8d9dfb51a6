"""Reading older items only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.profiles.plan import On, Plan, check_on, newest_dropped


@dataclass(frozen=True, kw_only=True)
class BackOff:
    """The newest items of every profile are left out, Liu, thesis, chapter 4.

    A profiler who suspects a pivot goes back to what was posted before. It does not know who moved, so profiles without
    additions lose as much.

    share: of each profile's items that are left out, the newest first; 0.5 undoes a pivot that doubled a profile. At
           least one item is left.
    on:    "received" (the profiles to be read), or "all" (those trained on, too).

    Differs from the thesis, which plots steps of unnamed size.
    """

    version: ClassVar[int] = 1
    share: float = 0.5
    on: On = "received"

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ConfigError(f"countermove 'back-off': share = {self.share:g} is refused; it lies in 0..1, below 1")
        check_on("back-off", self.on)

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more filter."""
        return plan.filtered(f"back-off {self.share!r}", partial(newest_dropped, share=self.share), self.on)
