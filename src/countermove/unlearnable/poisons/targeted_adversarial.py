"""Targeted adversarial poisoning: pictures that a trained network takes for the next class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from countermove.errors import ConfigError
from countermove.learning.augment import Window, padded
from countermove.learning.recipe import Recipe
from countermove.nets.registry import check_network
from countermove.pixels.balls import Ball, Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import per_sample
from countermove.pixels.steps import frozen, sign_gradient
from countermove.unlearnable.crafting import in_portions
from countermove.unlearnable.poison import Context, Surrogate

SHIFT = 4


@dataclass(frozen=True, kw_only=True)
class TargetedAdversarial:
    """Targeted adversarial poisoning (TAP), Fowl et al. 2021, arXiv:2106.10807.

    A surrogate is trained on the clean pictures; then every picture of class y walks towards class y + 1 of the
    surrogate. A learner takes the features of the next class for those of this one.

    eps:        L-infinity radius (paper: 8/255).
    step:       length of one sign step, constant (paper: eps / 20); 0 means eps / 10.
    steps:      sign steps a picture (paper: 250).
    restarts:   random starts; each picture keeps the one that ended with the lowest loss (paper: 8).
    augment:    the surrogate sees randomly shifted and mirrored pictures in every step (paper: true).
    surrogate, surrogate_epochs: the trained network (paper: resnet-18, 40 epochs); shared with every poison that names
                the same.
    batch_size: pictures a step (paper: 512).

    The defaults are for a CPU: 30 steps a picture, where the paper takes 2,000.
    Differs from the released code: it keeps one restart for all pictures, we keep the best one of each picture; its
    start is a clamped normal one, ours uniform in the ball; it shifts by fractions of a pixel, we by whole pixels, both
    by up to 4 at a side of 32.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "linf"
    streams: ClassVar[bool] = False

    eps: float = 8 / 255
    step: float = 0.0
    steps: int = 30
    restarts: int = 1
    augment: bool = True
    surrogate: str = "small-cnn"
    surrogate_epochs: int = 20
    batch_size: int = 256

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        check_network(self.surrogate)
        if self.step < 0 or min(self.steps, self.restarts, self.batch_size, self.surrogate_epochs) < 1:
            raise ConfigError(
                "targeted-adversarial: step is not negative; steps, restarts, batch_size and surrogate_epochs are at "
                "least 1"
            )

    def surrogates(self) -> tuple[Surrogate, ...]:
        """Return the network that must be trained first."""
        return (Surrogate(model=self.surrogate, recipe=Recipe(epochs=self.surrogate_epochs)),)

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones."""
        network = context.trained(*self.surrogates())

        def craft(part: Batch, number: int) -> Tensor:
            return self._best(network, part, context, context.generator("targeted-adversarial", number))

        noise = in_portions(batch, self.batch_size, context, craft)
        return batch.with_pictures((batch.pictures + noise).clamp(0, 1))

    def _best(self, network: nn.Module, part: Batch, context: Context, source: Generator) -> Tensor:
        """Return the noise of each picture that ended with the lowest loss of all restarts."""
        targets = (part.labels + 1) % len(part.classes)
        best = torch.zeros_like(part.pictures)
        lowest = torch.full((len(part),), torch.inf)
        for restart in range(self.restarts):
            noise = sign_gradient(
                network,
                part.pictures,
                targets,
                ball=Ball(norm="linf", radius=self.eps),
                step=self.step or self.eps / 10,
                steps=self.steps,
                minimize=True,
                start=self._start(part, restart, context),
                chunk=self.batch_size,
                transform=_shifted_and_mirrored(source) if self.augment else None,
            )
            context.meter.samples += self.steps * len(part)
            loss = losses(network, part.pictures + noise, targets, context.device)
            better = loss < lowest
            best[better], lowest[better] = noise[better], loss[better]
        return best

    def _start(self, part: Batch, restart: int, context: Context) -> Tensor:
        shape = part.pictures.shape[1:]
        purpose = f"targeted-adversarial start {restart}"
        return self.eps * per_sample(
            context.seed, purpose, part.ids, lambda source: 2 * torch.rand(shape, generator=source) - 1
        )


@torch.no_grad()
def losses(network: nn.Module, pictures: Tensor, labels: Tensor, device: str) -> Tensor:
    """Return the frozen network's loss of each picture, seen as it is, on the CPU."""
    with frozen(network):
        return F.cross_entropy(network(pictures.to(device)), labels.to(device), reduction="none").cpu()


def _shifted_and_mirrored(source: Generator) -> Callable[[Tensor], Tensor]:
    def see(pictures: Tensor) -> Tensor:
        n, _, height, width = pictures.shape
        window = Window.draw(n, height, width, crop=SHIFT, flip=True, generator=source)
        return window.look(padded(pictures, SHIFT))

    return see
