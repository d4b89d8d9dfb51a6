"""Who adds nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from countermove.profiles.dataset import Profiles
from countermove.profiles.pivot import Additions, Knowledge, PivotContext


@dataclass(frozen=True, kw_only=True)
class NoPivot:
    """The profiles as they are: what every pivot is compared with."""

    version: ClassVar[int] = 1
    changes: ClassVar[bool] = False

    def knows(self) -> Knowledge | None:
        """Return nothing."""
        return None

    def __call__(self, data: Profiles, movers: Tensor, *, context: PivotContext) -> Additions:
        """Return no additions."""
        none = torch.zeros(0, dtype=torch.int64)
        return Additions(items=data.items[:0], mover=none, source=none, when=none)
