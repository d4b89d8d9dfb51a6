"""Towards the descriptor of another picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from countermove.errors import DataError
from countermove.pixels.randomness import generator
from countermove.retrieval.backbone import describe
from countermove.retrieval.crafting import Aim, Descent, descend, random_signs
from countermove.retrieval.query import TARGET, Limit, QueryContext, read_surrogates


@dataclass(frozen=True, kw_only=True)
class Targeted:
    """A query that shows one thing and searches for another, after Tolias et al. 2019, arXiv:1908.09163.

    The descriptor goes to that of a public picture, drawn for every query by its id.

    backbones: whose descriptors are moved, all at once.
    eps:       radius (L-infinity), in [0, 1] pixel units.
    floor:     SSIM that every picture keeps; see pire-final.
    step:      length of a step, in pixel units.
    steps:     how many, at most.
    momentum:  share of the former direction that is kept.
    scales:    sizes at which the picture is shown, one step after the other; 1 is its own.
    jitter:    every size but 1 is varied at random by up to this share.
    enough:    likeness to the other picture at which it is done: 1 is that picture's own, 0 the average public one's.

    Differs from the paper: there, 100 or more rounds of Adam (lr .01) trade the cosine to the target against the
    squared change, and sizes around 1024 pixels are blurred against aliasing; here the change has a radius and an SSIM,
    steps are those of pire-final, and resizing has antialiasing.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Limit] = "linf"
    backbones: tuple[str, ...] = (TARGET,)
    eps: float = 20 / 255
    floor: float = 0.8
    step: float = 2 / 255
    steps: int = 40
    momentum: float = 0.8
    scales: tuple[float, ...] = (1.0, 0.7)
    jitter: float = 0.1
    enough: float = 0.95

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbones", read_surrogates(self.backbones, "targeted"))
        self._descent.check("targeted")

    @property
    def _descent(self) -> Descent:
        return Descent.of(self)

    def surrogates(self) -> tuple[str, ...]:
        """Return the backbones it is made on."""
        return self.backbones

    def goals(self, ids: Sequence[str], context: QueryContext) -> list[int]:
        """Return which public picture every query goes to.

        Raises:
            DataError: when there is no public picture.
        """
        count = len(context.public)
        if not count:
            raise DataError("there is no public picture that a targeted query could go to; take a set that has some")
        return [int(torch.randint(count, (), generator=generator(context.seed, "goal", name))) for name in ids]

    def __call__(self, pictures: Tensor, ids: Sequence[str], *, context: QueryContext) -> Tensor:
        """Return the changed pictures."""
        network, clean = context.together(), pictures.to(context.device)
        others = [context.public[row] for row in self.goals(ids, context)]
        aim = Aim(describe(network, others, device=context.device).to(clean), context.centre())
        start = random_signs(clean, ids, context.seed, "targeted")
        moved = descend(self._descent, clean, start, aim, toward=True, network=network, context=context)
        return moved.to(pictures)
