"""Half the size and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from countermove.faces.trainer import On, Plan, check_on
from countermove.pixels.squeezes import check_factor, shrink


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Photos are made smaller and large again, bicubic with antialiasing, before they are embedded.

    factor: of the smaller side.
    on:     "gallery" (what was collected), or "all" (also the photos to be named).
    """

    version: ClassVar[int] = 1
    factor: float = 0.5
    on: On = "all"

    def __post_init__(self) -> None:
        check_on("resize", self.on)
        check_factor(self.factor)

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more squeeze."""
        return plan.squeezed(partial(shrink, factor=self.factor), self.on)
