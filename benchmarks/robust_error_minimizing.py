"""One step of robust error-minimising noise: all views of a batch stacked into one pass against a loop over draws.

Both sides see the same windows and the same adversary and take the same gradient; they take turns, and the fastest of
each counts. Run it alone: ``python benchmarks/robust_error_minimizing.py [--device cuda] [--model resnet-18]``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from countermove.learning.adversary import Adversary
from countermove.learning.augment import Window
from countermove.learning.scoring import place
from countermove.nets.registry import build_network
from countermove.pixels.randomness import generator
from countermove.pixels.steps import frozen
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.robust import CROP, expected_gradient

DRAWS = 5
REPEATS = 5


def stacked(
    network: nn.Module, x: Tensor, y: Tensor, windows: Window, adversary: Adversary, source: torch.Generator
) -> Tensor:
    """Take the gradient of all draws in one pass."""
    return expected_gradient(network, x, y, windows, adversary, source, at_once=len(windows.rows))


def looped(
    network: nn.Module, x: Tensor, y: Tensor, windows: Window, adversary: Adversary, source: torch.Generator
) -> Tensor:
    """Take the gradient draw by draw."""
    total, n = torch.zeros_like(x), len(x)
    for first in range(0, len(windows.rows), n):
        rows = slice(first, first + n)
        window = Window(windows.rows[rows], windows.columns[rows])
        total += expected_gradient(network, x, y, window, adversary, source)
    return total * n / len(windows.rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="small-cnn")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    data = METHODS.compose("data", f"cifar10-mini(train_limit={max(100, asked.batch_size)})").method()
    batch = data.train.batch(range(asked.batch_size))
    network = place(build_network(asked.model, 10, 32, generator(0)), asked.device)
    x, y = batch.pictures.to(asked.device), batch.labels.to(asked.device)
    windows = Window.draw(DRAWS * len(x), 32, 32, crop=CROP, flip=True, generator=generator(1))
    adversary = Adversary(eps=4 / 255, step=0.8 / 255, steps=10)
    sides: dict[str, Callable[..., Tensor]] = {"stacked": stacked, "loop over draws": looped}
    fastest = dict.fromkeys(sides, float("inf"))
    found: dict[str, Tensor] = {}
    with frozen(network):
        for _ in range(REPEATS + 1):  # the first ones pay the one-time costs, and are never the fastest
            for name, side in sides.items():
                began = time.perf_counter()
                found[name] = side(network, x, y, windows, adversary, generator(2))
                if asked.device == "cuda":
                    torch.cuda.synchronize()
                fastest[name] = min(fastest[name], time.perf_counter() - began)
    ours, theirs = found.values()
    passes = DRAWS * len(x) * 11
    print(f"{asked.model}, {asked.device}, batch {len(x)}, {DRAWS} draws, 10 adversary steps: {passes} passes a step")
    for name, seconds in fastest.items():
        print(f"{name:16} {seconds:8.3f} s   {passes / seconds:8.0f} passes/s")
    print(f"largest difference of the two gradients: {float((ours - theirs).abs().max() / theirs.abs().max()):.1e}")
    print(f"ratio: {fastest['loop over draws'] / fastest['stacked']:.2f}x")


if __name__ == "__main__":
    main()
