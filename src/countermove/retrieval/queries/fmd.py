"""Extrema that are hardly too weak are made keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from countermove.errors import ConfigError
from countermove.retrieval.keypoints import CONTRAST, added_patches, detect
from countermove.retrieval.queries.rmd import check_patches, check_rounds
from countermove.retrieval.query import QueryContext
from countermove.retrieval.recolouring import Colour, check_colour, through_gray

WEAKEST = CONTRAST - 0.1


@dataclass(frozen=True, kw_only=True)
class Fmd:
    """Forging new keypoints with minimum local distortion (FMD), Do et al. 2010, inria-00505845.

    The counterpart of rmd: around each extremum of the difference of Gaussians that is just too weak for a keypoint,
    and no edge, the patch of least norm is added that makes it strong enough.

    within: how far below the contrast threshold an extremum's |D| may be, in levels of 255; at most 3.3 of
            OpenCV's 3.4.
    margin: how far above the threshold it is brought, in levels.
    rounds: how often this is done, with the extrema then found.
    colour: how colours follow the luma, "minimum-norm" or "ratio"; see rmd.

    Inferred, as the paper's own settings are not at hand: all three numbers. The change has no radius.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[None] = None
    within: float = 2.0
    margin: float = 0.2
    rounds: int = 1
    colour: Colour = "minimum-norm"

    def __post_init__(self) -> None:
        check_colour(self.colour)
        check_forging("fmd", self.within, self.margin)
        check_rounds("fmd", self.rounds)

    def surrogates(self) -> tuple[str, ...]:
        """Return none."""
        return ()

    def __call__(self, pictures: Tensor, ids: Sequence[str], *, context: QueryContext) -> Tensor:
        """Return the changed pictures."""
        change = partial(forged, within=self.within, margin=self.margin, rounds=self.rounds)
        return through_gray(pictures, change, colour=self.colour)


def forged(gray: NDArray[Any], *, within: float, margin: float, rounds: int = 1) -> NDArray[np.uint8]:
    """Return a gray picture [H, W] in which extrema at most so much below the threshold are keypoints."""
    for _ in range(rounds):
        found = detect(gray, contrast=CONTRAST - within)
        found = found.where(np.abs(found.value) < CONTRAST)
        if not len(found):
            break
        change = np.sign(found.value) * (CONTRAST + margin) - found.value
        gray = np.clip(np.rint(gray + added_patches(gray.shape, found, change)), 0, 255)
    return gray.astype(np.uint8)


def check_forging(name: str, within: float, margin: float) -> None:
    """Refuse what rmd refuses, and extrema of any weakness; raises ConfigError."""
    check_patches(name, within, margin)
    if within > WEAKEST:
        raise ConfigError(f"move {name!r}: within = {within:g} is refused: at most 3.3, below which every noise is one")
