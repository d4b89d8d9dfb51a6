"""Moving features away, as far as a radius lets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from countermove.errors import ConfigError
from countermove.faces.cloak import PHOTOS_AT_ONCE, CloakContext, Ensemble, Sees, read_surrogates
from countermove.faces.extractor import TARGET, embed, squared_distance
from countermove.pixels.balls import Ball, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import per_sample
from countermove.pixels.rounding import to_uint8
from countermove.pixels.steps import sign_gradient


@dataclass(frozen=True, kw_only=True)
class Pgd:
    """Features as far from the photo's own as possible, Madry et al. 2018, arXiv:1706.06083.

    Projected sign steps from a random start on the squared Euclidean distance between the features of the cloaked and
    of the clean photo. By default it knows the trainer's own extractor: the strongest mover, which no tool that is
    handed out can be.

    extractors: what it is made on, jointly: target (the trainer's), an era's name or small(...); see `ls models`.
    eps:        radius (L-infinity), in [0, 1] pixel units.
    step, steps: of the ascent.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[str] = "linf"
    sees: ClassVar[Sees] = "photo"
    extractors: tuple[str, ...] = (TARGET,)
    eps: float = 16 / 255
    step: float = 2 / 255
    steps: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "extractors", read_surrogates(self.extractors, "pgd"))
        check_radius(self.eps, norm="linf")
        if self.steps < 1 or self.step <= 0:
            raise ConfigError(f"move 'pgd': steps = {self.steps}, step = {self.step} is refused: both are above 0")

    def surrogates(self) -> tuple[str, ...]:
        """Return the extractors it is made on."""
        return self.extractors

    def __call__(self, batch: Batch, *, context: CloakContext) -> Batch:
        """Return the cloaked photos."""
        model = Ensemble(context.placed())
        ball = Ball(norm="linf", radius=self.eps)
        shape = (1, *batch.pictures.shape[1:])
        start = per_sample(context.seed, "pgd", batch.ids, lambda source: ball.draw(torch.empty(shape), source)[0])
        changes = sign_gradient(
            model,
            batch.pictures,
            embed(model, to_uint8(batch.pictures), device=context.device),
            ball=ball,
            step=self.step,
            steps=self.steps,
            minimize=False,
            start=start,
            loss=squared_distance,
            chunk=PHOTOS_AT_ONCE,
        )
        context.meter.samples += self.steps * len(batch) * len(context.embedders)
        return batch.with_pictures((batch.pictures + changes).clamp(0, 1))
