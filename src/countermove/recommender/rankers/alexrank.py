"""AlexRank: nearest pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.recommender.extractor import Extractor, Labels
from countermove.recommender.fitting import Fitted, Material
from countermove.recommender.ranker import NearestRanker


@dataclass(frozen=True, kw_only=True)
class AlexRank:
    """Items that look like those a user touched, Liu and Larson 2021, arXiv:2006.01888.

    Thesis chapter 2, Eq. 2.1. The score is minus the mean Euclidean distance between an item's features and those of
    all items the user touched. Nothing is learned besides the features.

    features, labels, groups, feature_epochs: whose features, see `Extractor`; the paper's are
                torchvision:alexnet's, after the ReLU of the second fully connected layer (4096; its text says 2048).
    """

    version: ClassVar[int] = 1
    features: str = "small-pooled"
    labels: Labels = "taste"
    groups: int = 8
    feature_epochs: int = 15

    def __post_init__(self) -> None:
        self.extractor()

    def extractor(self) -> Extractor:
        """Return whose features it sees."""
        return Extractor(network=self.features, labels=self.labels, groups=self.groups, epochs=self.feature_epochs)

    def fit(self, material: Material) -> Fitted:
        """Remember the features and who touched what."""
        network, table = material.features()
        return Fitted(NearestRanker(network=network, catalogue=table, profiles=material.shop.profiles), 0)
