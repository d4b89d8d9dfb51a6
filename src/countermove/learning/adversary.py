"""Adversarial pictures for a training batch: what adversarial training trains on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from countermove.errors import ConfigError
from countermove.pixels.balls import Ball, Norm, check_radius
from countermove.pixels.steps import frozen


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
        ball = Ball(norm=self.norm, radius=self.eps)
        delta = (pictures + ball.draw(pictures, generator)).clamp(0, 1) - pictures
        with frozen(model), torch.enable_grad():
            for _ in range(self.steps):
                leaf = (pictures + delta).requires_grad_()
                loss = F.cross_entropy(model(leaf), targets, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, leaf)
                delta = ball.project(delta + self.step * _steepest(gradient, self.norm))
                delta = (pictures + delta).clamp(0, 1) - pictures
        return (pictures + delta).detach(), targets


def _steepest(gradient: Tensor, norm: Norm) -> Tensor:
    if norm == "linf":
        return gradient.sign()
    return gradient / gradient.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
