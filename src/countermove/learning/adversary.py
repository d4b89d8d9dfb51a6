"""Adversarial pictures for a training batch: what adversarial training trains on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from countermove.errors import ConfigError
from countermove.pixels.balls import Ball, Norm, check_radius
from countermove.pixels.steps import frozen, sign_gradient


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """Projected gradient ascent from a random start, Madry et al. 2018, arXiv:1706.06083.

    norm:  "linf" or "l2".
    eps:   radius, in [0, 1] pixel units (usual: 8/255 for linf, 0.5 for l2).
    step:  length of one step.
    steps: how many.

    The network is frozen meanwhile, in evaluation mode.
    """

    norm: Norm = "linf"
    eps: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10

    def __post_init__(self) -> None:
        if self.norm == "l0":
            raise ConfigError("adversary: norm = 'l0' is refused: adversarial training is defined for 'linf' and 'l2'")
        check_radius(self.eps, norm=self.norm)
        if self.step < 0 or self.steps < 1:
            raise ConfigError("adversary: step is not negative and steps at least 1")

    @property
    def passes(self) -> int:
        """Forward-backward passes of every picture besides the training step's own."""
        return self.steps

    def __call__(
        self, model: nn.Module, pictures: Tensor, targets: Tensor, *, generator: Generator, progress: float
    ) -> tuple[Tensor, Tensor]:
        """Return pictures [N, 3, H, W] inside the ball and [0, 1] that the model gets wrong, and the same targets.

        targets are labels [N] or class probabilities [N, K]; progress is not used.
        """
        changes = sign_gradient(
            model,
            pictures,
            targets,
            ball=Ball(norm=self.norm, radius=self.eps),
            step=self.step,
            steps=self.steps,
            minimize=False,
            random_start=generator,
            loss=partial(F.cross_entropy, reduction="sum"),
            chunk=len(pictures),
        )
        return pictures + changes, targets


@dataclass(frozen=True, kw_only=True)
class FeatureAdversary:
    """Pictures whose features are moved as far as they go: adversarial training of a network behind a head.

    part:  attribute of the trained model that holds the network with the features.
    eps:   radius (L-infinity), in [0, 1] pixel units.
    steps: of 2.5 eps / steps each, from a random start.
    """

    part: str
    eps: float
    steps: int = 4

    @property
    def passes(self) -> float:
        """Forward-backward passes spent on every picture."""
        return self.steps

    def __call__(
        self, model: nn.Module, pictures: Tensor, targets: Tensor, *, generator: Generator, progress: float
    ) -> tuple[Tensor, Tensor]:
        """Return moved pictures and the same targets."""
        network = model.get_submodule(self.part)
        with frozen(network), torch.no_grad():
            clean = network(pictures)
        changes = sign_gradient(
            network,
            pictures,
            clean,
            ball=Ball(norm="linf", radius=self.eps),
            step=2.5 * self.eps / self.steps,
            steps=self.steps,
            minimize=False,
            random_start=generator,
            loss=_squared_distance,
            chunk=len(pictures),
        )
        return pictures + changes, targets


def _squared_distance(features: Tensor, reference: Tensor) -> Tensor:
    return (features - reference).square().sum(1)
