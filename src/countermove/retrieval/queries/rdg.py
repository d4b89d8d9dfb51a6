"""Keypoints are lifted out of their pit with the least change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from countermove.errors import ConfigError
from countermove.retrieval.directed import block_of, blocks, constraints, operators, pointers, samples
from countermove.retrieval.keypoints import Floats, Gray, Ints, Keypoints, detect, differences, found_in, surviving
from countermove.retrieval.quadratic import nearest_inside
from countermove.retrieval.queries.rmd import check_rounds
from countermove.retrieval.query import QueryContext
from countermove.retrieval.recolouring import Colour, check_colour, through_gray

_MARGIN, _MARGIN_FALLS = 0.001, 0.95
_MATCHED = 4.0
_APART = 11
_LOOSER_FROM, _LOOSER_BY = 5, 3.0
_TOGETHER = 256


@dataclass(frozen=True, kw_only=True)
class Rdg:
    """Removal via directed graph construction (RDG), Li et al. 2017, IEEE TIFS 12(12).

    A keypoint is an extremum of the difference of Gaussians (DoG) among its 26 neighbours. A directed graph of the
    samples around it shows the way out of its pit with the least climb; 7 x 7 pixels are then changed as little as
    possible, in the least-squares sense, so that every sample on that way is beyond the next one and no other of the
    75 samples around becomes an extremum: a quadratic program with 49 variables and 150 constraints. Round by
    round, keypoints are looked for again, and those near an original one are gone after.

    octaves: in which keypoints are gone after; 0 is the doubled picture, 1 the picture itself (released code: that one
             alone, or four from the doubled one on). Engines look in all of them.
    rounds:  at most so many (released code: 40).
    limit:   no pixel of a patch is changed by so much, in levels; what would need more is left (released code: 15,
             from the sixth round on 3 more in every round).
    colour:  how colours follow the luma: "minimum-norm", which the released code does too, or "ratio"; see rmd.

    All keypoints of a round that are far enough apart are solved at once. The change has no radius.

    Differs from the released code: OpenCV's scale space for VLFeat's; keypoints are matched by place and scale and not
    by descriptors; a pit ends where one gets down to somewhere else, and not at any lower neighbour; in octaves
    from half the picture's size on, blocks of pixels are changed and not single ones.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[None] = None
    octaves: tuple[int, ...] = (1,)
    rounds: int = 40
    limit: float = 15.0
    colour: Colour = "minimum-norm"

    def __post_init__(self) -> None:
        check_colour(self.colour)
        check_rounds("rdg", self.rounds)
        if self.limit <= 0:
            raise ConfigError(f"move 'rdg': limit = {self.limit:g} is refused; levels above 0, such as 15")
        if not self.octaves or min(self.octaves) < 0 or max(self.octaves) > 5:
            raise ConfigError(f"move 'rdg': octaves = {list(self.octaves)} is refused; some of 0 to 5, such as [0, 1]")

    def surrogates(self) -> tuple[str, ...]:
        """Return none."""
        return ()

    def __call__(self, pictures: Tensor, ids: Sequence[str], *, context: QueryContext) -> Tensor:
        """Return the changed pictures."""
        change = partial(lifted, octaves=tuple(sorted(set(self.octaves))), rounds=self.rounds, limit=self.limit)
        return through_gray(pictures, change, colour=self.colour)


def lifted(gray: NDArray[Any], *, octaves: tuple[int, ...], rounds: int, limit: float) -> Floats:
    """Return a gray picture [H, W] without most keypoints of some octaves, rounded away from what it was."""
    original = detect(gray, octaves=octaves)
    now = gray.astype(np.float64)
    for i in range(rounds):
        pyramid = differences(now, octaves)
        found = found_in(pyramid)
        found = found.where(surviving(found, original, reach=_MATCHED))
        if not len(found):
            break
        chosen = found.where(apart(found))
        allowed = limit + _LOOSER_BY * max(0, i + 1 - _LOOSER_FROM)
        for octave in pyramid:
            here = chosen.where(chosen.octave == octave)
            for rows in np.array_split(np.arange(len(here)), -(-len(here) // _TOGETHER) or 1):
                change = _MARGIN * _MARGIN_FALLS**i
                lift(now, gray, pyramid[octave], here.where(rows), octave, margin=change, limit=allowed)
    change = np.clip(now, 0, 255) - gray
    # a hundredth of a level is the solver's and not a change that was wanted
    return gray + np.sign(change) * np.ceil(np.abs(change) - 0.01)


def lift(
    now: Floats, gray: NDArray[Any], dog: Gray, points: Keypoints, octave: int, *, margin: float, limit: float
) -> Ints:
    """Change a picture in place so that some keypoints of one octave, away from each other, are none.

    Args:
        now: the picture as it has become, float64 [H, W].
        gray: as it was; what is small is the distance to it.
        dog: of the picture as it is, in that octave.
        points: keypoints of that octave.
        octave: which.
        margin: between samples that shall differ, in levels.
        limit: of the change of a block.

    Returns:
        Which of them were lifted.
    """
    if not len(points):
        return np.zeros(0, np.int64)
    height, width = now.shape
    side = block_of(octave)
    sign = -np.sign(points.value)
    lower, higher, escapes = pointers(samples(dog, points) * sign[:, None], points.layer)
    rows, columns = ((first[:, :, None] + np.arange(side)) for first in blocks(points, octave))
    place = rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
    there = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    inside = there[0][:, :, None, :, None] & there[1][:, None, :, None, :]
    whole = inside.all((3, 4)).reshape(len(points), -1)
    safe = np.where(inside, place, 0)
    gone = torch.from_numpy((now - gray).ravel()[safe].mean((3, 4)).reshape(len(points), -1) * whole)
    operator = operators(points, octave) * torch.from_numpy(whole)[:, None, :]
    # the program is about the whole change since the beginning, of which some is there already
    values = samples(dog, points) - torch.einsum("ksd,kd->ks", operator, gone).numpy()
    normals, bounds = constraints(values * sign[:, None], lower, higher, sign, operator, margin=margin)
    change, solved = nearest_inside(normals, bounds)
    taken = solved & torch.from_numpy(escapes) & (change.abs().amax(1) < limit)
    done = ((change - gone) * taken[:, None]).numpy().reshape(len(points), rows.shape[1], columns.shape[1], 1, 1)
    np.add.at(now.ravel(), safe[inside], np.broadcast_to(done, place.shape)[inside])
    return taken.nonzero().flatten().numpy()


def apart(points: Keypoints) -> Ints:
    """Return rows of keypoints whose surroundings are apart, strong ones first."""
    reach = _APART * 2.0 ** np.maximum(points.octave - 1, 0) / 2
    free = np.ones(len(points), bool)
    taken = []
    for row in np.argsort(-np.abs(points.value), kind="stable"):
        if free[row]:
            taken.append(row)
            away = np.maximum(np.abs(points.x - points.x[row]), np.abs(points.y - points.y[row]))
            free &= away >= reach + reach[row]
    return np.array(taken, np.int64)
