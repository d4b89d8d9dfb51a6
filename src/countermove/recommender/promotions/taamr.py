"""TAaMR: the baseline that targets a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from countermove.errors import ConfigError
from countermove.learning.scoring import predict
from countermove.pixels.balls import Ball, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.steps import sign_gradient
from countermove.recommender.extractor import Extractor, Labels
from countermove.recommender.promotion import PromotionContext


@dataclass(frozen=True, kw_only=True)
class Taamr:
    """Targeted attack on multimedia recommenders (TAaMR), Di Noia et al. 2020, doi:10.1109/DSN-W50199.2020.00011.

    Makes a classifier name an item as the class that is bought most; the ranker is not asked.

    eps:     L-infinity radius.
    attack:  "fgsm" (one step of length eps) or "pgd" (steps of length eps / 6 from no change).
    steps:   of PGD (thesis: 20; the TAaMR code: 10).
    network, labels, groups, feature_epochs: the classifier, see `Extractor` (paper: torchvision:alexnet). The class
             that is bought most is the one with most interactions of the items that the classifier puts in it. As it
             stands it is the very extractor that rankers with default settings see.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Literal["linf"]] = "linf"
    knows: ClassVar[str] = "features"
    eps: float = 32 / 255
    attack: Literal["fgsm", "pgd"] = "pgd"
    steps: int = 20
    network: str = "small-pooled"
    labels: Labels = "taste"
    groups: int = 8
    feature_epochs: int = 15

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        if self.attack not in ("fgsm", "pgd") or self.steps < 1:
            raise ConfigError("move 'taamr': attack is fgsm or pgd, and steps at least 1")
        self.extractor()

    def extractor(self) -> Extractor:
        """Return the classifier that it attacks, whatever the ranker sees."""
        return Extractor(network=self.network, labels=self.labels, groups=self.groups, epochs=self.feature_epochs)

    def __call__(self, batch: Batch, *, context: PromotionContext) -> Batch:
        """Return the promoted pictures."""
        network, _ = context.known_embedding()
        steps, step = (1, self.eps) if self.attack == "fgsm" else (self.steps, self.eps / 6)
        changes = sign_gradient(
            network,
            batch.pictures,
            torch.full((len(batch),), self._bought_most(context)),
            ball=Ball(norm="linf", radius=self.eps),
            step=step,
            steps=steps,
            minimize=True,
        )
        context.meter.samples += steps * len(batch)
        return batch.with_pictures(batch.pictures + changes)

    def _bought_most(self, context: PromotionContext) -> int:
        shop = context.shop
        network, _ = context.known_embedding()
        named: Tensor = predict(network, shop.pictures[shop.warm], device=context.device)
        return int(torch.bincount(named, weights=shop.popularity[shop.warm].double()).argmax())
