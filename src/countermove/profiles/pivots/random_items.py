"""Items that are there anyway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from countermove.profiles.candidates import Like, candidates, check_like, drawn
from countermove.profiles.dataset import Profiles
from countermove.profiles.pivot import (
    Additions,
    Knowledge,
    PivotContext,
    Place,
    check_extension,
    chosen,
    counts,
    require_background,
)


@dataclass(frozen=True, kw_only=True)
class RandomItems:
    """Natural items at random: the control for nat-i and adv-pi, which the thesis lacks.

    What of a pivot's effect comes from its choice, and not from there being more items, is its distance from this.

    additions: per item of the profile; 1 doubles it.
    place:     end (the newest items), alternate (between the others, evenly), start (the oldest).
    like:      any background item, or only those of the "same" value of the attribute as the mover's own.
    """

    version: ClassVar[int] = 1
    changes: ClassVar[bool] = False
    additions: float = 1.0
    place: Place = "end"
    like: Like = "any"

    def __post_init__(self) -> None:
        check_extension("random-items", self.additions, self.place)
        check_like("random-items", self.like)

    def knows(self) -> Knowledge | None:
        """Return nothing."""
        return None

    def __call__(self, data: Profiles, movers: Tensor, *, context: PivotContext) -> Additions:
        """Return the additions."""
        rows = []
        for mover, count in zip(movers.tolist(), counts(data, movers, self.additions), strict=True):
            pool = require_background(data, "random-items", count, candidates(data, mover, self.like))
            rows.append(drawn(pool, count, data.profile_ids[mover], context.seed))
        return chosen(data, movers, rows, self.place)
