"""What a cloak is given and what it gives back.

A cloak is a frozen, keyword-only dataclass, called with photos and whose they are::

    __call__(batch: Batch, *, context: CloakContext) -> Batch

It returns changed photos with the same ids; labels are people. Class variables say what it is:

    version: raised when its output changes.
    norm:    "linf", or None where another measure limits the change (DSSIM).
    sees:    what the change of a photo depends on: "photo" (itself alone), "person" (all of the owner's photos in the
             batch), or "others" (these and photos of other people).

and `surrogates()` names the extractors that it is made on; `TARGET` among them is the trainer's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.faces.extractor import TARGET, read_extractor
from countermove.learning.scoring import place
from countermove.pixels.batch import Batch

PHOTOS_AT_ONCE = 64
Sees = Literal["photo", "person", "others"]
Embed = Callable[[Tensor], Tensor]
"""From photos [N, 3, S, S] in [0, 1] to unit vectors [N, D]; differentiable."""


@dataclass
class Meter:
    """Forward-backward passes of a photo that were spent."""

    samples: int = 0


@dataclass(frozen=True, kw_only=True)
class CloakContext:
    """What a mover may use.

    embedders: the extractors that the cloak named, in its order.
    names:     their networks, for a released tool that confuses those of one network.
    others:    8-bit photos [M, 3, S, S] of people who are not in any gallery.
    other_people, other_names: whose they are, int64 [M], and the names that these numbers stand for.
    seed:      of all noise; a sample's own follows its id.
    """

    embedders: tuple[nn.Module, ...]
    names: tuple[str, ...] = ()
    others: Tensor = field(default_factory=lambda: torch.zeros(0, 3, 1, 1, dtype=torch.uint8))
    other_people: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    other_names: tuple[str, ...] = ()
    seed: int = 0
    device: str = "cpu"
    meter: Meter = field(default_factory=Meter)

    def placed(self) -> tuple[nn.Module, ...]:
        """Return the embedders on the device."""
        return tuple(place(embedder, self.device) for embedder in self.embedders)


class Cloak(Protocol):
    """A move of this arena."""

    version: ClassVar[int]
    norm: ClassVar[Literal["linf"] | None]

    @property
    def sees(self) -> Sees:
        """Return what a photo's change depends on; mostly a class variable."""
        ...

    def surrogates(self) -> tuple[str, ...]:
        """Return the extractors it is made on, canonically spelled."""
        ...

    def __call__(self, batch: Batch, *, context: CloakContext) -> Batch:
        """Return the cloaked photos."""
        ...


def read_surrogates(extractors: Sequence[str], owner: str) -> tuple[str, ...]:
    """Return canonical spellings.

    Raises:
        ConfigError: when there is none, or one cannot be read.
    """
    if not extractors:
        raise ConfigError(f"move {owner!r} needs an extractor to be made on, such as extractors=[plain]")
    return tuple(name if name == TARGET else read_extractor(name, f"move {owner!r}")[0] for name in extractors)


class Ensemble(nn.Module):
    """Several embedders as one, their features side by side: [N, D1 + D2 + ...], each a unit vector."""

    def __init__(self, embedders: Sequence[nn.Module]) -> None:
        """Keep them."""
        super().__init__()
        self.parts = nn.ModuleList(embedders)

    def forward(self, photos: Tensor) -> Tensor:
        """Return all features."""
        return torch.cat([part(photos) for part in self.parts], dim=1)
