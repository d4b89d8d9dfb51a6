"""What turns an item's picture into features: a network trained on the shop itself, or one with weights from elsewhere.

Legend: N pictures, I items, D features.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.learning.adversary import Adversary
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import Training, train
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import EVALUATION_BATCH, Examples, place, to_model
from countermove.nets.features import logits_and_features
from countermove.nets.registry import build_network, check_network
from countermove.pixels.randomness import generator
from countermove.pixels.steps import frozen
from countermove.recommender.candidates import Factors
from countermove.recommender.shop import Shop

Labels = Literal["taste", "category"]
PRETRAINED_SIDE = 224
STARTS: Any = 4  # of k-means; the library types it as text only


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """Which features a ranker sees.

    network:   one of ours, trained on the shop's own warm pictures; or, with a colon, one with weights from elsewhere,
               as `nets.load` spells it (torchvision:alexnet). The features are what enters its last linear layer.
    labels:    what a network of ours is trained to name: the "taste" group of an item (k-means over the first stage's
               item factors, so whom it appeals to), or its "category", where the shop has them.
    groups:    how many taste groups.
    epochs:    of that training.
    adversary: radius (L-infinity) of adversarial training with 5 steps; 0: none.
    """

    network: str = "small-pooled"
    labels: Labels = "taste"
    groups: int = 8
    epochs: int = 15
    adversary: float = 0.0

    def __post_init__(self) -> None:
        if self.pretrained:
            if self.adversary:
                raise ConfigError(f"{self.network} comes with its weights; only networks of ours are trained robustly")
        else:
            check_network(self.network)
        if self.labels not in ("taste", "category"):
            raise ConfigError(f"labels = {self.labels!r} is refused: features are trained on taste or category")
        if self.groups < 2 or self.epochs < 1:
            raise ConfigError("features need at least 2 taste groups and 1 epoch")

    @property
    def pretrained(self) -> bool:
        """Whether the weights come from elsewhere."""
        return ":" in self.network

    def identity(self) -> dict[str, Any]:
        """Return all settings as plain data; what a pre-trained network does not use is left out."""
        return {"network": self.network} if self.pretrained else asdict(self)

    def build(self, shop: Shop, *, seed: int) -> nn.Module:
        """Return the network: of ours untrained, or from elsewhere with its weights.

        Raises:
            WeightsError: when the weights are absent.
        """
        if self.pretrained:
            from countermove.nets.load import load

            return _Resized(load(self.network))
        return build_network(self.network, self.classes(shop), shop.side, generator(seed, "extractor"))

    def classes(self, shop: Shop) -> int:
        """Return how many classes a network of ours tells apart.

        Raises:
            DataError: when categories are asked for and the shop has fewer than two.
        """
        if self.labels == "taste":
            return self.groups
        if len(shop.categories) < 2:
            raise DataError(f"{shop.name} has no categories to train features on; take labels=taste")
        return len(shop.categories)

    def fit(
        self, shop: Shop, factors: Factors, *, seed: int, device: str = "cpu", checkpoint: Checkpoint | None = None
    ) -> tuple[nn.Module, Training | None]:
        """Return the network ready for use, with the log of its training where it was trained."""
        network = place(self.build(shop, seed=seed), device)
        if self.pretrained:
            return network.eval(), None
        labels = taste(shop, factors, self.groups, seed=seed) if self.labels == "taste" else shop.category
        known = shop.warm[labels[shop.warm] >= 0]
        examples = Examples(pictures=shop.pictures[known], labels=labels[known])
        few = Examples(pictures=examples.pictures[:100], labels=examples.labels[:100])
        steps = (Adversary(eps=self.adversary, steps=5),) if self.adversary else ()
        log = train(
            network,
            examples,
            few,
            recipe=Recipe(epochs=self.epochs),
            seed=seed,
            classes=self.classes(shop),
            model_steps=steps,
            device=device,
            checkpoint=checkpoint,
        )
        return network.eval(), log


class _Resized(nn.Module):
    """A network with weights from elsewhere, which wants larger pictures."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        size = (PRETRAINED_SIDE, PRETRAINED_SIDE)
        return self.network(F.interpolate(pictures, size=size, mode="bilinear", antialias=True, align_corners=False))


def taste(shop: Shop, factors: Factors, groups: int, *, seed: int) -> Tensor:
    """Return each warm item's taste group, -1 for cold ones: int64 [I]."""
    known = torch.cat([factors.items, factors.bias[:, None]], dim=1)[shop.warm]
    if len(known) < groups:
        raise DataError(f"{shop.name} has {len(known)} items that are not cold, too few for {groups} taste groups")
    found = KMeans(groups, n_init=STARTS, random_state=seed).fit(known.numpy())
    labels = torch.full((len(shop.items),), -1)
    labels[shop.warm] = torch.from_numpy(found.labels_).long()
    return labels


def features_of(network: nn.Module, pictures: Tensor) -> Tensor:
    """Return features [N, D] of float pictures [N, 3, H, W], flattened; differentiable."""
    return logits_and_features(network, pictures)[1].flatten(1)


@torch.no_grad()
def feature_table(network: nn.Module, pictures: Tensor, *, device: str = "cpu") -> Tensor:
    """Return features of 8-bit pictures, float [N, D] on the CPU, in evaluation mode."""
    with frozen(network):
        parts = [
            features_of(network, to_model(part, device)).float().cpu() for part in pictures.split(EVALUATION_BATCH)
        ]
    return torch.cat(parts)
