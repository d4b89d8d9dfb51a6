"""What infinitely wide networks learn from N pictures in a given time, in closed form. Everything in float64.

The kernel is the neural tangent kernel of a fully connected network (Jacot et al. 2018, arXiv:1806.07572), whose
hidden layers are as in Cho and Saul 2009 (relu) and Williams 1996 (erf). Legend: N learned and M other pictures as
rows of D values, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Activation = Literal["relu", "erf"]

SAME = 1e-12
"""Two pictures whose cosine is that near to one count as the same: their angle is zero and does not change."""

NEAR = 1e-4
"""Eigenvalues times time that differ by less count as equal in a divided difference; its relative error is 4e-10."""


@dataclass(frozen=True, kw_only=True)
class DenseKernel:
    """The neural tangent kernel of an infinitely wide fully connected network.

    layers:     hidden layers; a linear readout follows.
    activation: "relu" or "erf", after every hidden layer.
    weight_var: variance of the weights, times the width of the layer before.
    bias_var:   variance of the biases.
    """

    layers: int
    activation: Activation
    weight_var: float
    bias_var: float

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the kernel [N, M] between rows [N, D] and [M, D]; differentiable in both."""
        here = self._affine(a.square().mean(1))
        there = self._affine(b.square().mean(1))
        covariance = self._affine(a @ b.T / a.shape[1])
        tangent = covariance
        for _ in range(self.layers):
            activated, slopes = dual(covariance, here, there, self.activation)
            covariance = self._affine(activated)
            tangent = covariance + self.weight_var * tangent * slopes
            here, there = (self._affine(_own_dual(own, self.activation)) for own in (here, there))
        return tangent

    def _affine(self, covariance: Tensor) -> Tensor:
        return self.weight_var * covariance + self.bias_var


def dual(covariance: Tensor, here: Tensor, there: Tensor, activation: Activation) -> tuple[Tensor, Tensor]:
    """Return the means of f(u) f(v) and of f'(u) f'(v), for Gaussian u and v of mean zero.

    Args:
        covariance: of u and v, [N, M].
        here: variances of u, [N].
        there: variances of v, [M].
        activation: f.
    """
    if activation == "erf":
        spread = (1 + 2 * here)[:, None] * (1 + 2 * there)
        return (
            2 / math.pi * torch.asin(2 * covariance / spread.sqrt()),
            4 / math.pi / (spread - 4 * covariance.square()).sqrt(),
        )
    length = (here[:, None] * there).clamp(min=torch.finfo(here.dtype).tiny).sqrt()
    cosine = covariance / length
    same = cosine > 1 - SAME
    inside = torch.where(same, 0.0, cosine.clamp(min=SAME - 1))
    angle = torch.where(same, 0.0, torch.acos(inside))
    sine = torch.where(same, 0.0, (1 - inside.square()).sqrt())
    cosine = torch.where(same, 1.0, cosine)
    return length * (sine + (math.pi - angle) * cosine) / (2 * math.pi), (math.pi - angle) / (2 * math.pi)


def _own_dual(variance: Tensor, activation: Activation) -> Tensor:
    """Return the mean of f(u) squared."""
    if activation == "erf":
        return 2 / math.pi * torch.asin(2 * variance / (1 + 2 * variance))
    return variance / 2


def regression_weights(kernel: Tensor, targets: Tensor, *, time: float, diag_reg: float) -> Tensor:
    """Return W [N, K] so that k(others, learned) @ W is the mean prediction of infinitely wide networks at a time.

    The networks start at zero and descend half the mean squared error over all N * K outputs, with steps of one; time
    counts the steps. W = (1 - exp(-time * kernel / (N * K))) / kernel @ targets.

    Args:
        kernel: of the learned pictures with themselves, [N, N].
        targets: one-hot classes, [N, K].
        time: how long they learn.
        diag_reg: added to the kernel's diagonal, as a share of its mean.
    """
    n, k = targets.shape
    regularized = kernel + diag_reg * kernel.diagonal().mean() * torch.eye(n, dtype=kernel.dtype, device=kernel.device)
    return _Learned.apply(regularized, targets, time / (n * k))  # pyright: ignore[reportReturnType]


class _Learned(torch.autograd.Function):
    """phi(S) @ Y for symmetric S, with phi(s) = (1 - exp(-time s)) / s.

    Its gradient goes by divided differences of phi (Daleckii and Krein), which stay finite where eigenvalues are equal;
    the gradient of an eigendecomposition does not.
    """

    @staticmethod
    def forward(ctx: Any, symmetric: Tensor, targets: Tensor, time: float) -> Tensor:
        values, vectors = torch.linalg.eigh(symmetric)
        ctx.save_for_backward(values, vectors, targets)
        ctx.time = time
        return vectors @ (learned_share(values, time)[:, None] * (vectors.T @ targets))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,) = gradients
        values, vectors, targets = ctx.saved_tensors
        turned, turned_targets = vectors.T @ gradient, vectors.T @ targets
        inner = turned @ turned_targets.T * divided_differences(values, ctx.time)
        whole = vectors @ inner @ vectors.T
        return (whole + whole.T) / 2, vectors @ (learned_share(values, ctx.time)[:, None] * turned), None


def learned_share(values: Tensor, time: float) -> Tensor:
    """Return phi(s) = (1 - exp(-time s)) / s; at s = 0 it is the time."""
    safe = torch.where(values == 0, 1.0, values)
    return torch.where(values == 0, time, -torch.expm1(-time * safe) / safe)


def divided_differences(values: Tensor, time: float) -> Tensor:
    """Return (phi(a) - phi(b)) / (a - b) for all pairs of values, [N] -> [N, N]; phi'(a) where they are equal."""
    phi = learned_share(values, time)
    apart = values[:, None] - values
    near = time * apart.abs() < NEAR
    middle = time * (values[:, None] + values) / 2
    small = middle.abs() < 1e-3  # where the difference below would lose its digits
    safe = torch.where(small, 1.0, middle)
    slope = (safe * torch.exp(-safe) + torch.expm1(-safe)) / safe.square()
    series = -1 / 2 + middle / 3 - middle.square() / 8 + middle**3 / 30
    tangent = time**2 * torch.where(small, series, slope)
    return torch.where(near, tangent, (phi[:, None] - phi) / torch.where(near, 1.0, apart))
