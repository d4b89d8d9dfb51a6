"""One thread for every test of this room; a few planted people, and small extractors trained on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from tests.threads import one_thread as one_thread
from torch import Tensor, nn

from countermove.faces.cloak import CloakContext
from countermove.faces.extractor import Embedder, read_extractor
from countermove.faces.gallery import Faces
from countermove.faces.methods import METHODS
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float

TINY = "dim=16, epochs=4, network='small-cnn(width=0.25)'"


@pytest.fixture(scope="session")
def few_faces() -> Faces:
    """12 people with 6 photos of 24 x 24 each; 4 of them move, with 4 published and 2 tested photos."""
    return METHODS.compose("data", "planted-faces(movers=4, people=12, photos=6, side=24)").method()


@pytest.fixture(scope="session")
def trained(few_faces: Faces) -> Callable[[int], Embedder]:
    """Return a small extractor that was trained on the public, another one for every build; each trained once."""

    @cache
    def train(build: int) -> Embedder:
        torch.set_num_threads(1)
        _, extractor = read_extractor(f"small(build={build}, {TINY})", "test")
        return extractor.fit(few_faces, seed=0, device="cpu", checkpoint=None)[0]

    return train


@pytest.fixture(scope="session")
def batch(few_faces: Faces) -> Batch:
    """The movers' published photos as a cloak gets them."""
    rows = few_faces.published
    return Batch(
        pictures=to_float(few_faces.photos[rows]),
        labels=few_faces.person[rows],
        ids=tuple(few_faces.ids[i] for i in rows.tolist()),
        classes=few_faces.people,
    )


@pytest.fixture
def context(few_faces: Faces, trained: Callable[[int], Embedder]) -> Callable[..., CloakContext]:
    """What a cloak may use: as many extractors as it names."""

    def make(surrogates: int = 1, seed: int = 0) -> CloakContext:
        return CloakContext(
            embedders=tuple(trained(build) for build in range(surrogates)),
            names=tuple(f"network {build}" for build in range(surrogates)),
            others=few_faces.photos[few_faces.public],
            other_people=few_faces.person[few_faces.public],
            other_names=few_faces.people,
            seed=seed,
        )

    return make


class Projection(Embedder):
    """An extractor in a line: the photo, as a vector, times a random matrix. Its features are easy to compute again."""

    def __init__(self, side: int, dim: int = 6, seed: int = 0) -> None:
        nn.Module.__init__(self)
        self.matrix = nn.Parameter(torch.randn(3 * side * side, dim, generator=generator(seed, "projection")))

    @property
    def dim(self) -> int:
        return self.matrix.shape[1]

    def raw(self, photos: Tensor) -> Tensor:
        return (photos - 0.5).flatten(1) @ self.matrix
