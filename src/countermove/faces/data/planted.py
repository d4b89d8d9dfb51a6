"""Made-up faces whose people are known, for tests and demonstrations without any download."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from countermove.errors import ConfigError
from countermove.faces.data.portraits import LOOKS, LUCK, portraits
from countermove.faces.data.reading import check_settings

if TYPE_CHECKING:
    from countermove.faces.gallery import Faces

GRAIN = 0.05


@dataclass(frozen=True, kw_only=True)
class PlantedFaces:
    """Drawn faces. A network that is trained on some people tells others apart, raw pixels do so less well.

    A person has a shape of head, jaw, hair, eyes, brows, nose, mouth and beard, and colours of skin, hair, eyes and
    lips. Photos of the same person differ in a small shift, turn and size, in the side that is turned to us, in
    expression, in strength, colour and direction of the light, in background and shirt, and in pixel noise. Nobody is
    portrayed; rates on these faces are not rates on photographs.

    people:        how many people.
    photos:        of each.
    side:          photos are side x side pixels.
    movers:        how many people publish; all others are the public, on whom extractors are trained.
    test_fraction: share of each mover's photos that are tested, chosen by id.
    seed:          another seed draws other people.
    """

    version: ClassVar[int] = 1
    people: int = 24
    photos: int = 8
    side: int = 32
    movers: int = 8
    test_fraction: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings("planted-faces", self, people=2, photos=3, movers=2)
        if self.movers > self.people:
            raise ConfigError(f"planted-faces: movers = {self.movers} is refused: there are {self.people} people")
        if not 1 <= round(self.test_fraction * self.photos) <= self.photos - 2:
            raise ConfigError(
                f"planted-faces: test_fraction = {self.test_fraction:g} is refused: of {self.photos} photos at least "
                "one is tested and at least two are published. Raise photos, or take a fraction such as 0.3"
            )

    def __call__(self, *, root: Path | None = None) -> Faces:
        """Draw everybody; nothing is read."""
        import torch

        from countermove.faces.gallery import open_faces

        names = _numbered("person", self.people)
        photos = np.concatenate([self._draw(person) for person in range(self.people)])
        return open_faces(
            "planted-faces",
            names,
            torch.from_numpy(photos).permute(0, 3, 1, 2).contiguous(),
            np.repeat(np.arange(self.people), self.photos).tolist(),
            [f"{name}/{photo}" for name in names for photo in _numbered("photo", self.photos)],
            movers=self.movers,
            test_fraction=self.test_fraction,
            split_seed=self.seed,
        )

    def _draw(self, person: int) -> np.ndarray:
        """Draw a person's photos: uint8 [photos, side, side, 3]. They depend on its number, the seed and the side."""
        look = _within(LOOKS, self._uniform(person, shape=(len(LOOKS),)))
        luck = _within(LUCK, np.stack([self._uniform(person, i, shape=(len(LUCK),)) for i in range(self.photos)]))
        size = (self.side, self.side, 3)
        grain = np.stack([self._uniform(person, i, "grain", shape=size) for i in range(self.photos)])
        drawn = portraits(
            {name: float(value) for name, value in look.items()},
            {name: value[:, None, None] for name, value in luck.items()},
            self.side,
        )
        return np.round((drawn + GRAIN * (2 * grain - 1)).clip(0, 1) * 255).astype(np.uint8)

    def _uniform(self, *purpose: str | int, shape: tuple[int, ...]) -> np.ndarray:
        import torch

        from countermove.pixels.randomness import generator

        drawn = torch.rand(shape, generator=generator(self.seed, "planted-faces", *purpose), dtype=torch.float64)
        return drawn.numpy()


def _within(ranges: Mapping[str, tuple[float, float]], shares: np.ndarray) -> dict[str, np.ndarray]:
    """Stretch shares [..., R] of R ranges to these, by name."""
    return {name: low + (high - low) * shares[..., i] for i, (name, (low, high)) in enumerate(ranges.items())}


def _numbered(kind: str, count: int) -> list[str]:
    """Return names whose order as texts is their order as numbers."""
    width = len(str(count - 1))
    return [f"{kind}-{i:0{width}d}" for i in range(count)]
