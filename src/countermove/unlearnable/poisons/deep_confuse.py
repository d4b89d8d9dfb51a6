"""Deep Confuse: a generator learns what misleads a classifier during its whole training."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.func import functional_call

from countermove.learning.scoring import place
from countermove.nets.registry import build_network, check_network
from countermove.pixels.balls import Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.unlearnable.generators import (
    NoiseGenerator,
    adam_state,
    build_generator,
    check_training,
    kept_generator,
    moved_by,
    restore_adam,
)
from countermove.unlearnable.poison import Context


@dataclass(frozen=True, kw_only=True)
class DeepConfuse:
    """Deep Confuse (DC), Feng et al. 2019, arXiv:1905.09027.

    In every round a new classifier is trained on pictures with the noise of the current generator. At each of its steps
    a second generator, the target, is changed so that one more step on the target's noise would raise the
    classifier's loss on the clean pictures. At the end of the round the target becomes the current generator.

    eps:        L-infinity radius; the generator ends in eps * tanh (paper: 0.032).
    rounds:     new classifiers (released code: up to 1000). The effect grows with them: with the few of the default it
                is weak.
    epochs:     of each (released code: 20).
    batch_size: pictures a step (released code: 256).
    lr:         of the classifier's plain gradient descent, real and virtual (released code: 0.01).
    generator_lr: of the target generator's Adam (released code: 1e-4).
    width:      channels of the generator at the full size.
    surrogate:  the classifier (released code: vgg-11).

    The noise comes from the picture alone, so new pictures without labels can be moved too (`on_test`).

    Differs from the released code: it keeps the generator of the round with the lowest accuracy on clean test pictures;
    ours sees no test picture and is the last one. The generator is smaller, with group normalisation.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "linf"
    streams: ClassVar[bool] = False

    eps: float = 8 / 255
    rounds: int = 5
    epochs: int = 2
    batch_size: int = 64
    lr: float = 0.05
    generator_lr: float = 1e-3
    width: int = 16
    surrogate: str = "small-cnn"

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        check_network(self.surrogate)
        whole = {"rounds": self.rounds, "epochs": self.epochs, "batch_size": self.batch_size, "width": self.width}
        rates = {"lr": self.lr, "generator_lr": self.generator_lr}
        check_training("deep-confuse", whole=whole, above_zero=rates)

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones; keep the generator in the context."""
        network = self._trained(batch, context)
        context.kept[repr(self)] = network
        return moved_by(network, batch, context.device)

    def on_test(self, test: Batch, *, clean: Batch, moved: Batch, context: Context) -> Batch:
        """Return new pictures with the noise that the trained generator gives them; labels are not looked at."""
        return moved_by(kept_generator(self, context), test, context.device)

    def _trained(self, batch: Batch, context: Context) -> NoiseGenerator:
        weights = context.generator("deep-confuse", "weights")
        side = batch.pictures.shape[-1]
        current = build_generator("unet", width=self.width, side=side, eps=self.eps, generator=weights)
        place(current, context.device)
        target = copy.deepcopy(current)
        optimizer = torch.optim.Adam(target.parameters(), lr=self.generator_lr)
        losses: list[float] = []
        checkpoint = context.checkpoint("deep-confuse")
        found = checkpoint.load() if checkpoint is not None else None
        if found is not None:
            restore_adam("target", target, optimizer, found[0])
            losses = found[1]["losses"]
        while len(losses) < self.rounds:
            current.load_state_dict(target.state_dict())
            losses.append(self._round(batch, current, target, optimizer, len(losses), context))
            if checkpoint is not None:
                checkpoint.save_if_due(adam_state("target", target, optimizer), {"losses": losses})
        context.meter.samples += 4 * self.rounds * self.epochs * len(batch)
        context.meter.facts["clean_loss"] = losses
        return target.requires_grad_(False)

    def _round(
        self,
        batch: Batch,
        current: NoiseGenerator,
        target: NoiseGenerator,
        optimizer: torch.optim.Adam,
        number: int,
        context: Context,
    ) -> float:
        """Train a new classifier and, along its way, the target; return the mean clean loss after virtual steps."""
        source = context.generator("deep-confuse", number)
        classifier = build_network(self.surrogate, len(batch.classes), batch.pictures.shape[-1], source)
        place(classifier, context.device).train()
        descent = torch.optim.SGD(classifier.parameters(), lr=self.lr)
        total, seen = 0.0, 0
        for _ in range(self.epochs):
            for rows in _batches(len(batch), self.batch_size, source):
                pictures, labels = batch.pictures[rows].to(context.device), batch.labels[rows].to(context.device)
                loss = clean_loss_after_a_step(classifier, target, pictures, labels, self.lr)
                for parameter, gradient in zip(
                    target.parameters(), torch.autograd.grad(-loss, list(target.parameters())), strict=True
                ):
                    parameter.grad = gradient
                optimizer.step()
                with torch.no_grad():
                    noisy = (pictures + current(pictures)).clamp(0, 1)
                descent.zero_grad(set_to_none=True)
                F.cross_entropy(classifier(noisy), labels).backward()
                descent.step()
                total, seen = total + float(loss.detach()) * len(rows), seen + len(rows)
        return total / seen


def clean_loss_after_a_step(
    classifier: nn.Module, generator: nn.Module, pictures: Tensor, labels: Tensor, lr: float
) -> Tensor:
    """Return a classifier's loss on clean pictures as it would be after one gradient step on noisy ones.

    The classifier, its buffers included, is not changed. Differentiable in the generator, through the step.

    Args:
        classifier: takes pictures in [0, 1]; used in the mode that it is in.
        generator: gives the noise of pictures.
        pictures: clean, [n, 3, H, W].
        labels: [n].
        lr: length of the step.
    """
    parameters: dict[str, Tensor] = dict(classifier.named_parameters())
    noisy = (pictures + generator(pictures)).clamp(0, 1)
    loss = F.cross_entropy(functional_call(classifier, (parameters, _copies(classifier)), (noisy,)), labels)
    gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    stepped = {name: p - lr * g for (name, p), g in zip(parameters.items(), gradients, strict=True)}
    return F.cross_entropy(functional_call(classifier, (stepped, _copies(classifier)), (pictures,)), labels)


def _copies(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of the buffers, which training mode would overwrite."""
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


def _batches(n: int, size: int, source: Generator) -> list[Tensor]:
    """Return positions in a random order, batch by batch; one of a single picture is left out: batch norm needs two."""
    return [rows for rows in torch.randperm(n, generator=source).split(size) if len(rows) > 1 or n == 1]
