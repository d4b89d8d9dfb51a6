"""The nearest photo of the gallery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.faces.extractor import Extractor, read_extractor
from countermove.faces.naming import nearest
from countermove.faces.recogniser import Material, Recognised


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """A photo is named as its nearest neighbour in the gallery, Radiya-Dixit et al. 2022, arXiv:2106.14851.

    One neighbour, Euclidean distance between features of length one. All movers are scored from two similarity
    products; the names are those of refitting for every mover.

    extractor: an era (plain, margin, strong, half, robust), small(...), or public(...) with weights from elsewhere.

    Differs from the paper's code: it compares features as they come, and not all extractors normalise theirs.
    """

    version: ClassVar[int] = 1
    extractor: str = "plain"

    def __post_init__(self) -> None:
        object.__setattr__(self, "extractor", self.features()[0])

    def features(self) -> tuple[str, Extractor]:
        """Return its extractor."""
        return read_extractor(self.extractor, "model 'nearest'")

    def recognise(self, material: Material) -> Recognised:
        """Name the test photos in every mover's world."""
        return Recognised(named=nearest(material.views), gallery=True)
