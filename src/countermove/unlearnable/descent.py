"""The inner problem of error-minimising noise: which noise lowers the loss of a frozen network most.

Legend: n pictures x [n, 3, H, W], noise [n, 3, P, P], where P x P is the whole picture or a square of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.pixels.steps import frozen
from countermove.unlearnable.patches import cut, put
from countermove.unlearnable.poison import Context
from countermove.unlearnable.views import Look, View

Solver = Literal["pgd", "adam", "lbfgs"]
MEMORY = 10


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How noise descends.

    eps, step, steps: the L-infinity radius, the length of a step and how many.
    solver:  "pgd" steps along the sign of the gradient and projects each time. The others minimise the sum over the
             pictures of cross entropy + penalty x |noise|^2, and project at the end.
    penalty: the weight c of equation 5 of Huang et al. 2021.
    """

    eps: float
    step: float
    steps: int
    solver: Solver = "pgd"
    penalty: float = 1.0

    def __call__(self, loss: Loss, noise: Tensor) -> Tensor:
        """Return noise [n, 3, P, P] inside eps that is better than the given one."""
        if self.solver == "pgd":
            for _ in range(self.steps):
                noise = loss.fitted((noise - self.step * loss.gradient(noise).sign()).clamp(-self.eps, self.eps))
            return noise
        return loss.fitted(self._penalised(loss, noise).clamp(-self.eps, self.eps))

    def _penalised(self, loss: Loss, noise: Tensor) -> Tensor:
        leaf = noise.clone().requires_grad_(True)

        def objective(scene: Scene) -> Tensor:
            value = loss(leaf, scene) + self.penalty * leaf.square().sum()
            leaf.grad = torch.autograd.grad(value, leaf)[0]
            return value.detach()

        if self.solver == "adam":
            optimizer = torch.optim.Adam([leaf], lr=self.step)
            for _ in range(self.steps):
                objective(loss.scene())
                optimizer.step()
            return leaf.detach()
        scene = loss.scene()  # a line search needs a function that stays the same
        search = torch.optim.LBFGS(
            [leaf], max_iter=self.steps, max_eval=2 * self.steps, history_size=MEMORY, line_search_fn="strong_wolfe"
        )
        search.step(lambda: objective(scene))  # pyright: ignore[reportArgumentType]
        return leaf.detach()


@dataclass(frozen=True)
class Scene:
    """What is drawn for one step: where squares lie and how pictures are seen."""

    places: Tensor | None
    look: Look


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The summed cross entropy of some pictures as a function of their noise.

    places: gives the places of one step; None where the noise covers the picture.
    inside: whether noise is cut so that picture + noise is in [0, 1]; otherwise the sum is cut, and the noise, which
            other pictures share, stays whole.
    """

    network: nn.Module
    x: Tensor
    y: Tensor
    view: View
    places: Callable[[], Tensor | None]
    inside: bool
    context: Context

    def scene(self) -> Scene:
        """Draw what one step needs."""
        return Scene(self.places(), self.view.draw(self.x))

    def __call__(self, noise: Tensor, scene: Scene) -> Tensor:
        """Return the loss with gradients to the noise."""
        moved = self.x + put(noise, scene.places, *self.x.shape[2:])
        return self._of(moved.clamp(0, 1), scene)

    def gradient(self, noise: Tensor) -> Tensor:
        """Return the gradient [n, 3, P, P] at noise, with respect to the pictures: a value at 0 or 1 has one too."""
        scene = self.scene()
        moved = self.x + put(noise, scene.places, *self.x.shape[2:])
        leaf = (moved if self.inside else moved.clamp(0, 1)).detach().requires_grad_(True)
        gradient = torch.autograd.grad(self._of(leaf, scene), leaf)[0]
        return cut(gradient, scene.places, noise.shape[-1])

    def fitted(self, noise: Tensor) -> Tensor:
        """Return noise so that picture + noise is in [0, 1], where it belongs to one picture."""
        if not self.inside:
            return noise
        x = cut(self.x, self.places(), noise.shape[-1])
        return (x + noise).clamp(0, 1) - x

    def _of(self, pictures: Tensor, scene: Scene) -> Tensor:
        with frozen(self.network):
            seen = placed(scene.look(pictures), self.context)
            self.context.meter.samples += len(self.y)
            return F.cross_entropy(self.network(seen), self.y.to(self.context.device), reduction="sum")


def placed(pictures: Tensor, context: Context) -> Tensor:
    """Return pictures on the context's device in channels_last memory."""
    return pictures.to(context.device).contiguous(memory_format=torch.channels_last)
