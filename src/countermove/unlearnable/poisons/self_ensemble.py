"""Self-ensemble protection: adversarial pictures for all stages of one network's training at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.learning.recipe import Recipe
from countermove.nets.features import logits_and_features
from countermove.nets.registry import check_network
from countermove.pixels.balls import Ball, Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.steps import frozen
from countermove.unlearnable.crafting import advance, in_portions
from countermove.unlearnable.poison import Context, Surrogate


@dataclass(frozen=True, kw_only=True)
class SelfEnsemble:
    """Self-ensemble protection (SEP), Chen et al. 2023, arXiv:2211.12005.

    A surrogate is trained on the clean pictures and stages of its training are kept. Every picture walks towards
    another class, half of the classes further, along the gradient averaged over the stages.

    eps:         L-infinity radius (paper: 2/255 to 8/255).
    form:        "plain": the loss is the cross-entropy of the other class. "features": the mean squared distance of the
                 features to the mean feature of the other class (SEP-FA). "variance-reduced": the same along a
                 direction that is found by `inner` looks ahead (SEP-FA-VR).
    step:        length of one sign step (paper: 1/255); 0 means eps / 8.
    steps:       sign steps a picture (paper: 30).
    checkpoints: stages of the training, at equidistant epochs, all kept in memory (paper: 30; variance-reduced: 15).
    inner:       looks ahead in every step of the variance-reduced form (paper: 15; its released code: 16); 0 means as
                 many as checkpoints.
    surrogate, surrogate_epochs: the trained network (paper: resnet-18, 120 epochs).
    batch_size:  pictures a step (released code: 5000).

    The defaults are for a CPU: 15 steps against 5 stages, where the paper takes 30 against 30.
    Differs from the released code: its variance-reduced form compares the features of every stage with the class means
    of the last one; here every stage has its own. It keeps a stage only where the test accuracy improved; here none is
    left out.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "linf"
    streams: ClassVar[bool] = False

    eps: float = 8 / 255
    form: Literal["plain", "features", "variance-reduced"] = "plain"
    step: float = 0.0
    steps: int = 15
    checkpoints: int = 5
    inner: int = 0
    surrogate: str = "small-cnn"
    surrogate_epochs: int = 20
    batch_size: int = 256

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        check_network(self.surrogate)
        if min(self.step, self.inner) < 0 or min(self.steps, self.batch_size, self.surrogate_epochs) < 1:
            raise ConfigError(
                "self-ensemble: step and inner are not negative; steps, batch_size and surrogate_epochs are at least 1"
            )
        if not 1 <= self.checkpoints <= self.surrogate_epochs:
            raise ConfigError(
                f"self-ensemble: checkpoints = {self.checkpoints} is refused: at least 1 and at most one an epoch, of "
                f"which there are {self.surrogate_epochs}; set surrogate_epochs for more"
            )

    def surrogates(self) -> tuple[Surrogate, ...]:
        """Return the network that must be trained first."""
        recipe = Recipe(epochs=self.surrogate_epochs)
        return (Surrogate(model=self.surrogate, recipe=recipe, checkpoints=self.checkpoints),)

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones."""
        targets = _other_class(batch)
        if self.form != "plain":
            _refuse_absent(batch, targets)
        with ExitStack() as stack:
            stages = []
            for network in context.checkpoints(*self.surrogates()):
                stack.enter_context(frozen(network))
                means = None if self.form == "plain" else class_means(network, batch, self.batch_size, context.device)
                stages.append(Stage(network=network, means=means))

            def craft(part: Batch, number: int) -> Tensor:
                source = context.generator("self-ensemble", number)
                pictures, others = part.pictures.to(context.device), _other_class(part).to(context.device)
                return self._descend(stages, pictures, others, source, context)

            noise = in_portions(batch, self.batch_size, context, craft)
        return batch.with_pictures((batch.pictures + noise).clamp(0, 1))

    def _descend(
        self, stages: Sequence[Stage], pictures: Tensor, targets: Tensor, source: Generator, context: Context
    ) -> Tensor:
        """Return the noise of placed pictures."""
        ball = Ball(norm="linf", radius=self.eps)
        looks = (self.inner or len(stages)) if self.form == "variance-reduced" else 0
        stepped = partial(advance, pictures, ball=ball, step=self.step or self.eps / 8)

        def at(stage: int, noise: Tensor) -> Tensor:
            return stages[stage].gradient(pictures + noise, targets)

        noise = torch.zeros_like(pictures)
        for _ in range(self.steps):
            gradients = torch.stack([at(stage, noise) for stage in range(len(stages))])
            if looks:
                picks = torch.randint(len(stages), (looks,), generator=source).tolist()
                direction = variance_reduced(at, gradients, noise, picks, stepped)
            else:
                direction = gradients.mean(0)
            noise = stepped(noise, direction)
            context.meter.samples += (len(stages) + looks) * len(pictures)
        return noise


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One checkpoint, with the mean feature of each class *as it sees them*.

    network: frozen.
    means:   [K, D]; None where the loss is the cross-entropy.
    """

    network: nn.Module
    means: Tensor | None

    def gradient(self, pictures: Tensor, targets: Tensor) -> Tensor:
        """Return the gradient of each picture's own loss towards its target class, [N, 3, H, W]."""
        leaf = pictures.detach().requires_grad_()
        if self.means is None:
            loss = F.cross_entropy(self.network(leaf), targets, reduction="sum")
        else:
            _, features = logits_and_features(self.network, leaf)
            loss = (features - self.means[targets]).square().mean(1).sum()
        return torch.autograd.grad(loss, leaf)[0]


def variance_reduced(
    at: Callable[[int, Tensor], Tensor],
    gradients: Tensor,
    noise: Tensor,
    picks: Sequence[int],
    stepped: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return a direction for the noise, summed up while looking ahead with one stage at a time.

    Each look adds a stage's gradient where the look has come to, corrected by how much that stage differed from the
    average at the outset; then the look moves along the sum so far. If looks stood still, the sum would be the average
    gradient times the number of looks.

    Args:
        at: (stage, noise) -> gradient [N, 3, H, W].
        gradients: of all stages at the noise, [S, N, 3, H, W].
        noise: where the looks begin.
        picks: the stage of each look.
        stepped: (noise, direction) -> noise one step later.
    """
    correction = gradients.mean(0) - gradients
    total, ahead = torch.zeros_like(noise), noise
    for pick in picks:
        total = total + at(pick, ahead) + correction[pick]
        ahead = stepped(ahead, total)
    return total


@torch.no_grad()
def class_means(network: nn.Module, batch: Batch, size: int, device: str) -> Tensor:
    """Return the mean feature of each class, [K, D], on the device; zeros for a class without pictures."""
    parts = torch.arange(len(batch)).split(size)
    features = torch.cat([logits_and_features(network, batch.pictures[rows].to(device))[1] for rows in parts])
    labels = batch.labels.to(device)
    total = features.new_zeros(len(batch.classes), features.shape[1]).index_add_(0, labels, features)
    return total / torch.bincount(labels, minlength=len(total)).clamp(min=1)[:, None]


def _other_class(batch: Batch) -> Tensor:
    return (batch.labels + len(batch.classes) // 2) % len(batch.classes)


def _refuse_absent(batch: Batch, targets: Tensor) -> None:
    absent = sorted(set(targets.tolist()) - set(batch.labels.tolist()))
    if absent:
        names = ", ".join(repr(batch.classes[label]) for label in absent)
        raise DataError(
            f"self-ensemble: pictures walk towards the mean feature of {names}, of which there is no picture here; "
            "move pictures of all classes, or take form=plain"
        )
