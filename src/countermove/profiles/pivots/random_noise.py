"""Items of noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from countermove.profiles.dataset import Profiles
from countermove.profiles.making import as_additions, grouped, noise
from countermove.profiles.pivot import Additions, Knowledge, PivotContext, Place, check_extension


@dataclass(frozen=True, kw_only=True)
class RandomNoise:
    """Items of noise that nobody optimised: the control for adv-n.

    Pictures of uniform pixels, or clips of white noise as loud as the background.

    additions: per item of the profile; 1 doubles it.
    place:     end (the newest items), alternate (between the others, evenly), start (the oldest).
    """

    version: ClassVar[int] = 1
    changes: ClassVar[bool] = True
    additions: float = 1.0
    place: Place = "end"

    def __post_init__(self) -> None:
        check_extension("random-noise", self.additions, self.place)

    def knows(self) -> Knowledge | None:
        """Return nothing."""
        return None

    def __call__(self, data: Profiles, movers: Tensor, *, context: PivotContext) -> Additions:
        """Return the additions."""
        groups = grouped(data, movers, additions=self.additions, shared=False)
        items = noise(data, groups, context.seed)
        sources = torch.full(items.shape[:2], -1)
        return as_additions(data, movers, groups, items, sources, self.place)
