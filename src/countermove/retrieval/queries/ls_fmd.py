"""Keypoints are blurred away, and others are forged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from countermove.retrieval.queries.fmd import check_forging, forged
from countermove.retrieval.queries.ls import blurred, check_blur
from countermove.retrieval.queries.rmd import check_rounds
from countermove.retrieval.query import QueryContext
from countermove.retrieval.recolouring import Colour, check_colour, through_gray


@dataclass(frozen=True, kw_only=True)
class LsFmd:
    """Local smoothing, then forging with minimum local distortion (LS+FMD), Do et al. 2010, inria-00505845.

    The surroundings of keypoints are blurred, as ls does, and extrema that are too weak then are made keypoints, as fmd
    does. The colours are recovered once, at the end, as Liu et al. 2019 do.

    sigma, radius, rounds: of ls.
    within, margin: of fmd, in levels.
    colour: how colours follow the luma, "minimum-norm" or "ratio"; see rmd.

    Inferred and recalled as in ls and fmd. The change has no radius.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[None] = None
    sigma: float = 1.3
    radius: int = 4
    rounds: int = 3
    within: float = 2.0
    margin: float = 0.2
    colour: Colour = "minimum-norm"

    def __post_init__(self) -> None:
        check_colour(self.colour)
        check_blur("ls-fmd", self.sigma, self.radius)
        check_forging("ls-fmd", self.within, self.margin)
        check_rounds("ls-fmd", self.rounds)

    def surrogates(self) -> tuple[str, ...]:
        """Return none."""
        return ()

    def __call__(self, pictures: Tensor, ids: Sequence[str], *, context: QueryContext) -> Tensor:
        """Return the changed pictures."""

        def change(gray: NDArray[Any]) -> NDArray[np.uint8]:
            smooth = blurred(gray, sigma=self.sigma, radius=self.radius, rounds=self.rounds)
            return forged(smooth, within=self.within, margin=self.margin)

        return through_gray(pictures, change, colour=self.colour)
