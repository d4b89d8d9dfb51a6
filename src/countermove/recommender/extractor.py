"""What turns an item's picture into features: a network trained on the shop itself, or one with weights from elsewhere.

Legend: N pictures, I items, D features.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.finetuning.adaptation import Adapted
from countermove.finetuning.pictures import fine_tune, some_rows
from countermove.learning.adversary import Adversary
from countermove.learning.augment import ModelStep
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
FEW = 100
"""Pictures of the training that a network is scored on after every epoch."""
STARTS: Any = 4  # of k-means; the library types it as text only


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """Which features a ranker sees.

    network:   one of ours, trained on the warm items' own pictures; or, with a colon, one with weights from elsewhere,
               as `nets.load` spells it (torchvision:alexnet). The features are what enters its last linear layer.
    labels:    what a network of ours is trained to name: the "taste" group of an item (k-means over the first stage's
               item factors, so whom it appeals to), or its "category", where the shop has them.
    groups:    how many taste groups.
    epochs:    of that training.
    adversary: radius (L-infinity) of adversarial training with 5 steps; 0: none.
    adaptation: which part of the plain extractor is fine-tuned against the adversary, spelled; empty: a fresh one is
               trained.
    examples:  pictures that it is fine-tuned on at most, chosen by id; 0: all.
    """

    network: str = "small-pooled"
    labels: Labels = "taste"
    groups: int = 8
    epochs: int = 15
    adversary: float = 0.0
    adaptation: str = ""
    examples: int = 0

    def __post_init__(self) -> None:
        if self.pretrained:
            if self.adversary or self.adaptation:
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

    @property
    def plain(self) -> Extractor:
        """Return the extractor that a fine-tuned one goes on from."""
        return replace(self, adversary=0.0, adaptation="", examples=0)

    def identity(self) -> dict[str, Any]:
        """Return all settings as plain data; what does not count is left out."""
        if self.pretrained:
            return {"network": self.network}
        unused = () if self.adaptation else ("adaptation", "examples")
        return {key: value for key, value in asdict(self).items() if key not in unused}

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
        examples = self._catalogue(shop, factors, seed=seed)
        log = train(
            network,
            examples,
            _few(examples),
            recipe=Recipe(epochs=self.epochs),
            seed=seed,
            classes=self.classes(shop),
            model_steps=self._adversary(),
            device=device,
            checkpoint=checkpoint,
        )
        return network.eval(), log

    def go_on(
        self,
        network: nn.Module,
        shop: Shop,
        factors: Factors,
        *,
        seed: int,
        device: str = "cpu",
        checkpoint: Checkpoint | None = None,
    ) -> tuple[Training, Adapted, int]:
        """Fine-tune the plain extractor's network in place, for as many epochs as it was trained.

        Returns its log, what its change takes, and how many pictures it was fine-tuned on.
        """
        examples = self._catalogue(shop, factors, seed=seed)
        log, adapted = fine_tune(
            network,
            examples,
            _few(examples),
            adaptation=self.adaptation,
            recipe=Recipe(epochs=self.epochs),
            seed=int(torch.randint(2**31, (), generator=generator(seed, "fine-tuned features"))),
            classes=self.classes(shop),
            model_steps=self._adversary(),
            device=device,
            checkpoint=checkpoint,
        )
        network.eval()
        return log, adapted, len(examples)

    def _adversary(self) -> tuple[ModelStep, ...]:
        return (Adversary(eps=self.adversary, steps=5),) if self.adversary else ()

    def _catalogue(self, shop: Shop, factors: Factors, *, seed: int) -> Examples:
        """Return the labelled pictures of items with a history, or as many of them as it has."""
        labels = taste(shop, factors, self.groups, seed=seed) if self.labels == "taste" else shop.category
        known = shop.warm[labels[shop.warm] >= 0]
        known = known[some_rows([shop.items[item] for item in known.tolist()], self.examples)]
        return Examples(pictures=shop.pictures[known], labels=labels[known])


def _few(examples: Examples) -> Examples:
    return Examples(pictures=examples.pictures[:FEW], labels=examples.labels[:FEW])


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


def item_table(network: nn.Module, shop: Shop, *, device: str = "cpu") -> Tensor:
    """Return every item's features, float [I, D] on the CPU: the mean over its pictures, where it has several."""
    return shop.averaged(lambda pictures: feature_table(network, pictures, device=device))


@torch.no_grad()
def feature_table(network: nn.Module, pictures: Tensor, *, device: str = "cpu") -> Tensor:
    """Return features of 8-bit pictures, float [N, D] on the CPU, in evaluation mode."""
    with frozen(network):
        parts = [
            features_of(network, to_model(part, device)).float().cpu() for part in pictures.split(EVALUATION_BATCH)
        ]
    return torch.cat(parts)
