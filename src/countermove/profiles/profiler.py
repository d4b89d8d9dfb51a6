"""What reads an attribute from a profile.

A profiler is a frozen, keyword-only dataclass: its settings, the extractor it looks through, and how its network is
made and trained. Legend: B profiles, N items of the longest, D features, C classes, M candidates.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.profiles.extractor import Extractor


@dataclass(frozen=True, kw_only=True)
class BagRecipe:
    """How a profiler is trained.

    epochs, batch: passes over all profiles, profiles a step.
    lr, weight_decay, optimizer: of "adam" (decoupled: no) or "sgd" (momentum 0.9); the rate follows half a cosine.
    copies: whether every item is its own profile with its owner's label (late fusion).
    """

    epochs: int = 50
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 1e-3
    optimizer: Literal["adam", "sgd"] = "adam"
    copies: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if min(self.epochs, self.batch) < 1 or self.lr <= 0 or self.weight_decay < 0:
            raise ConfigError("epochs, batch and lr of a profiler are above 0, weight_decay not below")
        if self.optimizer not in ("adam", "sgd"):
            raise ConfigError(f"optimizer = {self.optimizer!r} is refused; it is adam or sgd")


class BagNetwork(nn.Module):
    """A network from the features of a profile's items to logits; padding changes nothing.

    ordered: whether the order of items matters.
    """

    ordered: ClassVar[bool] = False

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return logits [B, C] of features [B, N, D], of which mask, bool [B, N], says which are there."""

    def probabilities(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return how a profile is read, [B, C]; the largest is the answer."""
        return self(features, mask).softmax(1)

    def attention(self, features: Tensor, mask: Tensor) -> Tensor | None:
        """Return how much each item counts, [B, N] with sum 1 a profile and 0 on padding; None where nothing says."""
        return None

    def summary(self, features: Tensor, mask: Tensor) -> Tensor | None:
        """Return what is kept of items so that more can join, [B, K]; None where items cannot be told apart like that.

        `joined(summary(a) + summary(b))` are the logits of the items of both. One item's is that of a profile of one.
        """
        return None

    def joined(self, summary: Tensor) -> Tensor:
        """Return the logits [B, C] of summaries [B, K].

        Raises:
            NotImplementedError: where there is no summary.
        """
        raise NotImplementedError(f"{type(self).__name__} has no summary of items")


class Profiler(Protocol):
    """A model of this arena."""

    version: ClassVar[int]

    def looks(self) -> tuple[str, Extractor]:
        """Return the extractor that it looks through: its canonical spelling and itself."""
        ...

    def network(self, dim: int, classes: int, *, generator: torch.Generator) -> BagNetwork:
        """Return a fresh network."""
        ...

    def recipe(self) -> BagRecipe:
        """Return how it is trained."""
        ...


class Reader(nn.Module):
    """A profiler's two parts: items to features (where it has its own), features to logits."""

    def __init__(self, bag: BagNetwork, body: nn.Module | None = None) -> None:
        """Join both; without a body, items are features already."""
        super().__init__()
        self.bag, self.body = bag, body

    def features(self, items: Tensor, mask: Tensor) -> Tensor:
        """Return features [B, N, D] of items [B, N, ...]; only those that are there go through the body."""
        if self.body is None:
            return items
        seen: Any = self.body(items[mask])
        return torch.zeros(*mask.shape, seen.shape[1], dtype=seen.dtype, device=seen.device).masked_scatter(
            mask[..., None], seen
        )

    def forward(self, items: Tensor, mask: Tensor) -> Tensor:
        """Return logits [B, C]."""
        return self.bag(self.features(items, mask), mask)
