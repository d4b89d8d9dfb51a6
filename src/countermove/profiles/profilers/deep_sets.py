"""A function of the mean of functions of the items."""

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


@dataclass(frozen=True, kw_only=True)
class DeepSets:
    """Layers for each item, the mean over a profile, layers for the profile, Zaheer et al. 2017, arXiv:1703.06114.

    features: the extractor, with its settings: small, learned, x-vector, ... (thesis: VGG-16's 4096).
    width:    units of every layer (128).
    layers:   fully connected layers before the mean, and as many after it (4); ReLU between them.
    epochs, batch, lr, weight_decay, optimizer: of the training.

    Thesis and released code differ in the optimiser: SGD at 0.1 with momentum against Adam at 1e-4 with weight decay
    1e-3 and one profile a step. It is Adam here, with the code's decay; steps are of 16 profiles, and its rate grew
    with them. On 180 collections of 10 groceries SGD at 0.1 still misread a sixth of the training profiles after 50
    epochs, and read fewer of the others; optimizer=sgd, lr=0.1 brings it back.
    Differs from both: profiles of a step may differ in length, which changes nothing.
    """

    version: ClassVar[int] = 1
    features: str = "small"
    width: int = 128
    layers: int = 4
    epochs: int = 50
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 1e-3
    optimizer: Literal["adam", "sgd"] = "adam"

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", self.looks()[0])
        if min(self.width, self.layers) < 1:
            raise ConfigError("model 'deep-sets': width and layers are above 0")
        self.recipe()

    def looks(self) -> tuple[str, Extractor]:
        """Return its extractor."""
        return read_extractor(self.features, "model 'deep-sets'")

    def network(self, dim: int, classes: int, *, generator: torch.Generator) -> MeanOfItems:
        """Return a fresh network."""
        with seeded(generator):
            return MeanOfItems(dim, classes, self.width, self.layers)

    def recipe(self) -> BagRecipe:
        """Return how it is trained."""
        return BagRecipe(
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            weight_decay=self.weight_decay,
            optimizer=self.optimizer,
        )


class MeanOfItems(BagNetwork):
    """rho(mean of phi(item))."""

    def __init__(self, dim: int, classes: int, width: int, layers: int) -> None:
        """Make both parts."""
        super().__init__()
        self.phi = fully_connected(dim, *[width] * layers)
        self.rho = fully_connected(*[width] * layers, classes)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return logits [B, C]."""
        return self.joined(self.summary(features, mask))

    def summary(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return the sum of phi over the items and their number, [B, width + 1]."""
        each = self.phi(features)
        return torch.cat([total(each, mask), counted(mask, each)], 1)

    def joined(self, summary: Tensor) -> Tensor:
        """Return rho of the mean."""
        return self.rho(summary[:, :-1] / summary[:, -1:].clamp(min=1))
