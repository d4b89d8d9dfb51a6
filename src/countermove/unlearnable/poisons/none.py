"""No move at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.pixels.balls import Norm
from countermove.pixels.batch import Batch
from countermove.unlearnable.poison import Context


@dataclass(frozen=True, kw_only=True)
class NoPoison:
    """The pictures as they are: the reference of every audit."""

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = None
    streams: ClassVar[bool] = True

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return the batch."""
        return batch
