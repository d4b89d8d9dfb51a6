"""Balls that a change to a picture must stay in: L-infinity, L2 and L0, with exact projections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from countermove.errors import ConfigError, did_you_mean

Norm = Literal["linf", "l2", "l0"]

SLACK = 1e-7
"""Error of one entry of the difference of two float32 pictures in [0, 1]; one 8-bit level is 40,000 times as much."""


@dataclass(frozen=True, kw_only=True)
class Ball:
    """All changes to a picture that are no larger than a radius.

    norm:   "linf" (largest change of a value), "l2" (Euclidean length over all values of a picture) or "l0" (number
            of pixels that change; a pixel is a position with all its channels).
    radius: in [0, 1] pixel units, such as 8/255; for l0 a whole number of pixels.

    Raises:
        ConfigError: an unknown norm, or a radius that `check_radius` refuses.
    """

    norm: Norm = "linf"
    radius: float

    def __post_init__(self) -> None:
        """Refuse a radius that makes no sense."""
        check_radius(self.radius, norm=self.norm)

    def measure(self, delta: Tensor) -> Tensor:
        """Return the norm of each sample's change, [N, C, H, W] -> [N]; l2 is summed in float64."""
        if self.norm == "linf":
            return delta.abs().flatten(1).amax(1)
        if self.norm == "l2":
            return torch.linalg.vector_norm(delta.flatten(1), dim=1, dtype=torch.float64).to(delta.dtype)
        return (delta != 0).any(1).flatten(1).sum(1).to(delta.dtype)

    def contains(self, delta: Tensor, slack: float = SLACK) -> Tensor:
        """Return which samples are inside, bool [N].

        Args:
            delta: changes [N, C, H, W].
            slack: error allowed in every single entry. The default is what the difference of two float32 pictures
                carries; for l0 an entry that small counts as unchanged.
        """
        delta = delta.detach().double()
        if self.norm == "l0":
            delta = torch.where(delta.abs() > slack, delta, 0)
            return self.measure(delta) <= self.radius
        if self.norm == "l2":
            slack *= math.sqrt(delta[0].numel()) if len(delta) else 0
        return self.measure(delta) <= self.radius + slack

    def project(self, delta: Tensor) -> Tensor:
        """Return the nearest change (in Euclidean distance) that is inside; one already inside comes back as it is.

        For l0 the positions with the longest vectors over their channels stay, the earlier one of two equals.

        Args:
            delta: changes [N, C, H, W].
        """
        if self.norm == "linf":
            return delta.clamp(-self.radius, self.radius)
        if self.norm == "l2":
            length = torch.linalg.vector_norm(delta.flatten(1), dim=1, dtype=torch.float64)
            factor = (self.radius / length).nan_to_num(nan=1.0, posinf=1.0).clamp(max=1.0)
            return delta * factor.to(delta.dtype)[:, None, None, None]
        count = int(self.radius)
        magnitude = delta.square().sum(1).flatten(1)
        if count >= magnitude.shape[1]:
            return delta
        kept = magnitude.argsort(dim=1, descending=True, stable=True)[:, :count]
        mask = torch.zeros_like(magnitude, dtype=torch.bool).scatter_(1, kept, True)
        return torch.where(mask.view(len(delta), 1, *delta.shape[2:]), delta, 0)

    def draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Return random changes inside the ball, shaped like a [N, C, H, W] tensor and on its device.

        linf and l2: uniform in the ball. l0: uniform in [-1, 1] on random positions. The generator is a CPU one, so
        that every device gets the same numbers.
        """
        shape = like.shape
        if self.norm == "l2":
            noise = torch.randn(shape, generator=generator).flatten(1)
            length = torch.rand(len(noise), 1, generator=generator) ** (1 / max(noise.shape[1], 1))
            delta = (self.radius * length * noise / noise.norm(dim=1, keepdim=True)).view(shape)
        else:
            delta = torch.rand(shape, generator=generator) * 2 - 1
            delta = delta * self.radius if self.norm == "linf" else self._at_random_positions(delta, generator)
        return self.project(torch.empty_like(like).copy_(delta))

    def _at_random_positions(self, delta: Tensor, generator: torch.Generator) -> Tensor:
        n, _, height, width = delta.shape
        rank = torch.rand(n, height * width, generator=generator).argsort(dim=1).argsort(dim=1)
        return torch.where(rank.view(n, 1, height, width) < self.radius, delta, 0)


def check_radius(eps: float, *, norm: Norm) -> float:
    """Return the radius when it makes sense for the norm.

    Raises:
        ConfigError: an unknown norm; a radius that is no number, negative or not finite; an L-infinity radius above 1;
            an L0 radius that is not a whole number of pixels.
    """
    if norm not in get_args(Norm):
        raise ConfigError(f"unknown norm {norm!r}; {did_you_mean(str(norm), get_args(Norm))}")
    if isinstance(eps, bool) or not isinstance(eps, (int, float)):
        raise ConfigError(f"eps = {eps!r} is not a number; write a radius like 8/255")
    if not math.isfinite(eps) or eps < 0:
        raise ConfigError(f"eps = {eps:g} is no radius; it must be a finite number that is not negative, like 8/255")
    if norm == "linf" and eps > 1:
        levels = f"write {eps:g}/255" if eps <= 255 else "write a fraction like 8/255"
        raise ConfigError(
            f"eps = {eps:g} is larger than the whole range of a picture; radii are in [0, 1] units: {levels}"
        )
    if norm == "l0" and eps != int(eps):
        raise ConfigError(f"eps = {eps:g} counts pixels for the norm 'l0' and must be a whole number, like 1 or 16")
    return eps
