"""Orthogonal projection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError
from countermove.learning.scoring import Examples
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float
from countermove.unlearnable.countermeasure import Plan, ReplyContext, check_halves

_SPANNED = 1e-5
"""A row adds a direction where what is new in it is more than this share of the largest such part."""


@dataclass(frozen=True, kw_only=True)
class OrthogonalProjection:
    """Orthogonal projection, Sandoval-Segura et al. 2023, arXiv:2305.19254.

    A linear model without bias is trained on the received pictures: its weights point along the class-wise noise that
    it found easiest. Every picture loses its part in the space that they span, and is clipped and rounded.

    epochs:     of the linear model (paper: 20).
    batch_size: pictures a step (paper: 1024, on 50,000 pictures). With a few thousand pictures that is few steps: the
                weights are then still near the class means, and more of every picture goes; 128 is better there.
    lr:         learning rate, divided by ten at half and at three quarters of the steps (paper: 0.1).
    train:      project what was received.
    test:       project the pictures that the trained model judges.

    Differs from the released code: the weights begin at zero, not at random, so that pictures lose nothing along
    directions that were drawn and not learned (the space then has one dimension less than there are classes); pictures
    are centred while the linear model is trained; their order is shuffled; results are clipped to [0, 1] and 8-bit. The
    stronger augmentation that the paper trains with afterwards is another countermeasure: orthogonal-projection+cutmix.
    """

    version: ClassVar[int] = 1

    epochs: int = 20
    batch_size: int = 1024
    lr: float = 0.1
    train: bool = True
    test: bool = False

    def __post_init__(self) -> None:
        check_halves(self.train, self.test)
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.lr < 1000:
            raise ConfigError(
                f"orthogonal-projection: epochs = {self.epochs}, batch_size = {self.batch_size}, lr = {self.lr} is "
                "refused: at least one epoch, one picture a step, and an lr above 0 such as 0.1"
            )

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the plan with projected pictures."""
        weights = linear_weights(plan.received, self.epochs, self.batch_size, self.lr, context)
        squeeze = partial(project, directions=span(weights).cpu())
        spent = plan.samples + self.epochs * len(plan.received)
        return replace(plan.squeezed(squeeze, train=self.train, test=self.test), samples=spent)


def linear_weights(received: Examples, epochs: int, batch_size: int, lr: float, context: ReplyContext) -> Tensor:
    """Return the weights [K, 3HW] of a logistic regression without bias, on the context's device."""
    device, source = context.device, generator(context.seed, "orthogonal-projection")
    pictures, labels = received.pictures.to(device), received.labels.to(device)
    mean = pictures.float().mean(0) / 255
    weights = torch.zeros(max(2, int(labels.max()) + 1), mean.numel(), device=device)
    steps = epochs * -(-len(labels) // batch_size)
    step = 0
    for _ in range(epochs):
        for rows in torch.randperm(len(labels), generator=source).to(device).split(batch_size):
            x = (to_float(pictures[rows]) - mean).flatten(1)
            wrong = (x @ weights.T).softmax(1) - F.one_hot(labels[rows], len(weights))
            rate = lr * 0.1 ** ((step >= steps / 2) + (step >= 3 * steps / 4))
            weights -= rate / len(rows) * wrong.T @ x
            step += 1
    return weights


def span(weights: Tensor) -> Tensor:
    """Return orthonormal rows, float64 [R, D], that span the rows of weights [K, D]; R is their rank.

    The rows of softmax weights that began at zero sum to zero, so the last one adds no direction: what a QR
    decomposition gives for it is rounding noise, and is left out.
    """
    q, r = torch.linalg.qr(weights.double().T)
    sizes = r.diagonal().abs()
    return q.T[sizes > _SPANNED * sizes.max()]


def project(pictures: Tensor, directions: Tensor) -> Tensor:
    """Take away from pictures [N, 3, H, W] their part along orthonormal rows [R, 3HW]; clipped to [0, 1]."""
    flat = pictures.flatten(1).to(directions)
    return (flat - (flat @ directions.T) @ directions).view_as(pictures).to(pictures).clamp(0, 1)
