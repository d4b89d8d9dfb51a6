"""How noise is made against networks that stay as they are: portion by portion, and along any gradient.

Legend: N pictures, noise [N, 3, H, W].
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from countermove.errors import DataError
from countermove.pixels.balls import Ball
from countermove.pixels.batch import Batch
from countermove.unlearnable.poison import Context


def in_portions(batch: Batch, size: int, context: Context, craft: Callable[[Batch, int], Tensor]) -> Tensor:
    """Make the noise of a batch one portion after the other; work that was cut short goes on where it was.

    Args:
        batch: all pictures.
        size: pictures in a portion.
        context: what the poison was given; its checkpoint file is used.
        craft: (portion, number of the portion) -> its noise. It may depend on nothing that an earlier portion left
            behind, so a generator is made from the portion's number.

    Returns:
        The noise of all pictures, on their device.
    """
    ids = hashlib.sha256("\x1f".join(batch.ids).encode()).hexdigest()[:16]  # train and test pictures share a folder
    checkpoint = context.checkpoint(f"portions-{ids}")
    noise, done, before = torch.zeros_like(batch.pictures), 0, context.meter.samples
    found = checkpoint.load() if checkpoint is not None else None
    if found is not None:
        tensors, facts = found
        noise, done = tensors["noise"].to(noise), facts["done"]
        context.meter.samples += facts["samples"]
    for number, rows in enumerate(torch.arange(len(batch)).split(size)):
        if number < done:
            continue
        noise[rows] = craft(batch.select(rows), number).to(noise)
        if checkpoint is not None:
            checkpoint.save_if_due({"noise": noise}, {"done": number + 1, "samples": context.meter.samples - before})
    return noise


def descend(pictures: Tensor, gradient: Callable[[Tensor], Tensor], *, ball: Ball, step: float, steps: int) -> Tensor:
    """Return the noise after some sign steps against a gradient, from no noise; see `advance`.

    Args:
        pictures: [N, 3, H, W] in [0, 1], where the gradient is computed.
        gradient: of what is lowered, at moved pictures.
        ball: an L-infinity ball.
        step: length of one step.
        steps: how many.
    """
    noise = torch.zeros_like(pictures)
    for _ in range(steps):
        noise = advance(pictures, noise, gradient(pictures + noise), ball=ball, step=step)
    return noise


def advance(pictures: Tensor, noise: Tensor, gradient: Tensor, *, ball: Ball, step: float) -> Tensor:
    """Return the noise one sign step against a gradient later, inside the ball and with the pictures in [0, 1].

    Raises:
        DataError: when the gradient is not finite.
    """
    if not gradient.isfinite().all():
        raise DataError("the surrogate's gradient is not finite; check its weights and how it was trained")
    noise = ball.project(noise - step * gradient.sign())
    return (pictures + noise).clamp(0, 1) - pictures
