"""Error-maximising noise: adversarial examples published as training data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.learning.recipe import Recipe
from countermove.nets.registry import check_network
from countermove.pixels.balls import Ball, Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.steps import frozen, sign_gradient
from countermove.unlearnable.class_noise import class_noise
from countermove.unlearnable.poison import Context, Surrogate, by_class


@dataclass(frozen=True, kw_only=True)
class ErrorMaximizing:
    """Error-maximizing noise (an adversarial baseline), Huang et al. 2021, arXiv:2101.04898.

    A surrogate is trained on the clean pictures; then the noise climbs its loss on them.

    eps:    L-infinity radius (paper: 8/255).
    form:   "sample": PGD on every picture. "class": one noise a class that raises the loss of all its pictures.
    step:   length of one sign step (paper: eps / 10); 0 means eps / 10.
    steps:  sign steps: 20 a picture, or sweeps over the class (paper: 20 and 1 a batch); 0 means these.
    surrogate, surrogate_epochs: the trained network (paper: resnet-18, 60 epochs); shared with every poison that names
            the same.
    batch_size: pictures a step.

    Differs from the released code: the class-wise form climbs the mean gradient of the class instead of averaging
    single steps, and goes over all pictures a fixed number of times instead of stopping at an error of 0.8.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "linf"
    streams: ClassVar[bool] = False

    eps: float = 8 / 255
    form: Literal["sample", "class"] = "sample"
    step: float = 0.0
    steps: int = 0
    surrogate: str = "small-cnn"
    surrogate_epochs: int = 20
    batch_size: int = 256

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        check_network(self.surrogate)
        if min(self.steps, self.step) < 0 or min(self.batch_size, self.surrogate_epochs) < 1:
            raise ConfigError("error-maximizing: steps are not negative; batch_size and surrogate_epochs at least 1")

    def surrogates(self) -> tuple[Surrogate, ...]:
        """Return the network that must be trained first."""
        return (Surrogate(model=self.surrogate, recipe=Recipe(epochs=self.surrogate_epochs)),)

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones."""
        network = context.trained(self.surrogates()[0])
        step = self.step or self.eps / 10
        if self.form == "class":
            return self._class_wise(batch, network, step, context)
        steps = self.steps or 20
        noise = sign_gradient(
            network,
            batch.pictures,
            batch.labels,
            ball=Ball(norm="linf", radius=self.eps),
            step=step,
            steps=steps,
            minimize=False,
            chunk=self.batch_size,
        )
        context.meter.samples += steps * len(batch)
        return batch.with_pictures((batch.pictures + noise).clamp(0, 1))

    def on_test(self, test: Batch, *, clean: Batch, moved: Batch, context: Context) -> Batch:
        """Return new pictures with their class's noise, or with noise of their own against the same surrogate."""
        if self.form == "sample":
            return self(test, context=context)
        noise = by_class(class_noise(clean, moved), test.labels)
        return test.with_pictures((test.pictures + noise).clamp(0, 1))

    def _class_wise(self, batch: Batch, network: nn.Module, step: float, context: Context) -> Batch:
        noise = torch.zeros(len(batch.classes), *batch.pictures.shape[1:])
        order = context.generator("error-maximizing")
        for _ in range(self.steps or 2):
            for rows in torch.randperm(len(batch), generator=order).split(self.batch_size):
                x, y = batch.pictures[rows], batch.labels[rows]
                climb = torch.zeros_like(noise).index_add_(0, y, self._gradient(network, x, noise[y], y, context))
                noise = (noise + step * climb.sign()).clamp(-self.eps, self.eps)
        return batch.with_pictures((batch.pictures + by_class(noise, batch.labels)).clamp(0, 1))

    def _gradient(self, network: nn.Module, x: Tensor, delta: Tensor, y: Tensor, context: Context) -> Tensor:
        with frozen(network):
            leaf = (x + delta).clamp(0, 1).to(context.device).requires_grad_(True)
            loss = F.cross_entropy(network(leaf), y.to(context.device), reduction="sum")
            context.meter.samples += len(y)
            return torch.autograd.grad(loss, leaf)[0].cpu()
