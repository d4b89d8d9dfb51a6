"""Who publishes photos as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.faces.cloak import CloakContext, Sees
from countermove.pixels.batch import Batch


@dataclass(frozen=True, kw_only=True)
class NoCloak:
    """The photos as they are: what every cloak is compared with."""

    version: ClassVar[int] = 1
    norm: ClassVar[None] = None
    sees: ClassVar[Sees] = "photo"

    def surrogates(self) -> tuple[str, ...]:
        """Return none."""
        return ()

    def __call__(self, batch: Batch, *, context: CloakContext) -> Batch:
        """Return the batch."""
        return batch
