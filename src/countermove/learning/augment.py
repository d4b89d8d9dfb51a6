"""Augmentations of a whole batch as tensor operations. Shapes: N pictures, C = 3 channels, H x W."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from countermove.pixels.mapped import is_large, portions


class BatchStep(Protocol):
    """Something done to a training batch after crop and flip.

    pictures: float [N, 3, H, W] in [0, 1]; targets: class probabilities [N, K]. Returns the same kinds.
    """

    def __call__(self, pictures: Tensor, targets: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return the changed batch."""
        ...


class ModelStep(Protocol):
    """Something done to a training batch after every batch step, for which the model is asked.

    pictures: float [N, 3, H, W] in [0, 1]; targets: labels [N] or class probabilities [N, K]; progress: the share of
    the training that is done, in [0, 1). Returns the same kinds; leaves the model as it was.
    """

    @property
    def passes(self) -> float:
        """Forward-backward passes that it spends on every picture."""
        ...

    def __call__(
        self, model: nn.Module, pictures: Tensor, targets: Tensor, *, generator: Generator, progress: float
    ) -> tuple[Tensor, Tensor]:
        """Return the changed batch."""
        ...


@dataclass(frozen=True)
class Window:
    """Where each picture of a batch is cropped and whether it is mirrored: index tensors, so gradients can pass.

    rows: int64 [N, H]; columns: int64 [N, W]; both index the padded picture.
    """

    rows: Tensor
    columns: Tensor

    @classmethod
    def draw(cls, n: int, height: int, width: int, *, crop: int, flip: bool, generator: Generator) -> Window:
        """Draw one window a picture: offsets in 0..2*crop, mirrored with probability one half."""
        down = torch.randint(0, 2 * crop + 1, (n, 1), generator=generator)
        right = torch.randint(0, 2 * crop + 1, (n, 1), generator=generator)
        mirrored = (torch.rand(n, 1, generator=generator) < 0.5) & flip
        columns = torch.arange(width)
        columns = torch.where(mirrored, width - 1 - columns, columns) + right
        return cls(torch.arange(height) + down, columns)

    def look(self, padded: Tensor, index: Tensor | None = None) -> Tensor:
        """Cut the windows out of padded pictures laid out [N, H, W, C]; `index` chooses rows first.

        Returns [N, C, H, W] in channels_last memory. Differentiable.
        """
        device = padded.device
        which = torch.arange(len(self.rows)) if index is None else index
        cut = padded[
            which[:, None, None].to(device), self.rows[:, :, None].to(device), self.columns[:, None].to(device)
        ]
        return cut.permute(0, 3, 1, 2)


def padded(pictures: Tensor, crop: int) -> Tensor:
    """Pad [N, C, H, W] with black, as the papers do, and lay it out [N, H, W, C] for `Window.look`. Keeps the dtype."""
    return F.pad(pictures, (crop,) * 4).permute(0, 2, 3, 1).contiguous()


class Bordered:
    """8-bit pictures [N, 3, H, W] that windows are cut out of, on a device.

    They are padded once, but on the CPU only where that fits in memory; else batch by batch, to the same windows.
    """

    def __init__(self, pictures: Tensor, crop: int, device: str) -> None:
        self.height, self.width = pictures.shape[2:]
        self._pictures, self._crop, self._device = pictures, crop, device
        shape = (len(pictures), self.height + 2 * crop, self.width + 2 * crop, pictures.shape[1])
        self._whole = None
        if device != "cpu":
            self._whole = torch.empty(shape, dtype=pictures.dtype, device=device)
            for part in portions(len(pictures), pictures.shape):
                self._whole[part] = padded(pictures[part], crop).to(device)
        elif not is_large(math.prod(shape)):
            self._whole = padded(pictures, crop)

    def look(self, window: Window, index: Tensor) -> Tensor:
        """Cut windows out of the pictures at `index`; see Window.look."""
        if self._whole is not None:
            return window.look(self._whole, index)
        return window.look(padded(self._pictures[index], self._crop))


@dataclass(frozen=True, kw_only=True)
class CutoutStep:
    """A square of side `length` is set to the middle gray, clipped at the border (DeVries and Taylor 2017)."""

    length: int

    def __call__(self, pictures: Tensor, targets: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return the batch with one hole a picture."""
        n, _, height, width = pictures.shape
        inside = _boxes(n, height, width, torch.full((n,), self.length), torch.full((n,), self.length), generator)
        return pictures.masked_fill(inside.to(pictures.device), 0.5), targets


@dataclass(frozen=True, kw_only=True)
class CutMixStep:
    """A box of each picture comes from another one; labels are mixed by area (Yun et al. 2019)."""

    alpha: float
    probability: float

    def __call__(self, pictures: Tensor, targets: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return the mixed batch."""
        n, _, height, width = pictures.shape
        share = _beta(self.alpha, n, generator)
        used = torch.rand(n, generator=generator) < self.probability
        side = (1 - share).sqrt() * used
        box = _boxes(n, height, width, (side * height).round().long(), (side * width).round().long(), generator)
        partner = torch.randperm(n, generator=generator).to(pictures.device)
        kept = 1 - box.float().mean(dim=(1, 2, 3)).to(pictures.device)[:, None]
        mixed = torch.where(box.to(pictures.device), pictures[partner], pictures)
        return mixed, kept * targets + (1 - kept) * targets[partner]


@dataclass(frozen=True, kw_only=True)
class MixUpStep:
    """Pictures and labels are averaged with another picture's (Zhang et al. 2018)."""

    alpha: float
    probability: float

    def __call__(self, pictures: Tensor, targets: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return the mixed batch."""
        n = len(pictures)
        share = _beta(self.alpha, n, generator)
        used = torch.rand(n, generator=generator) < self.probability
        share = torch.where(used, share, 1.0).to(pictures.device)
        partner = torch.randperm(n, generator=generator).to(pictures.device)
        weight = share[:, None, None, None]
        mixed = weight * pictures + (1 - weight) * pictures[partner]
        return mixed, share[:, None] * targets + (1 - share[:, None]) * targets[partner]


def _boxes(n: int, height: int, width: int, tall: Tensor, wide: Tensor, generator: Generator) -> Tensor:
    """Return masks [N, 1, H, W] of boxes around uniformly drawn centres, clipped at the border."""
    top = (torch.randint(0, height, (n,), generator=generator) - tall // 2)[:, None]
    left = (torch.randint(0, width, (n,), generator=generator) - wide // 2)[:, None]
    rows, columns = torch.arange(height), torch.arange(width)
    in_rows = (rows >= top) & (rows < top + tall[:, None])
    in_columns = (columns >= left) & (columns < left + wide[:, None])
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]


def _beta(alpha: float, n: int, generator: Generator) -> Tensor:
    """Draw n numbers from Beta(alpha, alpha); numpy's draw is seeded by the explicit generator."""
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, size=n)).float()
