"""What a ranker method is given and what it gives back. Legend: I items, D features."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from countermove.game.cell import Cost
from countermove.recommender.extractor import Extractor
from countermove.recommender.ranker import Ranker
from countermove.recommender.shop import Shop


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a ranker is fitted on.

    shop:    interactions and pictures.
    network: the extractor that the ranker named, ready for use; None where it named none.
    table:   its features of all items, float [I, D]; None likewise.
    before:  the ranker that was there before, for one that goes on from it.
    """

    shop: Shop
    seed: int
    network: nn.Module | None = None
    table: Tensor | None = None
    device: str = "cpu"
    before: Ranker | None = None

    def features(self) -> tuple[nn.Module, Tensor]:
        """Return the extractor and its features."""
        assert self.network is not None, "the ranker named an extractor"
        assert self.table is not None, "features come with their extractor"
        return self.network, self.table


@dataclass(frozen=True)
class Fitted:
    """A ranker, and how many forward-backward passes (of a triple or of a picture) it took.

    change: what is stored beside the ranker that it went on from, and the interactions that took; of one that was
            fitted from the start, nothing.
    """

    ranker: Ranker
    samples: int
    change: Cost = field(default_factory=Cost)


class RankerMethod(Protocol):
    """A model of this arena."""

    version: ClassVar[int]

    def extractor(self) -> Extractor | None:
        """Return whose features it sees; None where it learns from the pictures themselves."""
        ...

    def fit(self, material: Material) -> Fitted:
        """Learn from train interactions; cold, validation and test ones are not looked at, except for choosing."""
        ...


@runtime_checkable
class GoesOn(Protocol):
    """A model that goes on from the ranker that was there before: by an adaptation, spelled."""

    adaptation: str


@runtime_checkable
class OwnNetwork(Protocol):
    """A model that trains a network of its own instead of seeing an extractor's features."""

    def blank(self, shop: Shop, *, seed: int) -> nn.Module:
        """Return the untrained network that a stored ranker's weights are read into."""
        ...
