"""Search by one descriptor of the whole picture that nobody trained: CEDD or GIST."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from countermove.errors import ConfigError, did_you_mean
from countermove.retrieval.backbone import Describer
from countermove.retrieval.collection import Collection, Pictures
from countermove.retrieval.indexes.cedd import DIM as CEDD_DIM
from countermove.retrieval.indexes.cedd import cedd, cedd_distances
from countermove.retrieval.indexes.gist import DIM as GIST_DIM
from countermove.retrieval.indexes.gist import check_side, gist, gist_distances
from countermove.retrieval.indexes.stored import by_shape, kept_rows, read_index, stored_tensor, write_index

Descriptor = Literal["cedd", "gist"]


@dataclass(frozen=True, kw_only=True)
class GlobalFeatures:
    """Texture and colour (CEDD), Chatzichristofis and Boutalis 2008, or the scene's shape (GIST), Oliva et al. 2001.

    Every indexed picture is compared with the query. CEDD: Tanimoto distance between 144 quantised numbers. GIST:
    Euclidean distance between 512 numbers, of gray only. Both take pictures of any size; GIST looks at the square
    middle.

    descriptor: "cedd" or "gist".
    side:       pixels on a side to which pictures are brought for GIST (the authors' demonstration: 256); CEDD takes
                them as they are.

    The thesis names neither implementation nor variant: CEDD is LIRE's, GIST the 512 numbers of the authors' LMgist.
    """

    version: ClassVar[int] = 1
    descriptor: Descriptor = "cedd"
    side: int = 256

    def __post_init__(self) -> None:
        if self.descriptor not in get_args(Descriptor):
            known = get_args(Descriptor)
            raise ConfigError(f"unknown descriptor {self.descriptor!r}; {did_you_mean(str(self.descriptor), known)}")
        check_side(self.side)

    def fingerprint(self) -> dict[str, Any]:
        """Return what descriptors depend on."""
        side = {"side": self.side} if self.descriptor == "gist" else {}
        return {"engine": "global", "version": self.version, "descriptor": self.descriptor, **side}

    def describe(self, pictures: Pictures | Sequence[Tensor]) -> Tensor:
        """Return the pictures' descriptors, [N, 144] or [N, 512]."""
        if self.descriptor == "cedd":
            return by_shape(pictures, cedd)
        return by_shape(pictures, lambda same: gist(same, side=self.side))

    def build(self, pictures: Pictures | Sequence[Tensor]) -> GlobalIndex:
        """Index pictures.

        Raises:
            DataError: when there are none, or one is not uint8 [3, H, W].
        """
        return GlobalIndex(self, self.describe(pictures))

    def looks(self) -> None:
        """Return None: it looks through no backbone."""

    def index(
        self,
        collection: Collection,
        pictures: Sequence[Tensor],
        *,
        describer: Describer | None,
        seed: int,
        device: str,
    ) -> GlobalIndex:
        """Return an index of pictures; nothing is learned, on the CPU."""
        return self.build(pictures)

    def opened(self, folder: Path, *, describer: Describer | None, device: str) -> GlobalIndex:
        """Return an index that was saved, as `load` does."""
        return self.load(folder)

    def load(self, folder: Path) -> GlobalIndex:
        """Load an index.

        Raises:
            DataError: when there is none, it is broken, or was built with another descriptor or side.
        """
        tensors = read_index(folder, self.fingerprint())
        dim, dtype = (CEDD_DIM, torch.float64) if self.descriptor == "cedd" else (GIST_DIM, torch.float32)
        return GlobalIndex(self, stored_tensor(tensors, "features", dtype, None, dim))


class GlobalIndex:
    """Pictures by their descriptors."""

    def __init__(self, engine: GlobalFeatures, features: Tensor) -> None:
        self.engine = engine
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    def scores(self, queries: Sequence[Tensor]) -> Tensor:
        """Return the negative distances, float64 [Q, M]."""
        distances = cedd_distances if self.engine.descriptor == "cedd" else gist_distances
        return -distances(self.engine.describe(queries), self.features)

    def add(self, pictures: Sequence[Tensor]) -> None:
        """Put pictures behind those that are there."""
        self.features = torch.cat([self.features, self.engine.describe(pictures)])

    def remove(self, rows: Sequence[int]) -> None:
        """Take pictures out; those behind move up."""
        self.features = self.features[kept_rows(len(self), rows)]

    def save(self, folder: Path) -> None:
        """Write everything into an empty folder."""
        write_index(folder, self.engine.fingerprint(), {"features": self.features})
