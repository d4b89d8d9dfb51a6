"""Who sends the picture as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from countermove.retrieval.query import Limit, QueryContext


@dataclass(frozen=True, kw_only=True)
class NoChange:
    """The query as it is: what every other is compared with."""

    version: ClassVar[int] = 1
    norm: ClassVar[Limit] = None

    def surrogates(self) -> tuple[str, ...]:
        """Return none."""
        return ()

    def __call__(self, pictures: Tensor, ids: Sequence[str], *, context: QueryContext) -> Tensor:
        """Return the pictures."""
        return pictures
