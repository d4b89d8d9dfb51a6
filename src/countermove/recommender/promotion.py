"""What a promotion is given and what it gives back.

A promotion is a frozen, keyword-only dataclass, called with the cold items' pictures::

    __call__(batch: Batch, *, context: PromotionContext) -> Batch

It returns promoted pictures with the same ids. Class variables say what it is:

    version: raised when its output changes.
    norm:    "linf", or None where no radius describes the change.
    knows:   "ranker" (the fitted ranker, its users' vectors included), "features" (what turns pictures into features),
             or "" (what everybody sees in the shop). What it does not know is not in the context.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.learning.scoring import place, to_model
from countermove.pixels.balls import Ball
from countermove.pixels.batch import Batch
from countermove.pixels.steps import frozen
from countermove.recommender.ranker import Ranker
from countermove.recommender.shop import Shop

Knows = Literal["ranker", "features", ""]
ITEMS_AT_ONCE = 64


@dataclass
class Meter:
    """Forward-backward passes of a picture that were spent."""

    samples: int = 0


@dataclass(frozen=True, kw_only=True)
class PromotionContext:
    """What a mover may use.

    shop:    items, their pictures, how often they were bought; for promotions that know the ranker, by whom, too.
    ranker:  the fitted ranker, for promotions that know it.
    network: the extractor, for promotions that know it or the ranker.
    embed:   from float pictures [N, 3, H, W] to what the ranker compares, [N, K]; likewise.
    """

    shop: Shop
    seed: int
    device: str = "cpu"
    ranker: Ranker | None = None
    network: nn.Module | None = None
    embed: Callable[[Tensor], Tensor] | None = None
    meter: Meter = field(default_factory=Meter)

    def known_ranker(self) -> Ranker:
        """Return the ranker."""
        assert self.ranker is not None, "this promotion says that it knows the ranker"
        return self.ranker

    def known_embedding(self) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
        """Return the extractor on the device, and what embeds with it."""
        assert self.network is not None, "this promotion says that it knows the features"
        assert self.embed is not None, "an extractor comes with its embedding"
        return place(self.network, self.device), self.embed


class Promotion(Protocol):
    """A move of this arena."""

    version: ClassVar[int]
    norm: ClassVar[Literal["linf"] | None]
    knows: ClassVar[Knows]

    def __call__(self, batch: Batch, *, context: PromotionContext) -> Batch:
        """Return the promoted pictures."""
        ...


def ascend(
    pictures: Tensor,
    objective: Callable[[Tensor, int], Tensor],
    *,
    network: nn.Module,
    ball: Ball,
    lr: float,
    steps: int,
    meter: Meter,
    device: str = "cpu",
) -> Tensor:
    """Find changes inside a ball that raise an objective, by Adam with a clip after every step (Algorithm 2.1).

    Items are independent of each other: every one has its own moments, whatever else is in its batch.

    Args:
        pictures: float [N, 3, H, W] in [0, 1].
        objective: takes moved pictures [n, 3, H, W] and the number of the step (0-based), returns one value a picture.
        network: what the objective asks; used frozen.
        ball: the budget of a change.
        lr: of Adam, in pixel units a step.
        steps: how many.
        meter: is told the passes.
        device: where the network is.

    Returns:
        Moved pictures in [0, 1], not rounded.

    Raises:
        DataError: when a gradient is not finite.
    """
    moved = torch.empty_like(pictures)
    with frozen(network):
        for start in range(0, len(pictures), ITEMS_AT_ONCE):
            clean = pictures[start : start + ITEMS_AT_ONCE].to(device).contiguous(memory_format=torch.channels_last)
            change = torch.zeros_like(clean, requires_grad=True)
            optimizer = torch.optim.Adam([change], lr=lr)
            for step in range(steps):
                optimizer.zero_grad()
                (-objective(clean + change, step).sum()).backward()
                if change.grad is None or not change.grad.isfinite().all():
                    raise DataError("the ranker's gradient is not finite; check its features and scores")
                optimizer.step()
                with torch.no_grad():
                    inside = ball.project(change)
                    change.copy_((clean + inside).clamp(0, 1) - clean)
            moved[start : start + len(clean)] = (clean + change.detach()).cpu()
            meter.samples += steps * len(clean)
    return moved


@torch.no_grad()
def embedded_hook(context: PromotionContext, item: int) -> Tensor:
    """Return the hook's embedding, [1, K], on the device."""
    network, embed = context.known_embedding()
    with frozen(network):
        return embed(to_model(context.shop.pictures[item : item + 1], context.device))


def check_steps(name: str, *, steps: int, lr: float) -> None:
    """Refuse an ascent that goes nowhere.

    Raises:
        ConfigError: fewer than one step, or a rate that is not positive.
    """
    if steps < 1 or lr <= 0:
        raise ConfigError(f"move {name!r}: steps = {steps} and lr = {lr} are refused: both must be above 0")
