"""Descent on the picture as it is saved: what moves of this project share. Legend: N pictures of 3 x H x W."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.balls import check_radius
from countermove.pixels.quick_ssim import WINDOW, QuickSsim
from countermove.pixels.randomness import generator, per_sample
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.steps import frozen
from countermove.retrieval.query import QueryContext, Together, similarity

HALVINGS = 6


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Sign steps with momentum along the gradient of a likeness, taken at the 8-bit picture.

    eps:      radius (L-infinity), in [0, 1] pixel units.
    step:     length of a step, likewise.
    steps:    how many, at most.
    momentum: share of the former direction that is kept, both normalised to a mean of one.
    scales:   sizes at which the picture is shown, one step after the other; 1 is its own.
    jitter:   every size but 1 is varied at random by up to this share.
    enough:   likeness at which a picture is done, measured at its own size.
    floor:    SSIM that is kept; 0: no limit.
    """

    eps: float
    step: float
    steps: int
    momentum: float
    scales: tuple[float, ...]
    jitter: float
    enough: float
    floor: float

    @classmethod
    def of(cls, method: Any) -> Descent:
        """Return a move's settings of the same names."""
        return cls(**{f.name: getattr(method, f.name) for f in fields(cls)})

    def check(self, owner: str) -> None:
        """Refuse what makes no sense.

        Raises:
            ConfigError: naming the move and the setting.
        """
        check_radius(self.eps, norm="linf")
        refused = [
            (self.steps < 1, "steps", "at least 1"),
            (not 0 < self.step <= 1, "step", "above 0, such as 2/255"),
            (not 0 <= self.momentum < 100, "momentum", "0 or more, such as 1"),
            (not self.scales or not all(0.1 <= s <= 4 for s in self.scales), "scales", "a list of 0.1 to 4"),
            (1 not in self.scales, "scales", "a list with 1 in it, the picture's own size"),
            (not 0 <= self.jitter < 1, "jitter", "in [0, 1)"),
            (not -100 <= self.enough <= 1, "enough", "at most 1, the likeness to itself"),
            (not 0 <= self.floor < 1, "floor", "an SSIM in [0, 1)"),
        ]
        for wrong, name, said in refused:
            if wrong:
                raise ConfigError(f"move {owner!r}: {name} = {getattr(self, name)!r} is refused; it is {said}")

    def sizes(self, shape: tuple[int, int], seed: int) -> list[tuple[int, int]]:
        """Return the height and width of every step."""
        source, sizes = generator(seed, "sizes of steps"), []
        for number in range(self.steps):
            scale = self.scales[number % len(self.scales)]
            draw = float(2 * torch.rand((), generator=source) - 1)
            scale *= 1 if scale == 1 else 1 + self.jitter * draw
            sizes.append((max(8, round(scale * shape[0])), max(8, round(scale * shape[1]))))
        return [shape if self.scales[i % len(self.scales)] == 1 else size for i, size in enumerate(sizes)]


def random_signs(like: Tensor, ids: Sequence[str], seed: int, purpose: str) -> Tensor:
    """Return -1 or 1 for every value; a picture's follow its id."""
    shape = like.shape[1:]
    return per_sample(seed, purpose, ids, lambda g: torch.randint(0, 2, shape, generator=g) * 2.0 - 1).to(like)


def largest(
    score: Callable[[Tensor], Tensor], floor: float | Tensor, *, most: float = 1.0, halvings: int = HALVINGS
) -> Tensor:
    """Return the largest number in [0, most] for every picture, [N, 1, 1, 1], whose score is not below the floor.

    The score falls with the number. It is found to `most` over 2 to the number of halvings, from below.
    """
    whole = score(torch.tensor(most)) >= floor
    low = torch.zeros(len(whole), 1, 1, 1, device=whole.device)
    if whole.all():
        return low + most
    high = torch.full_like(low, most)
    for _ in range(halvings):
        middle = (low + high) / 2
        fine = (score(middle) >= floor).view_as(low)
        low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
    return torch.where(whole.view_as(low), most, low)


@dataclass(frozen=True)
class Aim:
    """How like a goal a descriptor is, seen from the centre of all descriptors: 1 for the goal, 0 for the centre.

    Descriptors of pooled activations have cosines far above 0 with each other. A picture can lose most of its likeness
    by going where every picture may go, and engines still find what is like it: they compare pictures with each other.
    From the centre that is no way out. With the centre at zero, likeness is the cosine.

    goal:   descriptors [N, D].
    centre: [D], or [1] that is zero.
    """

    goal: Tensor
    centre: Tensor

    def likeness(self, descriptors: Tensor, rows: Tensor) -> Tensor:
        """Return how like the goals of some rows their descriptors are, [n]."""
        way = self.goal[rows] - self.centre
        return ((descriptors - self.centre) * way).sum(1) / way.square().sum(1).clamp(min=1e-12)


def descend(
    descent: Descent,
    clean: Tensor,
    start: Tensor,
    aim: Aim,
    *,
    toward: bool,
    network: Together,
    context: QueryContext,
) -> Tensor:
    """Return 8-bit pictures (as float) whose descriptors went away from a goal, or toward it.

    Args:
        descent: how.
        clean: 8-bit pictures as float [N, 3, H, W], on the device.
        start: random signs, likewise; the first step goes there, as there is no gradient at the picture itself.
        aim: from where, or where to.
        toward: whether the likeness is raised instead of lowered.
        network: what describes.
        context: for the seed and the meter.
    """
    sense = -1.0 if toward else 1.0
    shape = (clean.shape[2], clean.shape[3])
    best, least = clean.clone(), clean.new_full((len(clean),), math.inf)
    rows = torch.arange(len(clean), device=clean.device)
    change = clip(min(descent.eps, descent.step) * start, clean)
    direction = torch.zeros_like(change)
    ssim = QuickSsim(clean) if descent.floor and min(shape) >= WINDOW else None
    with frozen(network):
        for size in [*descent.sizes(shape, context.seed), None]:
            own_size = size in (None, shape)
            if own_size:
                change = lessened(descent.floor, change, clean[rows], rows, ssim)
            saved = clean[rows] + (255 * change).round() / 255
            gradient, likeness = _look(network, saved, size, shape, aim, rows, sense)
            context.meter.samples += len(rows) * len(network.parts) * _cost(size, shape)
            if own_size:
                better = likeness < least[rows]
                best[rows[better]], least[rows[better]] = saved[better], likeness[better]
            left = least[rows] > sense * descent.enough
            if gradient is None or not left.any():
                break
            rows, change, direction, gradient = rows[left], change[left], direction[left], gradient[left]
            strength = gradient.abs().mean((1, 2, 3), keepdim=True)
            direction = descent.momentum * direction + torch.where(strength > 0, gradient / strength, 0)
            change = (change - descent.step * direction.sign()).clamp(-descent.eps, descent.eps)
            change = clip(change, clean[rows])
    return raised(descent.floor, best, clean)


def clip(change: Tensor, clean: Tensor) -> Tensor:
    """Return the change that leaves values in [0, 1]."""
    return (clean + change).clamp(0, 1) - clean


def _look(
    network: Together,
    saved: Tensor,
    size: tuple[int, int] | None,
    shape: tuple[int, int],
    aim: Aim,
    rows: Tensor,
    sense: float,
) -> tuple[Tensor | None, Tensor]:
    """Return the gradient and the likeness of saved pictures at a size; no gradient where there is no size."""
    with torch.set_grad_enabled(size is not None):
        leaf = saved.clone().requires_grad_(size is not None)
        seen = leaf if size in (None, shape) else F.interpolate(leaf, size, mode="bilinear", antialias=True)
        likeness = sense * aim.likeness(network(seen), rows)
        gradient = None if size is None else torch.autograd.grad(likeness.sum(), leaf)[0]
    return gradient, likeness.detach()


def _cost(size: tuple[int, int] | None, shape: tuple[int, int]) -> float:
    return 0.5 if size is None else size[0] * size[1] / (shape[0] * shape[1])


def lessened(floor: float, change: Tensor, clean: Tensor, rows: Tensor, ssim: QuickSsim | None) -> Tensor:
    """Return as much of the change as about keeps the SSIM, whose distance to 1 grows with the square of a change."""
    if ssim is None:
        return change
    away = 1 - ssim(clean + change, rows)
    return change * ((1 - floor) / away.clamp(min=1e-9)).sqrt().clamp(max=1).view(-1, 1, 1, 1)


def raised(floor: float, moved: Tensor, clean: Tensor) -> Tensor:
    """Return pictures with 8 bits and as much of their change as leaves them the SSIM."""
    if not floor or min(clean.shape[2:]) < WINDOW:
        return moved
    share = largest(lambda s: similarity(clean + s * (moved - clean), clean), floor)
    return to_float(to_uint8(clean + share * (moved - clean))).to(clean)
