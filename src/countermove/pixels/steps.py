"""Projected gradient steps on pictures, against a network that stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.pixels.balls import Ball
from countermove.pixels.rounding import check_pictures


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Put a network in eval mode without parameter gradients, and every module and parameter back afterwards.

    Batch norm uses its running statistics and does not change them; dropout is off; it is all restored after an error
    too, each module and parameter to its own former state.
    """
    training = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        model.requires_grad_(False)
        yield model
    finally:
        for module, mode in training:
            module.training = mode
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)


def sign_gradient(
    model: nn.Module,
    pictures: Tensor,
    labels: Tensor,
    *,
    ball: Ball,
    step: float,
    steps: int,
    minimize: bool,
    start: Tensor | None = None,
    random_start: torch.Generator | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    chunk: int = 512,
    transform: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Find changes inside a ball that lower (or raise) the loss of a network: PGD, Madry et al. 2018.

    Repeats: gradient, step, project, clip. The step goes along the sign of the gradient (linf), along the gradient at
    length one (l2), or along the gradient with its largest entry at one (l0, where the projection then keeps the
    strongest pixels). The pictures may be on another device than the network; they travel chunk by chunk.

    Args:
        model: maps pictures [n, 3, H, W] to what the loss takes; used frozen, see `frozen`.
        pictures: float [N, 3, H, W] in [0, 1].
        labels: [N], or anything [N, ...] that the loss takes.
        ball: the budget of a change.
        step: length of one step, in pixel units (0.8/255).
        steps: how many; 0 returns the start.
        minimize: True for error-minimising changes, False for error-maximising ones.
        start: changes [N, 3, H, W] to go on from; projected and clipped first.
        random_start: draw the start from the ball, for the whole batch at once. Where a sample's noise must follow
            its id through re-ordering, make `start` with `randomness.per_sample` instead.
        loss: (output, labels) -> a mean, a sum, or one number a sample.
        chunk: pictures a forward pass; the result does not depend on it beyond rounding, if transform is not random.
        transform: applied to the moved pictures before the network, such as a differentiable squeeze or a random crop.
            It is differentiated through.

    Returns:
        The changes, with shape, dtype and device of pictures; pictures + changes is in [0, 1]. They are not rounded:
        see `quantize_move`.

    Raises:
        ConfigError: a step that is not finite or negative, negative steps, chunk below 1, two starts, or a transform
            that has no gradient.
        DataError: pictures, labels and start that do not fit each other, or a gradient that is not finite.
    """
    _check(pictures, labels, step, steps, start, random_start, chunk)
    if random_start is not None:
        start = ball.draw(pictures, random_start)
    device = next(model.parameters(), pictures).device
    direction = -step if minimize else step
    deltas = torch.zeros_like(pictures) if start is None else start.detach().to(pictures).clone()
    with frozen(model):
        for first in range(0, len(pictures), chunk):
            rows = slice(first, first + chunk)
            x, y = pictures[rows].detach().to(device), labels[rows].to(device)
            delta = _clip(x, ball.project(deltas[rows].to(device)))
            for _ in range(steps):
                gradient = _gradient(model, x, y, delta, loss, transform)
                delta = delta + direction * _steepest(gradient, ball)
                delta = ball.project(delta)
                delta = _clip(x, delta)
            deltas[rows] = delta.to(deltas.device)
    return deltas


def _gradient(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    delta: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    transform: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    with torch.enable_grad():
        moved = (x + delta).requires_grad_()
        seen = moved if transform is None else transform(moved)
        if not seen.requires_grad:
            raise ConfigError("the transform has no gradient; use a differentiable one, like jpeg_differentiable")
        (gradient,) = torch.autograd.grad(loss(model(seen), y).sum(), moved)
    if not gradient.isfinite().all():
        raise DataError("the network's gradient is not finite; check its weights, the loss and the transform")
    return gradient


def _steepest(gradient: Tensor, ball: Ball) -> Tensor:
    if ball.norm == "linf":
        return gradient.sign()
    largest = gradient.abs().amax((1, 2, 3), keepdim=True)
    gradient = torch.where(largest > 0, gradient / largest, 0)  # squares of tiny gradients would underflow
    if ball.norm == "l0":
        return gradient
    return gradient / torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True).clamp(min=1)


def _clip(x: Tensor, delta: Tensor) -> Tensor:
    return (x + delta).clamp(0, 1) - x


def _check(
    pictures: Tensor,
    labels: Tensor,
    step: float,
    steps: int,
    start: Tensor | None,
    random_start: torch.Generator | None,
    chunk: int,
) -> None:
    if not (math.isfinite(step) and step >= 0):
        raise ConfigError(f"step = {step:g} is no step length; it must be finite and not negative, like 0.8/255")
    if steps < 0:
        raise ConfigError(f"steps = {steps} must be 0 or more")
    if chunk < 1:
        raise ConfigError(f"chunk = {chunk} must be at least 1 picture")
    if start is not None and random_start is not None:
        raise ConfigError("start and random_start were both given; add the noise to start, or give one of them")
    check_pictures(pictures)
    if len(labels) != len(pictures):
        raise DataError(f"{len(pictures)} pictures come with {len(labels)} labels; the numbers must agree")
    if start is not None and start.shape != pictures.shape:
        raise DataError(f"start has shape {list(start.shape)}, the pictures {list(pictures.shape)}; they must agree")
