"""Photos that were never cloaked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.faces.trainer import Plan


@dataclass(frozen=True, kw_only=True)
class Leaked:
    """The trainer also finds clean photos of every mover, Radiya-Dixit et al. 2022, arXiv:2106.14851.

    Forgotten ones, or ones that somebody else has posted: the first of each mover's published photos, by id, are in
    the gallery as they were taken, in place of their cloaked versions. Who has no more than that many has cloaked
    nothing.

    photos: how many of each mover (paper: 0 to 20).
    """

    version: ClassVar[int] = 1
    photos: int = 1

    def __post_init__(self) -> None:
        if self.photos < 1:
            raise ConfigError(f"countermove 'leaked': photos = {self.photos} is refused; at least one leaks")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with leaked photos."""
        return replace(plan, leaked=plan.leaked + self.photos)
