"""Adversarial noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from countermove.profiles.crafting import Limit, check_attention, check_limit
from countermove.profiles.dataset import Profiles
from countermove.profiles.making import grouped, made, noise
from countermove.profiles.pivot import (
    TARGET,
    Additions,
    Box,
    Knowledge,
    PivotContext,
    Place,
    check_extension,
    read_knowledge,
)


@dataclass(frozen=True, kw_only=True)
class AdvN:
    """Adversarial noise added to a profile (AdvN), Liu, thesis, chapter 4.

    Items that begin as noise and take projected sign steps up the loss of the whole extended profile; the profile's
    own items stay as they are. In the near-black box they become as unlike the profile as they can, in cosine
    similarity of an extractor's features.

    box:         white (the profiler), gray (one like it, trained on half of its profiles), near-black (an extractor).
    model:       white and gray: the profiler it is made on, spelled; target: the one it meets.
    features:    near-black: the extractor it is made on.
    additions:   per item of the profile; 1 doubles it.
    place:       end (the newest items), alternate (between the others, evenly), start (the oldest).
    shared:      whether all with the same value of the attribute add the same items.
    eps, step:   of pictures: radius (L-infinity) around the noise and step, in [0, 1] pixel units.
    snr:         of speech: the change is so many decibels quieter than the noise; its steps are step / eps of that.
    steps:       of the ascent.
    attention:   a budget of a profiler's attention to additions, where it weighs items: what is above counts ten times
                 against the loss, which is mostly enough; how much it is in the end is reported. none: no budget.

    The thesis states no radius; eps and step are those of the released near-black code. Differs from it: noise is
    uniform (it starts at zero), pixels stay valid, the extractor is in evaluation mode, and similarity is averaged over
    all pairs (it takes the distance of item i and addition i).
    """

    version: ClassVar[int] = 1
    changes: ClassVar[bool] = True
    box: Box = "white"
    model: str = TARGET
    features: str = "small(build=1, network=small-cnn)"
    additions: float = 1.0
    place: Place = "end"
    shared: bool = False
    eps: float = 16 / 255
    step: float = 2 / 255
    snr: float = 20.0
    steps: int = 100
    attention: float | None = None

    def __post_init__(self) -> None:
        read_knowledge("adv-n", self.box, self.model, self.features)
        check_extension("adv-n", self.additions, self.place)
        check_limit("adv-n", eps=self.eps, snr=self.snr, step=self.step, steps=self.steps)
        check_attention("adv-n", self.attention, self.box)

    def knows(self) -> Knowledge | None:
        """Return what it is made on."""
        return read_knowledge("adv-n", self.box, self.model, self.features)

    def __call__(self, data: Profiles, movers: Tensor, *, context: PivotContext) -> Additions:
        """Return the additions."""
        groups = grouped(data, movers, additions=self.additions, shared=self.shared)
        start = noise(data, groups, context.seed)
        return made(
            data,
            movers,
            groups,
            start,
            torch.full(start.shape[:2], -1),
            limit=Limit(medium=data.medium, eps=self.eps, snr=self.snr, step=self.step, steps=self.steps),
            place=self.place,
            attention=self.attention,
            context=context,
        )
