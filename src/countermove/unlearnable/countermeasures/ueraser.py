"""Augmentations against which a shortcut does not hold, and the hardest of several."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from countermove.errors import ConfigError
from countermove.learning.operations import apply
from countermove.pixels.clouds import clouds
from countermove.pixels.steps import frozen
from countermove.unlearnable.countermeasure import Plan, ReplyContext

RANGES = {
    "AutoContrast": (0.0, 0.0),
    "Equalize": (0.0, 0.0),
    "Rotate": (-30.0, 30.0),
    "Posterize": (1.0, 5.0),
    "Solarize": (0.0, 255.0),
    "Contrast": (-0.9, 0.9),
    "Brightness": (-0.9, 0.9),
    "Sharpness": (-0.9, 0.9),
    "ShearX": (-0.3, 0.3),
    "ShearY": (-0.3, 0.3),
    "TranslateX": (-0.5, 0.5),  # of the side
    "TranslateY": (-0.5, 0.5),
}
"""What TrivialAugment draws from: one operation and its strength, uniformly."""

ROUGHNESS = (0.3, 0.7)
INTENSITY = (0.5, 1.0)


@dataclass(frozen=True, kw_only=True)
class UEraser:
    """UEraser, Qin et al. 2023, arXiv:2303.15127.

    Every training picture is seen under a fractal change of brightness, one of contrast, with its channels shuffled,
    and through one operation of TrivialAugment (turn, shift, shear, equalise, ...). In the first part of the training
    there are several such views, and the model learns from the one that it finds hardest.

    views:       how many (paper: 5). 1 is the paper's UEraser-Lite.
    share:       of the training in which there are several (paper: 60 of 200 epochs); then there is one. 1 is the
                 paper's UEraser-Max, 0 its UEraser-Lite.
    probability: of each fractal change and of the shuffle (released code: 0.5; a benchmark took 1).

    A view that is only looked at costs a third of a forward-backward pass.

    Differs from the released code: the views are judged by the network in evaluation mode, and the training step then
    sees the hardest one alone, so that batch norm never meets the others; every picture draws its own operation of
    TrivialAugment (there: one for the whole batch); shears are tangents of up to 0.3 (there: angles of up to 54
    degrees); at least one bit of every value is kept. JPEG, which the authors add against two poisons by name, is left
    out: a reply does not know what it faces.
    """

    version: ClassVar[int] = 1

    views: int = 5
    share: float = 0.3
    probability: float = 0.5

    def __post_init__(self) -> None:
        if self.views < 1:
            raise ConfigError(f"ueraser: views = {self.views} is refused; at least one is needed")
        for name, value in (("share", self.share), ("probability", self.probability)):
            if not (math.isfinite(value) and 0 <= value <= 1):
                raise ConfigError(f"ueraser: {name} = {value:g} is refused; it must be in [0, 1]")

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        step = HardestView(views=self.views, share=self.share, probability=self.probability)
        return replace(plan, model_steps=(*plan.model_steps, step))


@dataclass(frozen=True, kw_only=True)
class HardestView:
    """Of several erased views of each picture, the one with the highest loss; see UEraser."""

    views: int
    share: float
    probability: float

    @property
    def passes(self) -> float:
        """Forward-backward passes of every picture besides the training step's own, on average over the training."""
        return self.share * self.views / 3 if self.views > 1 else 0.0

    def __call__(
        self, model: nn.Module, pictures: Tensor, targets: Tensor, *, generator: Generator, progress: float
    ) -> tuple[Tensor, Tensor]:
        """Return one view of each picture [N, 3, H, W] and the same targets (labels or class probabilities)."""
        views = self.views if progress < self.share else 1
        seen = erased(pictures.repeat(views, 1, 1, 1), self.probability, generator)
        if views == 1:
            return seen, targets
        by_view = seen.unflatten(0, (views, len(pictures)))
        with frozen(model), torch.no_grad():
            losses = torch.stack([F.cross_entropy(model(view), targets, reduction="none") for view in by_view])
        hardest = losses.argmax(0)
        return by_view[hardest, torch.arange(len(pictures), device=pictures.device)], targets


def erased(pictures: Tensor, probability: float, generator: Generator) -> Tensor:
    """Return one random view of each picture [N, 3, H, W]."""
    n, _, height, width = pictures.shape
    changed = pictures.clone()
    rows = _some(n, probability, generator, pictures.device)
    low, high = INTENSITY
    intensity = _uniform(len(rows), low, high, generator).to(pictures)[:, None, None, None]
    changed[rows] = (changed[rows] + intensity * (2 * _plasma(changed[rows], generator) - 1)).clamp(0, 1)
    rows = _some(n, probability, generator, pictures.device)
    changed[rows] = ((changed[rows] - 0.5) * 4 * _plasma(changed[rows], generator) + 0.5).clamp(0, 1)
    rows = _some(n, probability, generator, pictures.device)
    order = torch.rand(len(rows), 3, generator=generator).argsort(1).to(pictures.device)
    changed[rows] = changed[rows[:, None], order]
    which = torch.randint(len(RANGES), (n,), generator=generator)
    lows, highs = torch.tensor(list(RANGES.values())).unbind(1)
    strength = lows[which] + (highs - lows)[which] * torch.rand(n, generator=generator)
    names = tuple(RANGES)
    for name, side in (("TranslateX", width), ("TranslateY", height)):
        strength = torch.where(which == names.index(name), strength * side, strength)
    return apply(changed, names, which, strength)


def _plasma(like: Tensor, generator: Generator) -> Tensor:
    return clouds(like, _uniform(len(like), *ROUGHNESS, generator), generator)


def _some(n: int, probability: float, generator: Generator, device: torch.device) -> Tensor:
    """Return the positions of those out of n that were drawn."""
    return (torch.rand(n, generator=generator) < probability).nonzero().flatten().to(device)


def _uniform(n: int, low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)
