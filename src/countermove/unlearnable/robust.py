"""The min-min-max game of robust and stable error-minimising noise.

Noise lowers a surrogate's loss in expectation over random views of a picture (crop and flip), each disturbed again:
by an adversary (robust) or at random (stable). The surrogate learns from attacked views of the noisy pictures.

Legend: n pictures of a batch, N of all; D draws of a view. The D * n views lie draw after draw: row d * n + i is
picture i in draw d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from countermove.errors import ConfigError
from countermove.learning.adversary import Adversary
from countermove.learning.augment import ModelStep, Window, padded
from countermove.learning.checkpoint import restore_training, training_state
from countermove.nets.registry import check_network
from countermove.pixels.balls import Ball, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.steps import frozen
from countermove.unlearnable.poison import Context

CROP = 4
"""Padding of the random crop, as a learner will use it."""
VIEWS_ON_CPU = 128
"""Views a pass on a processor: a larger pass leaves its cache and was slower than a loop."""

CHUNK = 128
"""Pictures whose noise is found at once at the end."""

DECAYS_AFTER = 0.4
"""Share of the rounds after which the learning rate falls to a tenth, each time (released code: 2000 of 5000)."""


@dataclass(frozen=True, kw_only=True)
class UniformNoise:
    """Every value is shifted by its own number, uniform in [-eps, eps]; the result is clipped to [0, 1]."""

    eps: float

    @property
    def passes(self) -> int:
        """Forward-backward passes of every picture: none."""
        return 0

    def __call__(
        self, model: nn.Module, pictures: Tensor, targets: Tensor, *, generator: Generator, progress: float
    ) -> tuple[Tensor, Tensor]:
        """Return noisy pictures [N, 3, H, W]; the model is not asked."""
        noise = Ball(norm="linf", radius=self.eps).draw(pictures, generator)
        return (pictures + noise).clamp(0, 1), targets


@dataclass(frozen=True, kw_only=True)
class Robust:
    """The settings of the game; see RobustErrorMinimizing.

    disturbance: what the noise must outlive in every view.
    adversary:   what the surrogate's training pictures are attacked by.
    """

    eps: float
    step: float
    steps: int
    draws: int
    disturbance: ModelStep
    adversary: Adversary
    rounds: int
    batch_size: int
    lr: float


def check_settings(name: str, poison: Any) -> None:
    """Refuse settings, shared by the poisons that play this game, with which it cannot be played.

    Raises:
        ConfigError: naming the poison or the setting.
    """
    check_radius(poison.eps, norm="linf")
    check_network(poison.surrogate)
    if not 0 <= poison.adversary_eps <= 1:
        raise ConfigError(
            f"{name}: adversary_eps = {poison.adversary_eps} is refused: a radius in [0, 1] units, like 4/255"
        )
    if min(poison.steps, poison.draws, poison.adversary_steps, poison.rounds) < 1 or poison.batch_size < 2:
        raise ConfigError(
            f"{name}: steps, draws, adversary_steps and rounds are at least 1, batch_size at least 2 (batch norm)"
        )
    if min(poison.step, poison.adversary_step) < 0 or poison.lr <= 0:
        raise ConfigError(f"{name}: step and adversary_step are not negative, and lr is above 0")


def robust_noise(batch: Batch, network: nn.Module, game: Robust, context: Context) -> Tensor:
    """Train the surrogate, then find the noise of all pictures against it. Returns [N, 3, H, W] inside eps.

    Checkpoints are kept of both; one that is found is continued from, to the same result.
    """
    source, noise = context.generator("robust"), torch.zeros_like(batch.pictures)
    optimizer = torch.optim.SGD(network.parameters(), lr=game.lr, momentum=0.9, weight_decay=5e-4)
    checkpoint = context.checkpoint("robust")
    rounds, done, error = 0, 0, math.nan
    found = checkpoint.load() if checkpoint is not None else None
    if found is not None:
        tensors, facts = found
        restore_training(network, optimizer, tensors)
        source.set_state(tensors["generator"])
        noise.copy_(tensors["noise"])
        rounds, done, error = facts["rounds"], facts["done"], facts["error"]
        context.meter.samples = facts["samples"]

    def keep(rounds: int, done: int) -> None:
        if checkpoint is not None:
            tensors = {**training_state(network, optimizer), "generator": source.get_state(), "noise": noise}
            facts = {"rounds": rounds, "done": done, "error": error, "samples": context.meter.samples}
            checkpoint.save_if_due(tensors, facts)

    for number in range(rounds, game.rounds):
        rows = torch.randperm(len(batch), generator=source)[: game.batch_size]
        for group in optimizer.param_groups:
            group["lr"] = game.lr * 0.1 ** int(number / (DECAYS_AFTER * game.rounds))
        error = _round(network, optimizer, batch.select(rows), game, source, context)
        keep(number + 1, 0)
    for start in range(done, len(batch), CHUNK):
        rows = torch.arange(start, min(start + CHUNK, len(batch)))
        noise[rows] = find_noise(network, batch.select(rows), game, source, context)
        keep(game.rounds, start + CHUNK)
    context.meter.facts |= {"rounds": game.rounds, "surrogate_error": error}
    return noise


def find_noise(network: nn.Module, batch: Batch, game: Robust, source: Generator, context: Context) -> Tensor:
    """Return noise [n, 3, H, W] for a batch from a random start, inside eps and so that picture + noise is in [0, 1].

    The network is frozen and the noise found on the context's device; what is returned lies where the pictures lie.
    """
    ball = Ball(norm="linf", radius=game.eps)
    x, y = _placed(batch.pictures, context), batch.labels.to(context.device)
    n, _, height, width = x.shape
    delta = (x + ball.draw(x, source)).clamp(0, 1) - x
    with frozen(network):
        for _ in range(game.steps):
            windows = Window.draw(game.draws * n, height, width, crop=CROP, flip=True, generator=source)
            gradient = expected_gradient(network, x + delta, y, windows, game.disturbance, source)
            delta = ball.project(delta - game.step * gradient.sign())
            delta = (x + delta).clamp(0, 1) - x
    context.meter.samples += round(game.steps * game.draws * n * (1 + game.disturbance.passes))
    return delta.to(batch.pictures.device)


def expected_gradient(
    network: nn.Module,
    pictures: Tensor,
    labels: Tensor,
    windows: Window,
    disturbance: ModelStep,
    source: Generator,
    at_once: int | None = None,
) -> Tensor:
    """Return the gradient at pictures of their loss, averaged over D disturbed views, which are stacked into one pass.

    The gradient at a disturbed view is taken for that at the view itself (straight through the disturbance), and goes
    on through crop and flip, which are a choice of pixels.

    Args:
        network: maps pictures to logits; frozen by the caller.
        pictures: float [n, 3, H, W].
        labels: int64 [n].
        windows: D * n of them, draw after draw.
        disturbance: what is done to every view.
        source: what the disturbance draws from.
        at_once: views a pass; None: all on a GPU, VIEWS_ON_CPU elsewhere, as a larger pass leaves a processor's cache.
    """
    n, views = len(pictures), len(windows.rows)
    at_once = at_once or (views if pictures.is_cuda else VIEWS_ON_CPU)
    total = torch.zeros_like(pictures)
    with torch.enable_grad():
        leaf = pictures.detach().requires_grad_()
        bordered = padded(leaf, CROP)
        for rows in torch.arange(views).split(at_once):
            seen = Window(windows.rows[rows], windows.columns[rows]).look(bordered, rows % n)
            y = labels[(rows % n).to(labels.device)]
            disturbed, _ = disturbance(network, seen.detach(), y, generator=source, progress=0.0)
            disturbed = disturbed.detach().requires_grad_()
            loss = F.cross_entropy(network(disturbed), y, reduction="sum") * n / views
            (at_views,) = torch.autograd.grad(loss, disturbed)
            total += torch.autograd.grad(seen, leaf, at_views, retain_graph=True)[0]
    return total


def _round(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    game: Robust,
    source: Generator,
    context: Context,
) -> float:
    """Find the noise of a batch, then take one step of the surrogate on attacked views of it.

    Returns how often the surrogate erred on these before the step.
    """
    moved = batch.pictures + find_noise(network, batch, game, source, context)
    n, _, height, width = moved.shape
    window = Window.draw(n, height, width, crop=CROP, flip=True, generator=source)
    labels = batch.labels.to(context.device)
    view = _placed(window.look(padded(moved, CROP)), context)
    attacked, _ = game.adversary(network, view, labels, generator=source, progress=0.0)
    network.train()
    logits = network(attacked)
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(logits, labels).backward()
    optimizer.step()
    context.meter.samples += round(n * (1 + game.adversary.passes))
    return float((logits.argmax(dim=1) != labels).float().mean())


def _placed(pictures: Tensor, context: Context) -> Tensor:
    return pictures.to(context.device).contiguous(memory_format=torch.channels_last)
