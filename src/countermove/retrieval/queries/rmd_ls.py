"""Weak keypoints are made too weak, the others are blurred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from countermove.retrieval.queries.ls import blurred, check_blur
from countermove.retrieval.queries.rmd import check_patches, check_rounds, weakened
from countermove.retrieval.query import QueryContext
from countermove.retrieval.recolouring import Colour, check_colour, through_gray


@dataclass(frozen=True, kw_only=True)
class RmdLs:
    """Removal with minimum local distortion, then local smoothing (RMD+LS), Do et al. 2010, inria-00505845.

    Keypoints near the contrast threshold are weakened first, as rmd does; what is still found is blurred, as ls does.
    The colours are recovered once, at the end, as Liu et al. 2019 do; rmd and ls as two moves would do it twice.

    within, margin: of rmd, in levels.
    sigma, radius, rounds: of ls.
    colour: how colours follow the luma, "minimum-norm" or "ratio"; see rmd.

    Inferred and recalled as in rmd and ls. The change has no radius.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[None] = None
    within: float = 3.0
    margin: float = 0.2
    sigma: float = 1.3
    radius: int = 4
    rounds: int = 3
    colour: Colour = "minimum-norm"

    def __post_init__(self) -> None:
        check_colour(self.colour)
        check_patches("rmd-ls", self.within, self.margin)
        check_blur("rmd-ls", self.sigma, self.radius)
        check_rounds("rmd-ls", self.rounds)

    def surrogates(self) -> tuple[str, ...]:
        """Return none."""
        return ()

    def __call__(self, pictures: Tensor, ids: Sequence[str], *, context: QueryContext) -> Tensor:
        """Return the changed pictures."""

        def change(gray: NDArray[Any]) -> NDArray[np.uint8]:
            fewer = weakened(gray, within=self.within, margin=self.margin)
            return blurred(fewer, sigma=self.sigma, radius=self.radius, rounds=self.rounds)

        return through_gray(pictures, change, colour=self.colour)
