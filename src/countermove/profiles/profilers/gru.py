"""Items in the order in which they were published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from countermove.errors import ConfigError
from countermove.nets.parts import seeded
from countermove.profiles.extractor import Extractor, read_extractor
from countermove.profiles.profiler import BagNetwork, BagRecipe


@dataclass(frozen=True, kw_only=True)
class Gru:
    """A recurrent network that reads items oldest first, Cho et al. 2014, arXiv:1406.1078.

    The thesis names a profiler that knows the order of items as its outlook and has none. The state after the newest
    item is what is classified, so that late additions can weigh more than early items.

    features: the extractor, with its settings: small, learned, x-vector, ...
    width:    units of the state.
    epochs, batch, lr, weight_decay, optimizer: of the training.
    """

    version: ClassVar[int] = 1
    features: str = "small"
    width: int = 128
    epochs: int = 50
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 1e-3
    optimizer: Literal["adam", "sgd"] = "adam"

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", self.looks()[0])
        if self.width < 1:
            raise ConfigError("model 'gru': width is above 0")
        self.recipe()

    def looks(self) -> tuple[str, Extractor]:
        """Return its extractor."""
        return read_extractor(self.features, "model 'gru'")

    def network(self, dim: int, classes: int, *, generator: torch.Generator) -> ItemsInOrder:
        """Return a fresh network."""
        with seeded(generator):
            return ItemsInOrder(dim, classes, self.width)

    def recipe(self) -> BagRecipe:
        """Return how it is trained."""
        return BagRecipe(
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            weight_decay=self.weight_decay,
            optimizer=self.optimizer,
        )


class ItemsInOrder(BagNetwork):
    """A state that every item changes."""

    ordered: ClassVar[bool] = True

    def __init__(self, dim: int, classes: int, width: int) -> None:
        """Make the recurrent layer and the last one."""
        super().__init__()
        self.state = nn.GRU(dim, width, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return logits [B, C]; gaps in the mask close up."""
        there_first = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
        features = features.gather(1, there_first[..., None].expand_as(features))
        lengths = mask.sum(1).cpu()  # packing wants them there
        packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
        # cuDNN has no gradients through a recurrent network in evaluation mode, and a pivot needs them
        plain = not self.training and torch.is_grad_enabled()
        with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled and not plain):
            state = self.state(packed)[1]
        return self.head(state[-1])
