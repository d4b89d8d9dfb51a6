"""What a search engine is: how its index is made, and how it scores what it holds.

An index method is a frozen, keyword-only dataclass, a model of this arena. Legend: M indexed pictures, Q queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor

from countermove.retrieval.backbone import Describer
from countermove.retrieval.collection import Collection


class Index(Protocol):
    """Pictures in the form in which an engine searches them."""

    def __len__(self) -> int: ...

    def scores(self, queries: Sequence[Tensor]) -> Tensor:
        """Return how well every indexed picture fits every query, higher is better, float [Q, M].

        Args:
            queries: pictures uint8 [3, H, W], cropped already.
        """
        ...

    def add(self, pictures: Sequence[Tensor]) -> None:
        """Put pictures behind those that are there; vocabularies and whitening stay as they are."""
        ...

    def remove(self, rows: Sequence[int]) -> None:
        """Take pictures out; those behind move up."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything as safetensors and JSON into an empty folder. Nothing is pickled."""
        ...


class Engine(Protocol):
    """A model of this arena."""

    version: ClassVar[int]

    def looks(self) -> str | None:
        """Return the backbone that it looks through, canonically spelled; None where it has none."""
        ...

    def index(
        self,
        collection: Collection,
        pictures: Sequence[Tensor],
        *,
        describer: Describer | None,
        seed: int,
        device: str,
    ) -> Index:
        """Return an index of pictures, with what must be learned learned from the collection's public ones."""
        ...

    def opened(self, folder: Path, *, describer: Describer | None, device: str) -> Index:
        """Return an index that was saved.

        Raises:
            DataError: when it is absent, broken, or was built by another engine.
        """
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Return everything that descriptors depend on: settings, preprocessing, hash of weights.

        An index is loaded only by an engine with the same.
        """
        ...
