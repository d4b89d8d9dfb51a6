"""Linearly separable noise: every class a colour patchwork that a linear model can tell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Generator, Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.balls import Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator, per_sample
from countermove.unlearnable.poison import Context


@dataclass(frozen=True, kw_only=True)
class LinearSeparable:
    """Linearly separable synthetic noise (LSP), Yu et al. 2022, arXiv:2111.00898.

    Every class is a cluster around a corner of a hypercube whose coordinates are the colours of a patchwork; every
    picture draws a point of its class's cluster. The patchwork is scaled to the radius.

    eps:        L2 radius in [0, 1] pixel units (released code: 1.304 for 32 x 32, that is 6/255 a value; thesis: 1.0,
                and 2.0 in its larger-norm tables). For other sides scale it with the side.
    patch_size: side of a patch in pixels (paper: 8); must divide the picture's side.
    separation: half the side of the hypercube, in standard deviations of a cluster (released code: class_sep 10).
    gray:       every patch is gray, its three channels equal, so that squeezing to gray keeps it. With patch_size=16
                this is LSP-G&J of the adaptive poisons in Image Shortcut Squeezing (Liu et al. 2023, arXiv:2301.13838).

    Differs from the released code: clusters are round, of unit spread. The code's scikit-learn call mixes the
    coordinates of a cluster by a random matrix, which makes its spread grow with their number (4 at 48 colours); on
    4,000 pictures that left a learner 0.02 to 0.03 more accuracy. Sample i's noise follows its id, so it does not
    depend on the order of the data; the learner's data are shuffled; patches that do not divide the side are refused,
    not a crash; the noise is rounded within the radius, not truncated.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "l2"
    streams: ClassVar[bool] = True

    eps: float = 1.304
    patch_size: int = 8
    separation: float = 10.0
    gray: bool = False

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="l2")
        if self.patch_size < 1 or self.separation <= 0:
            raise ConfigError("linear-separable: patch_size is at least 1 pixel and separation above 0")

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within L2 distance eps of the given ones."""
        height, width = batch.pictures.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise DataError(
                f"patches of {self.patch_size} pixels do not divide a picture of {height} x {width}; "
                "choose a patch_size that does"
            )
        down, across = height // self.patch_size, width // self.patch_size
        channels = 1 if self.gray else 3
        colours = channels * down * across
        centres = self.separation * corners(len(batch.classes), colours, context.seed)

        def draw(source: Generator) -> Tensor:
            return torch.randn(colours, generator=source)

        points = centres[batch.labels] + per_sample(context.seed, "linear-separable", batch.ids, draw)
        patches = points.view(-1, channels, down, across).expand(-1, 3, -1, -1)
        noise = patches.repeat_interleave(self.patch_size, 2).repeat_interleave(self.patch_size, 3)
        noise = noise * (self.eps / noise.flatten(1).norm(dim=1).clamp_min(1e-12))[:, None, None, None]
        return batch.with_pictures((batch.pictures + noise).clamp(0, 1))


@lru_cache(maxsize=4)
def corners(classes: int, colours: int, seed: int) -> Tensor:
    """Draw a corner of the hypercube for each class, no two alike. Signs [K, F].

    Raises:
        DataError: when the hypercube has fewer corners than there are classes.
    """
    if colours < 31 and 2**colours < classes:
        raise DataError(f"{colours} patch colours cannot tell {classes} classes apart; choose a smaller patch_size")
    source = generator(seed, "linear-separable-corners")
    found: dict[tuple[float, ...], None] = {}
    while len(found) < classes:
        drawn = torch.randint(0, 2, (colours,), generator=source) * 2.0 - 1.0
        found[tuple(drawn.tolist())] = None
    return torch.tensor(list(found))
