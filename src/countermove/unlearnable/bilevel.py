"""The min-min game of error-minimising noise: surrogate and noise lower the same loss in turns.

Legend: N pictures, K classes, noise [N, 3, H, W] or [K, 3, H, W].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from countermove.learning.augment import Window, padded
from countermove.learning.checkpoint import Checkpoint, restore_training, training_state
from countermove.pixels.batch import Batch
from countermove.pixels.steps import frozen
from countermove.unlearnable.poison import Context

CROP = 4
SWEEP_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Bilevel:
    """The settings of the game; see ErrorMinimizing."""

    eps: float
    step: float
    steps: int
    batches: int
    batch_size: int
    rounds: int
    stop_error: float
    augment: bool
    augment_sweep: bool
    lr: float


def sample_wise(batch: Batch, network: nn.Module, game: Bilevel, context: Context) -> Tensor:
    """Return one noise a picture, [N, 3, H, W], inside eps and so that picture + noise is in [0, 1]."""
    noise = torch.zeros_like(batch.pictures)

    def sweep(view: View) -> None:
        for rows in torch.arange(len(batch)).split(SWEEP_BATCH):
            x, y = batch.pictures[rows], batch.labels[rows]
            delta = noise[rows]
            for _ in range(game.steps):
                gradient = _gradient(network, x + delta, y, view, context)
                delta = (delta - game.step * gradient.sign()).clamp(-game.eps, game.eps)
                delta = (x + delta).clamp(0, 1) - x
            noise[rows] = delta

    _play(batch, network, game, context, noise, torch.arange(len(batch)), sweep)
    return noise


def class_wise(batch: Batch, network: nn.Module, game: Bilevel, share: float, context: Context) -> Tensor:
    """Return one noise a class, [K, 3, H, W], inside eps, found on a share of the pictures, stratified by class."""
    few = batch.select(_stratified(batch.labels, share, context.generator("share")))
    noise = torch.zeros(len(batch.classes), *batch.pictures.shape[1:])

    def sweep(view: View) -> None:
        order = torch.randperm(len(few), generator=view.generator)
        for rows in order.split(game.batch_size):
            x, y = few.pictures[rows], few.labels[rows]
            delta = noise[y]
            for _ in range(game.steps):
                gradient = _gradient(network, (x + delta).clamp(0, 1), y, view, context)
                delta = (delta - game.step * gradient.sign()).clamp(-game.eps, game.eps)
            present, position = y.unique(return_inverse=True)
            total = torch.zeros(len(present), *noise.shape[1:]).index_add_(0, position, delta)
            noise[present] = total / torch.bincount(position)[:, None, None, None]

    _play(few, network, game, context, noise, few.labels, sweep)
    return noise


@dataclass(frozen=True)
class View:
    """How pictures are seen by the surrogate: cropped and flipped at random, or as they are."""

    augment: bool
    generator: Generator

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return what is seen of pictures [n, 3, H, W]; differentiable."""
        if not self.augment:
            return pictures
        n, _, height, width = pictures.shape
        window = Window.draw(n, height, width, crop=CROP, flip=True, generator=self.generator)
        return window.look(padded(pictures, CROP))


def _play(
    batch: Batch,
    network: nn.Module,
    game: Bilevel,
    context: Context,
    noise: Tensor,
    owner: Tensor,
    sweep: Callable[[View], None],
) -> None:
    """Alternate between surrogate batches and noise sweeps until the error is low or the rounds are over.

    Picture i carries noise[owner[i]]. `sweep` changes the noise in place. A checkpoint that is found is continued from,
    to the same result.
    """
    source = context.generator("bilevel")
    view = View(game.augment, source)
    optimizer = torch.optim.SGD(network.parameters(), lr=game.lr, momentum=0.9, weight_decay=5e-4)
    stream = _Stream(len(batch), game.batch_size, source)
    checkpoint = context.checkpoint("bilevel")
    error, rounds = _resume(checkpoint, network, optimizer, stream, noise, context)
    while rounds < game.rounds and error > game.stop_error:
        network.train()
        for _ in range(game.batches):
            rows = stream.next()
            seen = view((batch.pictures[rows] + noise[owner[rows]]).clamp(0, 1))
            loss = F.cross_entropy(network(_placed(seen, context)), batch.labels[rows].to(context.device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            context.meter.samples += len(rows)
        sweep(View(game.augment and game.augment_sweep, source))
        error = _error(batch, network, noise, owner, context)
        rounds += 1
        if checkpoint is not None:
            tensors = {**training_state(network, optimizer), **stream.state(), "noise": noise}
            checkpoint.save_if_due(
                tensors, {"error": error, "rounds": rounds, "place": stream.place, "samples": context.meter.samples}
            )
    context.meter.facts |= {"rounds": rounds, "surrogate_error": error, "stopped_early": error <= game.stop_error}


def _resume(
    checkpoint: Checkpoint | None,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    stream: _Stream,
    noise: Tensor,
    context: Context,
) -> tuple[float, int]:
    """Take up a checkpoint; return the last error and how many rounds are done."""
    found = checkpoint.load() if checkpoint is not None else None
    if found is None:
        return 1.0, 0
    tensors, facts = found
    restore_training(network, optimizer, tensors)
    stream.restore(tensors, facts["place"])
    noise.copy_(tensors["noise"])
    context.meter.samples = facts["samples"]
    return facts["error"], facts["rounds"]


class _Stream:
    """Batches of positions, epoch after epoch, each epoch in a new order; its state can be kept."""

    def __init__(self, n: int, size: int, generator: Generator) -> None:
        self.n, self.size, self.generator = n, min(size, n), generator
        self.order, self.place = torch.empty(0, dtype=torch.int64), 0

    def next(self) -> Tensor:
        """Return the next batch; a last one of a single picture is passed over, as batch norm needs two."""
        if len(self.order) - self.place < min(2, self.n):
            self.order, self.place = torch.randperm(self.n, generator=self.generator), 0
        rows = self.order[self.place : self.place + self.size]
        self.place += len(rows)
        return rows

    def state(self) -> dict[str, Tensor]:
        return {"order": self.order, "generator": self.generator.get_state()}

    def restore(self, tensors: dict[str, Tensor], place: int) -> None:
        self.order, self.place = tensors["order"], place
        self.generator.set_state(tensors["generator"])


def _gradient(network: nn.Module, pictures: Tensor, labels: Tensor, view: View, context: Context) -> Tensor:
    """Return the gradient of the summed loss of the frozen network at pictures."""
    with frozen(network):
        leaf = pictures.detach().requires_grad_(True)
        loss = F.cross_entropy(network(_placed(view(leaf), context)), labels.to(context.device), reduction="sum")
        context.meter.samples += len(labels)
        return torch.autograd.grad(loss, leaf)[0]


@torch.no_grad()
def _error(batch: Batch, network: nn.Module, noise: Tensor, owner: Tensor, context: Context) -> float:
    """Return how often the surrogate errs on the noisy pictures, seen without augmentation."""
    wrong = 0
    with frozen(network):
        for rows in torch.arange(len(batch)).split(SWEEP_BATCH):
            seen = (batch.pictures[rows] + noise[owner[rows]]).clamp(0, 1)
            wrong += int((network(_placed(seen, context)).argmax(dim=1).cpu() != batch.labels[rows]).sum())
    return wrong / len(batch)


def _placed(pictures: Tensor, context: Context) -> Tensor:
    return pictures.to(context.device).contiguous(memory_format=torch.channels_last)


def _stratified(labels: Tensor, share: float, generator: Generator) -> Tensor:
    """Return positions of a share of each class, at least two of each, in their original order."""
    chosen = []
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        count = min(len(rows), max(2, round(share * len(rows))))
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    return torch.cat(chosen).sort().values
