"""What a recogniser method is given and what it gives back. See `naming` for worlds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from countermove.faces.extractor import Embedder, Extractor
from countermove.faces.naming import Named, Views


@dataclass(frozen=True, kw_only=True)
class Photos:
    """The 8-bit photos behind the features, as the trainer squeezed them; same rows as in `Views`.

    clean, moved: uint8 [G, 3, S, S].
    tests:        uint8 [T, 3, S, S].
    """

    clean: Tensor
    moved: Tensor
    tests: Tensor


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a recogniser is made from.

    views:     features by the extractor, adapted or not.
    photos:    what they are features of.
    copy:      returns a fresh copy of the embedder, for recognisers that go on training it.
    extractor: how the embedder came about.
    """

    views: Views
    photos: Photos
    copy: Callable[[], Embedder]
    extractor: Extractor
    seed: int
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What a recogniser says, and what making it took.

    samples:    forward-backward passes of a photo.
    parameters: numbers that were fitted beside the extractor's.
    tuned:      numbers of the extractor that were changed.
    gallery:    whether the gallery's features are kept to name with.
    """

    named: Named
    samples: int = 0
    parameters: int = 0
    tuned: int = 0
    gallery: bool = False


class Recogniser(Protocol):
    """A model of this arena: an extractor with its head."""

    version: ClassVar[int]

    def features(self) -> tuple[str, Extractor]:
        """Return the canonical spelling of its extractor, and the extractor."""
        ...

    def recognise(self, material: Material) -> Recognised:
        """Name the test photos in every mover's world."""
        ...
