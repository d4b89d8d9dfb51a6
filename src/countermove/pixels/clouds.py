"""Fractal clouds: random fields that are smooth where they are rough only a little, by the diamond-square algorithm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def clouds(like: Tensor, roughness: Tensor, generator: Generator) -> Tensor:
    """Return clouds in [0, 1], one a channel, shaped like pictures [N, C, H, W] and on their device.

    A coarse grid is made finer again and again: every new point is the mean of its neighbours, mixed with a random
    number; the finer the grid, the less of it.

    Args:
        like: gives shape, dtype and device.
        roughness: [N] in [0, 1]; a point of the k-th refinement (0-based, k > 0) is to roughness ** k random. The first
            refinement is the mean of the four random corners alone.
        generator: on the CPU, so that every device gets the same numbers.
    """
    n, channels, height, width = like.shape
    rough = roughness.to(like)[:, None, None, None]
    field = torch.rand(n, channels, 2, 2, generator=generator).to(like)
    level = 0
    while field.shape[-1] < max(height, width):
        side = 2 * field.shape[-1] - 1
        noise = torch.rand(n, channels, side, side, generator=generator).to(like)
        field = _finer(field, noise, rough**level if level else torch.zeros_like(rough))
        level += 1
    return field[..., :height, :width]


def _finer(field: Tensor, noise: Tensor, weight: Tensor) -> Tensor:
    """Put a point between any two points of a grid: [N, C, S, S] to [N, C, 2S - 1, 2S - 1]."""
    fine = torch.empty_like(noise)
    fine[..., ::2, ::2] = field
    centres = F.avg_pool2d(field, 2, stride=1).lerp(noise[..., 1::2, 1::2], weight)
    fine[..., 1::2, 1::2] = centres
    fine[..., ::2, 1::2] = _between(field, centres).lerp(noise[..., ::2, 1::2], weight)
    fine[..., 1::2, ::2] = _between(field.mT, centres.mT).mT.lerp(noise[..., 1::2, ::2], weight)
    return fine


def _between(field: Tensor, centres: Tensor) -> Tensor:
    """Return the mean around each point that lies between two grid points of a row: those two, and the centres."""
    total = field[..., :-1] + field[..., 1:]
    total[..., :-1, :] += centres
    total[..., 1:, :] += centres
    count = total.new_full((total.shape[-2], 1), 4)
    count[0] = count[-1] = 3  # at the border there is a centre on one side only
    return total / count
