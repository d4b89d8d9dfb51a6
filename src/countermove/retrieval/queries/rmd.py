"""Keypoints that are hardly strong enough are made too weak."""

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
from countermove.retrieval.query import QueryContext
from countermove.retrieval.recolouring import Colour, check_colour, through_gray


@dataclass(frozen=True, kw_only=True)
class Rmd:
    """Removal with minimum local distortion (RMD), Do et al. 2010, inria-00505845.

    SIFT drops an extremum whose difference of Gaussians D is below the contrast threshold. Around each keypoint that
    is just above, the patch of least norm is added that brings |D| as far below: the DoG's own kernel, scaled. A patch
    makes new extrema beside itself, and patches overlap, so not all that was aimed at goes and new keypoints come.

    within: how far above the threshold a keypoint's |D| may be, in levels of 255 (OpenCV's threshold: 3.4). With more,
            patches are seen.
    margin: how far below the threshold it is brought, in levels.
    rounds: how often this is done, with the keypoints then found.
    colour: how colours follow the luma: "minimum-norm" (the nearest with exactly that luma) or "ratio" (as Liu et al.
            2019 recovered them).

    Inferred, as the paper's own settings are not at hand: that patches go where |D| is near the threshold, and all
    three numbers. The change has no radius.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[None] = None
    within: float = 3.0
    margin: float = 0.2
    rounds: int = 1
    colour: Colour = "minimum-norm"

    def __post_init__(self) -> None:
        check_colour(self.colour)
        check_patches("rmd", self.within, self.margin)
        check_rounds("rmd", self.rounds)

    def surrogates(self) -> tuple[str, ...]:
        """Return none."""
        return ()

    def __call__(self, pictures: Tensor, ids: Sequence[str], *, context: QueryContext) -> Tensor:
        """Return the changed pictures."""
        change = partial(weakened, within=self.within, margin=self.margin, rounds=self.rounds)
        return through_gray(pictures, change, colour=self.colour)


def weakened(gray: NDArray[Any], *, within: float, margin: float, rounds: int = 1) -> NDArray[np.uint8]:
    """Return a gray picture [H, W] without most of the keypoints that are at most so much above the threshold."""
    for _ in range(rounds):
        found = detect(gray)
        found = found.where(np.abs(found.value) <= CONTRAST + within)
        if not len(found):
            break
        change = np.sign(found.value) * (CONTRAST - margin) - found.value
        gray = np.clip(np.rint(gray + added_patches(gray.shape, found, change)), 0, 255)
    return gray.astype(np.uint8)


def check_patches(name: str, within: float, margin: float) -> None:
    """Refuse patches of no size, and margins that are none.

    Raises:
        ConfigError: within that is not above 0, or margin that is not from 0 to the threshold.
    """
    if within <= 0 or not 0 <= margin < CONTRAST:
        raise ConfigError(
            f"move {name!r}: within = {within:g}, margin = {margin:g} is refused: levels above 0, and from 0 to 3.4"
        )


def check_rounds(name: str, rounds: int) -> None:
    """Refuse fewer rounds than one; raises ConfigError."""
    if rounds < 1:
        raise ConfigError(f"move {name!r}: rounds = {rounds} is refused; at least one")
