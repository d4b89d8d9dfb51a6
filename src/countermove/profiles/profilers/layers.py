"""What several profilers are made of. Legend: B profiles, N items of the longest, H heads, Q queries, D features."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


def fully_connected(*sizes: int) -> nn.Sequential:
    """Return linear layers between these sizes with ReLU between them, none after the last."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def counted(mask: Tensor, like: Tensor) -> Tensor:
    """Return how many items each profile has, [B, 1], in the type of what they are put beside."""
    return mask.sum(1, keepdim=True).to(like.dtype)


def total(values: Tensor, mask: Tensor) -> Tensor:
    """Return the sum [B, D] over the items that are there, of values [B, N, D]."""
    return values.masked_fill(~mask[..., None], 0).sum(1)


def shares(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax over the last dimension, of what is there alone; a row in which nothing is stays 0."""
    least = torch.finfo(scores.dtype).min  # minus infinity would make such a row NaN, and its gradient with it
    return scores.masked_fill(~mask, least).softmax(-1).masked_fill(~mask, 0)


class MultiheadBlock(nn.Module):
    """Queries that look at keys, then a layer each for themselves (MAB of the Set Transformer).

    Scores are divided by the square root of one head's dimensions.
    """

    def __init__(self, queries: int, keys: int, width: int, heads: int, *, norm: bool) -> None:
        """Make one block for queries and keys of these dimensions."""
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(queries, width), nn.Linear(keys, width), nn.Linear(keys, width)
        self.after = nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) if norm else nn.Identity() for _ in range(2))

    def weights(self, queries: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return how much each query looks at each key, [B, H, Q, N]."""
        return self._weights(self.query(queries), keys, mask)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return [B, Q, width]; queries of a batch of one serve every profile."""
        asked = self.query(queries)
        seen = self._weights(asked, keys, mask) @ self._split(self.value(keys))
        joined = self.norms[0](asked + seen.transpose(1, 2).flatten(2))
        return self.norms[1](joined + self.after(joined).relu())

    def _weights(self, asked: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        query, key = self._split(asked), self._split(self.key(keys))
        scores = query @ key.mT / query.shape[-1] ** 0.5
        return scores.softmax(-1) if mask is None else shares(scores, mask[:, None, None])

    def _split(self, values: Tensor) -> Tensor:
        return values.unflatten(2, (self.heads, -1)).transpose(1, 2)
