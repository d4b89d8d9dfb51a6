"""Random noise: the baseline that needs no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from countermove.pixels.balls import Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import per_sample
from countermove.unlearnable.poison import Context, by_class


@dataclass(frozen=True, kw_only=True)
class RandomNoise:
    """Uniform random noise (a baseline), Huang et al. 2021, arXiv:2101.04898.

    eps:  L-infinity radius; every value is uniform in [-eps, eps] (paper: 8/255).
    form: "sample": one noise a picture, which a learner averages away. "class": one noise a class, which a learner
          mistakes for the class until it has seen enough of the pictures.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "linf"
    streams: ClassVar[bool] = True

    eps: float = 8 / 255
    form: Literal["sample", "class"] = "sample"

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones."""
        shape = batch.pictures.shape[1:]

        def draw(generator: Generator) -> Tensor:
            return (torch.rand(shape, generator=generator) * 2 - 1) * self.eps

        if self.form == "sample":
            noise = per_sample(context.seed, "random", batch.ids, draw)
        else:
            noise = by_class(per_sample(context.seed, "random-class", batch.classes, draw), batch.labels)
        return batch.with_pictures((batch.pictures + noise).clamp(0, 1))
