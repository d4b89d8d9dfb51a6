"""Self-ensemble protection: stages of the surrogate kept in memory against weights read from disk in every step.

Both sides take the same sign steps on the same pictures against the same stages, as our poison and as the usual loop
do it. Whether they made the same noise and the ratio of the times are printed. Run it alone.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from countermove.nets.registry import build_network
from countermove.nets.weights import load_weights, save_weights
from countermove.pixels.balls import Ball
from countermove.pixels.rounding import to_float
from countermove.pixels.steps import frozen
from countermove.unlearnable.crafting import descend
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poisons.self_ensemble import Stage

STAGES = 10
STEPS = 5
BALL = Ball(norm="linf", radius=8 / 255)


def in_memory(networks: list[nn.Module], pictures: Tensor, targets: Tensor) -> Tensor:
    """Return the noise made against networks that stay where they are."""
    stages = [Stage(network=network, means=None) for network in networks]
    return descend(
        pictures,
        lambda moved: torch.stack([stage.gradient(moved, targets) for stage in stages]).mean(0),
        ball=BALL,
        step=1 / 255,
        steps=STEPS,
    )


def from_disk(network: nn.Module, files: list[Path], pictures: Tensor, targets: Tensor) -> Tensor:
    """Return the noise made against one network that gets its weights anew for every gradient."""

    def gradient(moved: Tensor) -> Tensor:
        gradients = []
        for file in files:
            load_weights(network, file)
            gradients.append(Stage(network=network, means=None).gradient(moved, targets))
        return torch.stack(gradients).mean(0)

    return descend(pictures, gradient, ball=BALL, step=1 / 255, steps=STEPS)


def compare(name: str, count: int) -> None:
    """Measure one network on so many pictures, and print."""
    data = METHODS.compose("data", "cifar10-mini").method()
    pictures, targets = to_float(data.train.pictures[:count]), (data.train.labels[:count] + 5) % 10
    networks = [build_network(name, 10, 32, torch.Generator().manual_seed(seed)) for seed in range(STAGES)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{stage}.safetensors" for stage in range(STAGES)]
        for network, file in zip(networks, files, strict=True):
            save_weights(network, file)
            network.eval().requires_grad_(False)
        one = build_network(name, 10, 32, torch.Generator().manual_seed(0))
        with frozen(one):
            in_memory(networks, pictures, targets)  # pay the one-time costs outside the measurement
            began = time.perf_counter()
            ours = in_memory(networks, pictures, targets)
            between = time.perf_counter()
            theirs = from_disk(one, files, pictures, targets)
            ended = time.perf_counter()
    print(f"{name}, {count} pictures, {STAGES} stages, {STEPS} steps")
    print(f"  in memory   {between - began:8.3f} s")
    print(f"  from disk   {ended - between:8.3f} s")
    print(f"  same noise: {torch.equal(ours, theirs)}")
    print(f"  ratio: {(ended - between) / (between - began):.2f}x")


def main() -> None:
    """Measure small and large portions, whose work hides the reading more or less."""
    torch.set_num_threads(os.cpu_count() or 1)
    compare("small-cnn", 8)
    compare("small-cnn", 256)
    compare("resnet-18", 8)


if __name__ == "__main__":
    main()
