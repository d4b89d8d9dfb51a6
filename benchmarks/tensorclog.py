"""The gradient of TensorClog's objective: our closed form against a double backward pass for every picture.

Both sides compute, for the same pictures and the same network, how long the cross-entropy's gradient is in the last
linear layer and the gradient of that length with respect to the picture. The largest difference and the ratio of the
times are printed. Run it alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.nets.features import last_linear
from countermove.nets.registry import build_network
from countermove.pixels.rounding import to_float
from countermove.pixels.steps import frozen
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poisons.tensorclog import last_layer_norms

REPEATS = 3

Work = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]


def closed_form(network: nn.Module, pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the norms [N] and their gradients [N, 3, H, W] from one pass over all pictures."""
    leaf = pictures.clone().requires_grad_()
    norms = last_layer_norms(network, leaf, labels)
    return norms.detach(), torch.autograd.grad(norms.sum(), leaf)[0]


def double_backward(network: nn.Module, pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same from two backward passes a picture."""
    layer = last_linear(network)
    norms, gradients = [], []
    for picture, label in zip(pictures, labels, strict=True):
        leaf = picture[None].clone().requires_grad_()
        loss = F.cross_entropy(network(leaf), label[None])
        inner = torch.autograd.grad(loss, [layer.weight, layer.bias], create_graph=True)
        norm = torch.stack([torch.linalg.vector_norm(g) for g in inner]).sum()
        gradients.append(torch.autograd.grad(norm, leaf)[0])
        norms.append(norm.detach())
    return torch.stack(norms), torch.cat(gradients)


def best_time(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some runs, after one that does not count."""
    work()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def compare(name: str, count: int) -> None:
    """Measure one network on so many pictures, and print."""
    data = METHODS.compose("data", "cifar10-mini").method()
    pictures, labels = to_float(data.train.pictures[:count]), data.train.labels[:count]
    network = build_network(name, 10, 32, torch.Generator().manual_seed(0))
    sides: tuple[Work, Work] = (closed_form, double_backward)
    with frozen(network):
        last_linear(network).requires_grad_(True)  # the slow side differentiates with respect to it
        ours, theirs = (work(network, pictures, labels) for work in sides)
        fast, slow = (best_time(partial(work, network, pictures, labels)) for work in sides)
    norms, gradients = (float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))
    print(f"{name}, {count} pictures")
    print(f"  closed form       {fast:8.3f} s")
    print(f"  double backward   {slow:8.3f} s")
    print(f"  largest relative difference: norms {norms:.1e}, gradients {gradients:.1e}")
    print(f"  ratio: {slow / fast:.1f}x")


def main() -> None:
    """Measure a small network and a large one."""
    torch.set_num_threads(os.cpu_count() or 1)
    compare("small-cnn", 256)
    compare("resnet-18", 32)


if __name__ == "__main__":
    main()
