"""Every item votes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from countermove.errors import ConfigError
from countermove.nets.parts import seeded
from countermove.profiles.extractor import Extractor, read_extractor
from countermove.profiles.profiler import BagNetwork, BagRecipe
from countermove.profiles.profilers.layers import counted, fully_connected, total

_TIE = 1e-3
"""What all soft votes together weigh, of one hard vote: they decide ties and nothing else."""


@dataclass(frozen=True, kw_only=True)
class MajorityVote:
    """A classifier of single items, whose answers are counted, Liu 2024 (thesis, section 4.4).

    It is trained on items that carry their owner's label. Losses and gradients see the mean of the items'
    probabilities; what is answered is the share of items that name a class.

    features: the extractor, with its settings: small, learned, x-vector, ...
    hidden:   units of a layer before the last one; 0: none, a linear classifier.
    epochs, batch, lr, weight_decay, optimizer: of the training; a batch is of items (thesis: 30 epochs; code: 64 items
        a batch).

    Differs from the thesis, which fine-tunes a ResNet-50 (X-vectors for speech), and from its released code, where that
    is a ResNet-18: what the classifier stands on is set by `features`, and features=learned fine-tunes it. The code
    gives ties to the first class; here the items' summed probabilities decide them, as the first class is no better.
    """

    version: ClassVar[int] = 1
    features: str = "small"
    hidden: int = 0
    epochs: int = 30
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-3
    optimizer: Literal["adam", "sgd"] = "adam"

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", self.looks()[0])
        if self.hidden < 0:
            raise ConfigError(f"model 'majority-vote': hidden = {self.hidden} is refused: it is 0 or more")
        self.recipe()

    def looks(self) -> tuple[str, Extractor]:
        """Return its extractor."""
        return read_extractor(self.features, "model 'majority-vote'")

    def network(self, dim: int, classes: int, *, generator: torch.Generator) -> Votes:
        """Return a fresh network."""
        with seeded(generator):
            return Votes(dim, classes, self.hidden)

    def recipe(self) -> BagRecipe:
        """Return how it is trained."""
        return BagRecipe(
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            weight_decay=self.weight_decay,
            optimizer=self.optimizer,
            copies=True,
        )


class Votes(BagNetwork):
    """Items' probabilities and their mean."""

    def __init__(self, dim: int, classes: int, hidden: int) -> None:
        """Make the classifier of items."""
        super().__init__()
        self.item = fully_connected(dim, *([hidden] if hidden else []), classes)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return the logarithm of the items' mean probabilities, [B, C]."""
        each = self.item(features).log_softmax(2)
        each = each.masked_fill(~mask[..., None], torch.finfo(each.dtype).min)
        return each.logsumexp(1) - counted(mask, each).log()

    def probabilities(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return the share of items that name a class, [B, C]."""
        each = self.item(features).softmax(2)
        hard = torch.nn.functional.one_hot(each.argmax(2), each.shape[2]).to(each.dtype)
        count = counted(mask, each)
        return (total(hard, mask) + _TIE * total(each, mask) / count) / (count + _TIE)

    def summary(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return the sums of the items' probabilities and their number, [B, C + 1], in 64 bits."""
        each = self.item(features).double().softmax(2)  # 32 bits would round a sure item's other classes to 0
        return torch.cat([total(each, mask), counted(mask, each)], 1)

    def joined(self, summary: Tensor) -> Tensor:
        """Return the logarithm of the mean probabilities."""
        mean = summary[:, :-1] / summary[:, -1:]
        return mean.clamp(min=torch.finfo(mean.dtype).tiny).log().to(next(self.parameters()).dtype)
