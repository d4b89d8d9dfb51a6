"""Pictures that travel together with their labels and ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from countermove.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some or all pictures of a data set.

    pictures: float32 [N, 3, H, W] in [0, 1].
    labels:   int64 [N], indices into classes.
    ids:      N strings, unique in the data set; a move's noise follows them.
    classes:  the names of all classes of the data set, also of those with no picture here.
    """

    pictures: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.pictures)
        if self.pictures.ndim != 4 or self.pictures.shape[1] != 3 or self.pictures.dtype != torch.float32:
            found = f"{self.pictures.dtype} {list(self.pictures.shape)}"
            raise DataError(f"pictures must be float32 [N, 3, H, W]; got {found}")
        if len(self.labels) != n or len(self.ids) != n:
            raise DataError(
                f"{n} pictures come with {len(self.labels)} labels and {len(self.ids)} ids; the numbers must agree"
            )

    def __len__(self) -> int:
        return len(self.pictures)

    def with_pictures(self, pictures: Tensor) -> Batch:
        """Return the same labels and ids with other pictures."""
        return replace(self, pictures=pictures)

    def select(self, index: Tensor | Sequence[int]) -> Batch:
        """Return the rows named by an index tensor or a list of positions."""
        index = torch.as_tensor(index, dtype=torch.int64)
        ids = tuple(self.ids[i] for i in index.tolist())
        return replace(self, pictures=self.pictures[index], labels=self.labels[index], ids=ids)
