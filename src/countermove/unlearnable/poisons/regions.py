"""Region-wise noise: every class gets a coarse grid of shifted blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.balls import Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import per_sample
from countermove.unlearnable.poison import Context, by_class


@dataclass(frozen=True, kw_only=True)
class Regions:
    """Region-wise random noise, Sandoval-Segura et al. 2022, arXiv:2204.08615.

    A picture is divided into a square grid of regions; every class shifts each region and channel by plus or minus eps.

    eps:     L-infinity radius, reached everywhere (paper: 8/255).
    regions: number of regions; a square number (paper: 4, 16, 64) whose root is at most the picture's side. Sides that
             the root does not divide give regions that differ by one pixel.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "linf"
    streams: ClassVar[bool] = True

    eps: float = 8 / 255
    regions: int = 16

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        if self.regions < 1 or round(self.regions**0.5) ** 2 != self.regions:
            raise ConfigError(f"regions = {self.regions} is refused: it must be a square number such as 4, 16 or 64")

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones."""
        grid = round(self.regions**0.5)
        height, width = batch.pictures.shape[-2:]
        if grid > min(height, width):
            raise DataError(f"{self.regions} regions do not fit a picture of {height} x {width}")

        def draw(generator: Generator) -> Tensor:
            signs = torch.randint(0, 2, (3, grid, grid), generator=generator) * 2.0 - 1.0
            rows = torch.arange(height) * grid // height
            columns = torch.arange(width) * grid // width
            return self.eps * signs[:, rows][:, :, columns]

        noise = per_sample(context.seed, f"regions-{self.regions}", batch.classes, draw)
        return batch.with_pictures((batch.pictures + by_class(noise, batch.labels)).clamp(0, 1))
