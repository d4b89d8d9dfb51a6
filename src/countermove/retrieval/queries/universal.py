"""One change for all queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.balls import check_radius
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float
from countermove.pixels.steps import frozen
from countermove.retrieval.crafting import Aim, clip, raised
from countermove.retrieval.query import TARGET, Limit, QueryContext, Together, read_surrogates


@dataclass(frozen=True, kw_only=True)
class Universal:
    """One change for every query, made on public pictures, after Li et al. 2019, arXiv:1812.00552.

    It is a tile that is repeated over the picture, so it fits every size; a picture is changed without any gradient
    of its own.

    backbones: whose descriptors are moved away, all at once.
    eps:       radius (L-infinity), in [0, 1] pixel units.
    floor:     SSIM that every picture keeps: its change is scaled down where it would go below. 0: no limit.
    tile:      side in pixels; public pictures are resized to it.
    step:      length of a sign step, in pixel units.
    steps:     how many, each on `batch` public pictures.
    momentum:  share of the former direction that is kept.
    batch:     public pictures a step.
    jitter:    every step shows the pictures at a size that is varied at random by up to this share.

    Differs from the paper: the distance to the clean picture's own descriptor, seen from the mean descriptor, is what
    is raised (there, relations between neighbours are corrupted); the tile.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Limit] = "linf"
    backbones: tuple[str, ...] = (TARGET,)
    eps: float = 20 / 255
    floor: float = 0.8
    tile: int = 64
    step: float = 2 / 255
    steps: int = 100
    momentum: float = 0.9
    batch: int = 16
    jitter: float = 0.3

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbones", read_surrogates(self.backbones, "universal"))
        check_radius(self.eps, norm="linf")
        if min(self.steps, self.batch) < 1 or self.tile < 8:
            raise ConfigError("move 'universal': steps and batch are at least 1, tile at least 8 pixels")
        if not 0 < self.step <= 1 or not 0 <= self.momentum < 100:
            raise ConfigError("move 'universal': step is above 0, such as 2/255, and momentum not below 0")
        if not 0 <= self.jitter < 1 or not 0 <= self.floor < 1:
            raise ConfigError("move 'universal': jitter and floor are in [0, 1)")

    def surrogates(self) -> tuple[str, ...]:
        """Return the backbones it is made on."""
        return self.backbones

    def __call__(self, pictures: Tensor, ids: Sequence[str], *, context: QueryContext) -> Tensor:
        """Return the changed pictures.

        Raises:
            DataError: when there is no public picture to make the change on.
        """
        if self not in context.made:
            context.made[self] = self._made(context).cpu()
        clean = pictures.to(context.device)
        height, width = clean.shape[2:]
        tile = context.made[self].to(clean)
        whole = tile.repeat(1, 1, -(-height // self.tile), -(-width // self.tile))[:, :, :height, :width]
        return raised(self.floor, clean + clip(whole.expand_as(clean), clean), clean).to(pictures)

    def _made(self, context: QueryContext) -> Tensor:
        """Return the tile, [1, 3, S, S] inside the radius."""
        if not len(context.public):
            raise DataError("there is no public picture to make a universal change on; take a set that has some")
        network, source = context.together(), generator(context.seed, "universal")
        tile = self.eps * (2.0 * torch.randint(0, 2, (1, 3, self.tile, self.tile), generator=source) - 1)
        tile = tile.to(context.device)
        direction, centre = torch.zeros_like(tile), context.centre()
        with frozen(network):
            for _ in range(self.steps):
                clean = self._some(context, source)
                side = max(8, round(self.tile * (1 + self.jitter * float(2 * torch.rand((), generator=source) - 1))))
                gradient = _gradient(network, clean, tile, centre, side)
                strength = gradient.abs().mean()
                direction = self.momentum * direction + (gradient / strength if strength > 0 else gradient)
                tile = (tile - self.step * direction.sign()).clamp(-self.eps, self.eps)
                context.meter.samples += len(clean) * len(network.parts) * (side / self.tile) ** 2
        return tile

    def _some(self, context: QueryContext, source: torch.Generator) -> Tensor:
        rows = torch.randint(len(context.public), (self.batch,), generator=source).tolist()
        side = (self.tile, self.tile)
        shown = [
            F.interpolate(to_float(context.public[row])[None], side, mode="bilinear", antialias=True) for row in rows
        ]
        return torch.cat(shown).to(context.device)


def _gradient(network: Together, clean: Tensor, tile: Tensor, centre: Tensor, side: int) -> Tensor:
    """Return the gradient of the mean likeness of changed pictures to the clean ones."""
    with torch.no_grad():
        aim = Aim(network(clean), centre)
    with torch.enable_grad():
        leaf = tile.clone().requires_grad_()
        moved = (clean + leaf).clamp(0, 1)
        if side != clean.shape[2]:
            moved = F.interpolate(moved, (side, side), mode="bilinear", antialias=True)
        likeness = aim.likeness(network(moved), torch.arange(len(clean), device=clean.device))
        return torch.autograd.grad(likeness.mean(), leaf)[0]
