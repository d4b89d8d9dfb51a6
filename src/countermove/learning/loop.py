"""The training loop. Legend: N pictures of 3 x H x W, K classes, T test pictures.

Data lie in memory as 8-bit pictures, padded once; a batch is cut out by one indexing operation that lands in
channels_last memory. benchmarks/training_loop.py measures this against the usual PIL and DataLoader loop.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from countermove.learning.augment import BatchStep, Window, padded
from countermove.learning.checkpoint import Checkpoint, restore_training, training_state
from countermove.learning.recipe import Recipe
from countermove.pixels.randomness import generator as make_generator

EVALUATION_BATCH = 500


@dataclass
class Training:
    """What a training gives.

    correct:        bool [T], which test pictures the last epoch's model names rightly.
    accuracy:       on the test pictures, one value an epoch.
    train_accuracy: on the received pictures as trained on (augmented), one value an epoch.
    train_loss:     likewise.
    samples:        forward-backward passes.
    """

    correct: Tensor
    accuracy: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    samples: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Examples:
    """8-bit pictures with labels: uint8 [N, 3, H, W], int64 [N]."""

    pictures: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def train(
    model: nn.Module,
    received: Examples,
    test: Examples,
    *,
    recipe: Recipe,
    seed: int,
    classes: int,
    steps: Sequence[BatchStep] = (),
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Training:
    """Train a model in place on received pictures and score it on test pictures after every epoch.

    The same seed gives the same result on one device with one number of threads. A checkpoint that is found is
    continued from, to the same result.
    """
    began = time.perf_counter()
    generator = make_generator(seed, "training")
    place(model, device)
    trainer = _Trainer(model, recipe, generator, tuple(steps), classes, device)
    data, labels = padded(received.pictures, recipe.crop).to(device), received.labels.to(device)
    log = Training(correct=torch.zeros(len(test), dtype=torch.bool))
    done = trainer.resume(checkpoint, log)
    with _reproducible(seed, device):
        if trainer.layers_state is not None:
            torch.set_rng_state(trainer.layers_state)
        for epoch in range(done, recipe.epochs):
            loss, accuracy, seen = trainer.epoch(data, labels, epoch)
            log.correct = correct(model, test, device=device)
            log.accuracy.append(float(log.correct.float().mean()))
            log.train_accuracy.append(accuracy)
            log.train_loss.append(loss)
            log.samples += seen
            if checkpoint is not None:
                trainer.save(checkpoint, log)
    log.seconds = time.perf_counter() - began
    return log


@torch.no_grad()
def correct(model: nn.Module, test: Examples, *, device: str = "cpu") -> Tensor:
    """Return bool [T]: which pictures the model, in evaluation mode, names rightly. Restores its mode."""
    was_training = model.training
    model.eval()
    parts = []
    for start in range(0, len(test), EVALUATION_BATCH):
        pictures = to_model(test.pictures[start : start + EVALUATION_BATCH], device)
        parts.append(model(pictures).argmax(dim=1).cpu() == test.labels[start : start + EVALUATION_BATCH])
    model.train(was_training)
    return torch.cat(parts)


def place(model: nn.Module, device: str) -> nn.Module:
    """Put a model on a device, its convolutions in channels_last memory. In place."""
    return model.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def to_model(pictures: Tensor, device: str) -> Tensor:
    """Return 8-bit pictures as floats in [0, 1] in channels_last memory on the device."""
    return pictures.to(device).float().div_(255).contiguous(memory_format=torch.channels_last)


@cache
def warm_up(device: str) -> None:
    """Pay the one-time costs of a process's first training step, so that no cell's price holds them."""
    with torch.random.fork_rng(devices=[]):
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model, pictures = place(net, device), to_model(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), device)
    F.cross_entropy(model(pictures), torch.tensor([0, 1], device=device)).backward()


class _Trainer:
    """The state of one training: model, optimiser, generator."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        generator: Generator,
        steps: tuple[BatchStep, ...],
        classes: int,
        device: str,
    ) -> None:
        self.model, self.recipe, self.generator = model, recipe, generator
        self.steps, self.classes, self.device = steps, classes, device
        self.run = torch.compile(model) if device == "cuda" else model
        self.layers_state: Tensor | None = None
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
        )

    def epoch(self, data: Tensor, labels: Tensor, epoch: int) -> tuple[float, float, int]:
        """Train one epoch on padded 8-bit pictures [N, H', W', 3]; return mean loss, accuracy and pictures seen."""
        recipe, n = self.recipe, len(labels)
        height, width = data.shape[1] - 2 * recipe.crop, data.shape[2] - 2 * recipe.crop
        order = torch.randperm(n, generator=self.generator)
        batches = [b for b in order.split(recipe.batch_size) if len(b) > 1]  # batch norm needs two
        self.model.train()
        loss_sum, right, seen = 0.0, 0, sum(len(b) for b in batches)
        for i, index in enumerate(batches):
            window = Window.draw(
                len(index), height, width, crop=recipe.crop, flip=recipe.flip, generator=self.generator
            )
            pictures = window.look(data, index).float().div_(255)
            named = labels[index.to(self.device)]
            targets: Tensor = named
            if self.steps:
                targets = F.one_hot(named, self.classes).float()
                for step in self.steps:
                    pictures, targets = step(pictures, targets, generator=self.generator)
            loss, logits = self._step(pictures, targets, epoch * len(batches) + i, recipe.epochs * len(batches))
            loss_sum += loss * len(index)
            right += int((logits.argmax(dim=1) == named).sum())
        return loss_sum / seen, right / seen, seen

    def _step(self, pictures: Tensor, targets: Tensor, step: int, steps: int) -> tuple[float, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr_at(step, steps)
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.device == "cuda"):
            logits = self.run(pictures)
            loss = F.cross_entropy(logits, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach()), logits.detach()

    def save(self, checkpoint: Checkpoint, log: Training) -> None:
        tensors = training_state(self.model, self.optimizer)
        tensors |= {"generator": self.generator.get_state(), "global": torch.get_rng_state(), "correct": log.correct}
        facts = {"accuracy": log.accuracy, "train_accuracy": log.train_accuracy, "train_loss": log.train_loss}
        checkpoint.save_if_due(tensors, {**facts, "samples": log.samples})

    def resume(self, checkpoint: Checkpoint | None, log: Training) -> int:
        """Take up a checkpoint; return how many epochs are done."""
        found = checkpoint.load() if checkpoint is not None else None
        if found is None:
            return 0
        tensors, facts = found
        restore_training(self.model, self.optimizer, tensors)
        self.generator.set_state(tensors["generator"])
        self.layers_state = tensors["global"]
        log.correct, log.samples = tensors["correct"], facts["samples"]
        log.accuracy, log.train_accuracy, log.train_loss = (
            facts["accuracy"],
            facts["train_accuracy"],
            facts["train_loss"],
        )
        return len(log.accuracy)


@contextmanager
def _reproducible(seed: int, device: str) -> Iterator[None]:
    """Give layers that draw from the global generator (dropout) a stream of their own, and put the old one back."""
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.backends.cudnn.flags(deterministic=True, benchmark=False):
        torch.manual_seed(make_generator(seed, "layers").initial_seed())
        yield


def early_epoch(train_accuracy: Sequence[float], *, patience: int = 2, gain: float = 0.01) -> int:
    """Return the epoch (0-based) at which a trainer who sees only the received data would stop.

    That is the first epoch after which the accuracy on received data rose by less than `gain` for `patience` epochs
    in a row; the last epoch when that never happens.
    """
    best, waited = -1.0, 0
    for epoch, accuracy in enumerate(train_accuracy):
        if accuracy >= best + gain:
            best, waited = accuracy, 0
        else:
            waited += 1
            if waited == patience:
                return epoch - patience
    return len(train_accuracy) - 1
