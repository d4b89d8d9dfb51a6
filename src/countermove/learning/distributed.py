"""One training by several processes, each with its part of every batch. Legend: P processes, n pictures in a batch.

Whoever starts the processes (torchrun) has made a process group before; where there is none, everything here is the
identity. All processes draw the same numbers, so that parts are parts of one batch: the results are those of one
process up to the order in which floating-point numbers are added. Exceptions: what layers draw (dropout), and running
variances after a batch of fewer pictures than processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

_alone = False


def processes() -> int:
    """Return P, one where there is no process group."""
    return 1 if _alone or not (dist.is_available() and dist.is_initialized()) else dist.get_world_size()


@contextmanager
def first_alone() -> Iterator[bool]:
    """Let the first process do something as if it were the only one; the others wait until it is done.

    Gives whether this is the one that does it. For what is kept beyond a run, and must not depend on P.
    """
    global _alone
    if processes() == 1:
        yield True
        return
    mine = dist.get_rank() == 0
    try:
        _alone = mine
        yield mine
    finally:
        _alone = False
        dist.barrier()


def part(n: int) -> slice:
    """Return which rows of a batch of n are this process's own. With fewer rows than processes, each takes all."""
    many = processes()
    if n < many or many == 1:
        return slice(0, n)
    rank = dist.get_rank()
    return slice(n * rank // many, n * (rank + 1) // many)


def copies(n: int) -> int:
    """Return how many processes have the same rows of a batch of n."""
    return processes() if n < processes() else 1


def weight(n: int) -> float:
    """Return what the mean over this process's part is multiplied with, so that P such means average to that of all."""
    own = part(n)
    return processes() * (own.stop - own.start) / n if n >= processes() else 1.0


def total(values: Tensor) -> Tensor:
    """Return the sum over all processes, elementwise. No gradient passes."""
    if processes() > 1:
        dist.all_reduce(values)
    return values


def divided(model: nn.Module) -> nn.Module:
    """Return a model whose gradients are averaged over all processes while they are computed.

    Parameters are the model's own; those of the first process, and its buffers, are given to all.
    """
    if processes() == 1:
        return model
    devices = [torch.cuda.current_device()] if next(model.parameters()).is_cuda else None
    return DistributedDataParallel(model, device_ids=devices, find_unused_parameters=True)  # a last layer, for one


@contextmanager
def normalised_together(model: nn.Module) -> Iterator[None]:
    """Let batch normalisations in training mode take their statistics over all processes' parts, while it lasts.

    As torch.nn.SyncBatchNorm does on GPUs only. Statistics are float32 under autocast, too.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)] if processes() > 1 else []
    for layer in layers:
        layer.forward = partial(_normalised, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _normalised(layer: _BatchNorm, input: Tensor) -> Tensor:  # the name that modules give it
    """Normalise [n, C, ...] by mean and variance over all processes, and keep running ones as the layer would."""
    if not layer.training:
        return type(layer).forward(layer, input)
    values = input.float()
    over = [axis for axis in range(values.ndim) if axis != 1]
    shape = [1, -1, *[1] * (values.ndim - 2)]
    count = float(total(values.new_tensor(values.numel() / values.shape[1], dtype=torch.float64)))
    mean = _summed(values.sum(over)) / count
    centred = values - mean.view(shape)
    variance = _summed(centred.square().sum(over)) / count
    if layer.track_running_stats:
        assert layer.num_batches_tracked is not None
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.num_batches_tracked += 1
        share = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
        with torch.no_grad():
            layer.running_mean.lerp_(mean.detach(), share)
            layer.running_var.lerp_(variance.detach() * count / max(count - 1, 1), share)
    scaled = centred * torch.rsqrt(variance + layer.eps).view(shape)
    if layer.affine:
        scaled = scaled * layer.weight.view(shape) + layer.bias.view(shape)
    return scaled.to(input.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return total(values.clone())

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return total(gradients[0].clone())


def _summed(values: Tensor) -> Tensor:
    found = _Sum.apply(values)
    assert isinstance(found, Tensor)
    return found
