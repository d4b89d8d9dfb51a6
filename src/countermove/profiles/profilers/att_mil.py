"""Items weighted by what they show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.nets.parts import seeded
from countermove.profiles.extractor import Extractor, read_extractor
from countermove.profiles.profiler import BagNetwork, BagRecipe
from countermove.profiles.profilers.layers import shares, total


@dataclass(frozen=True, kw_only=True)
class AttMil:
    """Attention-based multiple-instance learning, Ilse et al. 2018, arXiv:1802.04712.

    A layer embeds each item, a small network scores it, and the profile is the mean of its items' embeddings weighted
    by the softmax of their scores.

    features: the extractor, with its settings: small, learned, x-vector, ... (thesis: none; convolutions from scratch).
    width:    units of the embedding (500).
    hidden:   units of the scoring network (128).
    gated:    whether a second, sigmoid branch multiplies the tanh one (thesis: no).
    epochs, batch, lr, weight_decay, optimizer: of the training.

    Differs from the released code, which trains two convolutions on 32 x 32 pictures, one profile a step, under a
    sigmoid clamped to [1e-5, 1 - 1e-5]: items are features here (features=learned trains a body as well), and the loss
    is taken on logits, so that a profile that is read with certainty still has a gradient to attack it with. Scores
    have no constant, which a softmax would not see.
    Optimiser: see deep-sets.
    """

    version: ClassVar[int] = 1
    features: str = "small"
    width: int = 500
    hidden: int = 128
    gated: bool = False
    epochs: int = 50
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 1e-3
    optimizer: Literal["adam", "sgd"] = "adam"

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", self.looks()[0])
        if min(self.width, self.hidden) < 1:
            raise ConfigError("model 'att-mil': width and hidden are above 0")
        self.recipe()

    def looks(self) -> tuple[str, Extractor]:
        """Return its extractor."""
        return read_extractor(self.features, "model 'att-mil'")

    def network(self, dim: int, classes: int, *, generator: torch.Generator) -> WeightedItems:
        """Return a fresh network."""
        with seeded(generator):
            return WeightedItems(dim, classes, self.width, self.hidden, gated=self.gated)

    def recipe(self) -> BagRecipe:
        """Return how it is trained."""
        return BagRecipe(
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            weight_decay=self.weight_decay,
            optimizer=self.optimizer,
        )


class WeightedItems(BagNetwork):
    """Embeddings pooled by their scores."""

    def __init__(self, dim: int, classes: int, width: int, hidden: int, *, gated: bool) -> None:
        """Make the embedding, the scores and the last layer."""
        super().__init__()
        self.embedding = nn.Sequential(nn.Linear(dim, width), nn.ReLU())
        self.inner = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden) if gated else None
        self.outer = nn.Linear(hidden, 1, bias=False)
        self.head = nn.Linear(width, classes)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return logits [B, C]."""
        embedded = self.embedding(features)
        weights = shares(self._scores(embedded), mask)
        return self.head((weights[:, None] @ embedded.masked_fill(~mask[..., None], 0))[:, 0])

    def attention(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return the items' weights."""
        return shares(self._scores(self.embedding(features)), mask)

    def summary(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return the weighted sum of embeddings and the sum of weights, [B, width + 1], in 64 bits.

        Weights are exponentials of scores, which are at most the outer layer's absolute sum: far from what 64 bits
        cannot hold, so that nothing that depends on the profile need be subtracted, and summaries add.
        """
        embedded = self.embedding(features)
        weights = self._scores(embedded).double().exp()[..., None]
        return torch.cat([total(weights * embedded, mask), total(weights, mask)], 1)

    def joined(self, summary: Tensor) -> Tensor:
        """Return the logits of the weighted mean."""
        return self.head((summary[:, :-1] / summary[:, -1:]).to(self.head.weight.dtype))

    def _scores(self, embedded: Tensor) -> Tensor:
        inner = self.inner(embedded).tanh()
        return self.outer(inner if self.gate is None else inner * self.gate(embedded).sigmoid())[..., 0]
