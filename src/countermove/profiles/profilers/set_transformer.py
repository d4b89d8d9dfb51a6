"""Items that look at each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.nets.parts import seeded
from countermove.profiles.extractor import Extractor, read_extractor
from countermove.profiles.profiler import BagNetwork, BagRecipe
from countermove.profiles.profilers.layers import MultiheadBlock


@dataclass(frozen=True, kw_only=True)
class SetTransformer:
    """Two attention blocks over inducing points, pooling by attention, Lee et al. 2019, arXiv:1810.00825.

    features: the extractor, with its settings: small, learned, x-vector, ... (thesis: VGG-16's 4096).
    width:    units of every layer (released code: 512).
    heads:    attention heads (4); they divide the width.
    inducing: points through which items look at each other (code: 32).
    dropout:  before and after pooling (0.5).
    norm:     layer normalisation within blocks (code: none).
    epochs, batch, lr, weight_decay, optimizer: of the training.

    The thesis says "multi-head transformer"; layers, dropout and the missing second pair of blocks after pooling are
    those of its released code, in smaller numbers, since features here are fewer. Differs from that code and from the
    one it builds on, which divide attention scores by the square root of the full width and know no mask: scores are
    divided by the square root of one head's width, as the paper has it, and padding is masked wherever items are keys.
    Optimiser: see deep-sets.
    """

    version: ClassVar[int] = 1
    features: str = "small"
    width: int = 64
    heads: int = 4
    inducing: int = 16
    dropout: float = 0.5
    norm: bool = False
    epochs: int = 50
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 1e-3
    optimizer: Literal["adam", "sgd"] = "adam"

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", self.looks()[0])
        if min(self.width, self.heads, self.inducing) < 1 or self.width % self.heads:
            raise ConfigError(
                f"model 'set-transformer': width = {self.width}, heads = {self.heads}, inducing = {self.inducing} is "
                "refused: all are above 0, and the heads divide the width"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model 'set-transformer': dropout = {self.dropout:g} is refused: it is in [0, 1)")
        self.recipe()

    def looks(self) -> tuple[str, Extractor]:
        """Return its extractor."""
        return read_extractor(self.features, "model 'set-transformer'")

    def network(self, dim: int, classes: int, *, generator: torch.Generator) -> LookingItems:
        """Return a fresh network."""
        with seeded(generator):
            return LookingItems(dim, classes, self)

    def recipe(self) -> BagRecipe:
        """Return how it is trained."""
        return BagRecipe(
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            weight_decay=self.weight_decay,
            optimizer=self.optimizer,
        )


class InducedBlock(nn.Module):
    """Items that look at inducing points that looked at all items (ISAB)."""

    def __init__(self, dim: int, width: int, heads: int, inducing: int, *, norm: bool) -> None:
        """Make the points and both looks."""
        super().__init__()
        self.points = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, inducing, width)))
        self.gather = MultiheadBlock(width, dim, width, heads, norm=norm)
        self.spread = MultiheadBlock(dim, width, width, heads, norm=norm)

    def forward(self, items: Tensor, mask: Tensor) -> Tensor:
        """Return [B, N, width] of items [B, N, dim]."""
        return self.spread(items, self.gather(self.points, items, mask))


class LookingItems(BagNetwork):
    """Two induced blocks and pooling by one seed."""

    def __init__(self, dim: int, classes: int, sizes: SetTransformer) -> None:
        """Make all blocks."""
        super().__init__()
        width, heads, norm = sizes.width, sizes.heads, sizes.norm
        self.first = InducedBlock(dim, width, heads, sizes.inducing, norm=norm)
        self.second = InducedBlock(width, width, heads, sizes.inducing, norm=norm)
        self.seed = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, 1, width)))
        self.pool = MultiheadBlock(width, width, width, heads, norm=norm)
        self.dropout = nn.Dropout(sizes.dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return logits [B, C]."""
        pooled = self.pool(self.seed, self._items(features, mask), mask)
        return self.head(self.dropout(pooled[:, 0]))

    def attention(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return how much pooling looks at each item, [B, N], the mean over heads."""
        return self.pool.weights(self.seed, self._items(features, mask), mask)[:, :, 0].mean(1)

    def _items(self, features: Tensor, mask: Tensor) -> Tensor:
        return self.dropout(self.second(self.first(features, mask), mask))
