"""Picture networks with weights from elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.nets.load import load
from countermove.profiles.dataset import Medium, Profiles
from countermove.profiles.extractor import ItemNetwork, check_medium
from countermove.profiles.extractors.parts import without_head

LIBRARY_SIDE = 224


@dataclass(frozen=True, kw_only=True)
class Public:
    """A picture network with public weights, which are never replaced by random ones; it is not trained further.

    Its features are what enters its last linear layer, or its output where that does not come straight from one, as
    the embeddings of CLIP. They are not standardised.

    weights: as `nets.load` spells them: torchvision:resnet50, timm:NAME, open_clip:NAME/TAG, transformers:ORG/NAME,
             'checkpoint:FILE(model=resnet-18, classes=10)'.
    side:    that pictures are brought to, bilinear with antialiasing; 0: 224, or as they are for a checkpoint.

    Differs from the thesis: VGG-16's features there (torchvision:vgg16), before a profiler that is trained on them.
    """

    version: ClassVar[int] = 1
    media: ClassVar[tuple[Medium, ...]] = ("picture",)
    stored: ClassVar[bool] = False
    learned: ClassVar[bool] = False
    weights: str
    side: int = 0

    def __post_init__(self) -> None:
        if self.side < 0:
            raise ConfigError("extractor public: side is a number of pixels, or 0")

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return the SHA-256 of all weights with their names; they are read again every time."""
        found = hashlib.sha256()
        for name, tensor in sorted(load(self.weights).state_dict().items()):
            found.update(name.encode())
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()

    def blank(self, data: Profiles, *, seed: int) -> ItemNetwork:
        """Return the network with its weights.

        Raises:
            ConfigError: when these are no pictures, or the spelling is of no network.
            WeightsError: when the weights are absent, others than they should be, or could run code.
        """
        check_medium(self, data, "public")
        side = self.side or (data.items.shape[-1] if self.weights.startswith("checkpoint:") else LIBRARY_SIDE)
        return _Frozen(load(self.weights), side)

    def fit(self, data: Profiles, *, seed: int, device: str = "cpu") -> tuple[ItemNetwork, int]:
        """Return the network; there is nothing to train.

        Raises:
            ConfigError: when these are no pictures, or the spelling is of no network.
            WeightsError: when the weights are absent, others than they should be, or could run code.
        """
        return self.blank(data, seed=seed), 0


class _Frozen(ItemNetwork):
    """A network that resizes for itself, gets no gradients of its parameters and stays in evaluation mode."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        picture = torch.zeros(1, 3, side, side)
        try:
            network = without_head(network, picture)
        except ConfigError:  # it gives an embedding already
            pass
        self.network, self.side = network.requires_grad_(False), side
        super().train(False)
        with torch.no_grad():
            self._dim = self(picture).shape[1]

    @property
    def dim(self) -> int:
        return self._dim

    def forward(self, items: Tensor) -> Tensor:
        size = (self.side, self.side)
        if items.shape[2:] != size:
            items = F.interpolate(items, size, mode="bilinear", antialias=True, align_corners=False)
        return self.network(items).flatten(1)

    def train(self, mode: bool = True) -> _Frozen:
        return self
