"""What cloaks that count structural similarity share. Legend: N photos of 3 x H x W."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.quick_ssim import QuickSsim

_DECAY, _EPS = 0.95, 1e-7
_INSIDE = 1 - 1e-6


class Dssim:
    """Structural dissimilarity (1 - SSIM) / 2 to fixed photos, differentiable; their own terms are computed once.

    See `QuickSsim`; its settings are those of tf.image.ssim.
    """

    def __init__(self, clean: Tensor) -> None:
        """Compute the clean photos' terms.

        Raises:
            DataError: when a side is under 11 pixels.
        """
        self.ssim = QuickSsim(clean)

    def __call__(self, moved: Tensor) -> Tensor:
        """Return one number a photo, [N]; 0 for equal ones, at most 1."""
        return (1 - self.ssim(moved)) / 2

    def rows(self, index: Tensor) -> Dssim:
        """Return the same for some of the photos."""
        some = object.__new__(Dssim)
        some.ssim = self.ssim.rows(index)
        return some


@dataclass
class Adadelta:
    """Zeiler's method with Keras's constants (decay 0.95, epsilon 1e-7); every entry has its own state."""

    square: Tensor
    step: Tensor

    @classmethod
    def like(cls, z: Tensor) -> Adadelta:
        """Begin with nothing."""
        return cls(torch.zeros_like(z), torch.zeros_like(z))

    def move(self, z: Tensor, gradient: Tensor, lr: float) -> Tensor:
        """Return z after a step downhill."""
        self.square = _DECAY * self.square + (1 - _DECAY) * gradient.square()
        step = ((self.step + _EPS) / (self.square + _EPS)).sqrt() * gradient
        self.step = _DECAY * self.step + (1 - _DECAY) * step.square()
        return z - lr * step

    def rows(self, index: Tensor) -> Adadelta:
        """Return the state of some rows."""
        return Adadelta(self.square[index], self.step[index])


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How far a cloak may go and how it gets there: a budget (DSSIM), steps, a learning rate."""

    budget: float
    steps: int
    lr: float

    def but(self, *, budget: float | None, steps: int | None, lr: float | None, owner: str) -> Schedule:
        """Return it with what was asked for in place of its own.

        Raises:
            ConfigError: a budget that is not between 0 and 1, no steps, or a rate that is not positive.
        """
        asked = {"budget": budget, "steps": steps, "lr": lr}
        made = replace(self, **{name: value for name, value in asked.items() if value is not None})
        if not 0 < made.budget < 1 or made.steps < 1 or made.lr <= 0:
            raise ConfigError(f"move {owner!r}: budget, steps and lr are above 0, the budget below 1")
        return made


def to_tanh(photos: Tensor) -> Tensor:
    """Return z with (tanh(z) + 1) / 2 = photos, clipped just inside [0, 1] so that z is finite."""
    return ((2 * photos - 1) * _INSIDE).atanh()


def from_tanh(z: Tensor) -> Tensor:
    """Return photos in [0, 1]."""
    return (z.tanh() + 1) / 2


def gradient_of(objective: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """Return an objective's values, one a row, and their gradient.

    Raises:
        DataError: when the gradient is not finite.
    """
    with torch.enable_grad():
        at = z.detach().requires_grad_()
        values = objective(at)
        (gradient,) = torch.autograd.grad(values.sum(), at)
    if not gradient.isfinite().all():
        raise DataError("the extractor's gradient is not finite; check its weights")
    return values.detach(), gradient
