"""CUDA: every class is filtered by its own small blur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from countermove.errors import ConfigError
from countermove.pixels.balls import Norm
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import per_sample
from countermove.unlearnable.poison import Context


@dataclass(frozen=True, kw_only=True)
class Cuda:
    """Convolution-based unlearnable data (CUDA), Sadasivan et al. 2023, arXiv:2303.04278.

    Every class has a random filter of 3 x 3; its pictures are filtered by it, black beyond the border, and divided by
    their largest value.

    blur: upper end of the filter's entries, which are uniform from 0 (paper: 0.3). 0 only shifts and stretches.

    No radius describes the change. Its budget is the filter: one of the nine entries, drawn at random, is 1, the other
    eight lie in [0, blur], and all channels share it. So a picture is shifted by one pixel at most, blurred over at
    most two pixels each way, and made lighter or darker as a whole; nothing that differs from picture to picture is
    added.

    Differs from the released code: the filter follows the seed and the class's name, not the order of drawing; black
    pictures stay black, where the code divides by 0; rounded, not truncated.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = None
    streams: ClassVar[bool] = True

    blur: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.blur <= 1:
            raise ConfigError(f"blur = {self.blur:g} is refused: it is a number from 0 to 1, such as 0.3")

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W], each filtered by its class's filter."""
        filters = self.filters(batch.classes, context.seed)
        moved = torch.empty_like(batch.pictures)
        for label in batch.labels.unique().tolist():
            rows = (batch.labels == label).nonzero().flatten()
            moved[rows] = filtered(batch.pictures[rows], filters[label])
        largest = moved.flatten(1).amax(1).clamp_min(1e-12)
        return batch.with_pictures((moved / largest[:, None, None, None]).clamp(0, 1))

    def filters(self, classes: tuple[str, ...], seed: int) -> Tensor:
        """Return the filters of all classes, [K, 3, 3]."""

        def draw(source: Generator) -> Tensor:
            entries = torch.rand(9, generator=source) * self.blur
            entries[torch.randint(9, (1,), generator=source)] = 1.0
            return entries.view(3, 3)

        return per_sample(seed, "cuda", classes, draw)


def filtered(pictures: Tensor, entries: Tensor) -> Tensor:
    """Correlate pictures [N, 3, H, W] with one filter [3, 3] for all channels, black beyond the border.

    Nine scaled sums instead of a convolution: the same numbers whatever the number of pictures.
    """
    height, width = pictures.shape[-2:]
    padded = torch.nn.functional.pad(pictures, (1, 1, 1, 1))
    result = torch.zeros_like(pictures)
    for i, row in enumerate(entries.tolist()):
        for j, entry in enumerate(row):
            result.add_(padded[..., i : i + height, j : j + width], alpha=entry)
    return result
