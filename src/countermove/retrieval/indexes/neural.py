"""Search by the descriptors of a network. Legend: M indexed pictures, Q queries, D numbers of a descriptor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import Training
from countermove.retrieval.backbone import LEAST, Describer, describe, digest_of, read_backbone
from countermove.retrieval.collection import Collection, Pictures
from countermove.retrieval.indexes.stored import kept_rows, read_index, stored_tensor, write_index
from countermove.retrieval.whitening import Whitening, learned_whitening, pca_whitening

WhiteningOf = Literal["none", "pca", "learned", "checkpoint"]
Search = Literal["exact", "faiss"]
SMALLEST = 8
"""Pixels on a side that a picture keeps when it is shrunk."""


@dataclass(frozen=True, kw_only=True)
class Neural:
    """Descriptors of a network, pooled as generalised means, Radenovic et al. 2018, arXiv:1711.02512.

    Every indexed picture's descriptor is compared with the query's: one product, exact.

    backbone:  what describes: plain, other, robust, 'small(network=resnet-18)', or one with weights from elsewhere,
               'public(weights="torchvision:resnet50")'.
    scales:    sizes at which a picture is described; joined as a generalised mean with the pooling's own exponent
               (paper: 1, 0.7071, 0.5).
    whitening: "none"; "pca" or "learned" on the public pictures, the latter from what they show; "checkpoint": the one
               that came with the weights.
    dims:      numbers that are kept of a whitened descriptor; 0: all.
    longest:   pixels of the longer side, to which larger pictures are shrunk, bilinear with antialiasing (paper: 1024);
               0: as they are.
    search:    "exact", or "faiss" for that library's exact search, which is no faster up to 100,000 pictures.

    Differs from the paper: a query that was cut out is shrunk by its own size, not by that of the picture it was cut
    from.
    """

    version: ClassVar[int] = 1
    backbone: str = "plain"
    scales: tuple[float, ...] = (1.0,)
    whitening: WhiteningOf = "none"
    dims: int = 0
    longest: int = 0
    search: Search = "exact"

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbone", read_backbone(self.backbone, "engine neural")[0])
        if not self.scales or not all(0.1 <= scale <= 4 for scale in self.scales):
            raise ConfigError(f"engine neural: scales = {list(self.scales)} is refused; it is a list of 0.1 to 4")
        if self.whitening not in ("none", "pca", "learned", "checkpoint") or self.search not in ("exact", "faiss"):
            raise ConfigError(f"engine neural: whitening = {self.whitening!r}, search = {self.search!r} is refused")
        if self.dims < 0 or (self.dims and self.whitening == "none"):
            raise ConfigError(f"engine neural: dims = {self.dims} is refused; it needs whitening and is not below 0")
        if self.longest and self.longest < SMALLEST:
            raise ConfigError(f"engine neural: longest = {self.longest} is refused; it is 0, or at least {SMALLEST}")

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return what the backbone is made of beyond its spelling: the content of its weights' file, or nothing."""
        own = getattr(read_backbone(self.backbone, "engine neural")[1], "fingerprint", None)
        return str(own(rehash=rehash)) if callable(own) else ""

    def fit(
        self, collection: Collection, *, seed: int, device: str = "cpu", checkpoint: Checkpoint | None = None
    ) -> tuple[NeuralEngine, Training]:
        """Return the engine with a backbone trained on the public pictures, or found, and the log of that training."""
        backbone = read_backbone(self.backbone, "engine neural")[1]
        network, log = backbone.fit(collection, seed=seed, device=device, checkpoint=checkpoint)
        return self.on(network, collection, device=device), log

    def on(self, network: Describer, collection: Collection, *, device: str = "cpu") -> NeuralEngine:
        """Return the engine on a network that is ready; whitening is learned here."""
        sight = Sight(network, self.scales, self.longest)
        sight.whitening = self._whitening(sight, network, collection, device)
        return NeuralEngine(self, sight, device=device)

    def _whitening(self, sight: Sight, network: Describer, collection: Collection, device: str) -> Whitening | None:
        if self.whitening == "none":
            return None
        if self.whitening == "checkpoint":
            if network.whitening is None:
                raise DataError(f"the weights of {self.backbone} hold no whitening; take whitening=learned or none")
            return network.whitening["ms" if len(self.scales) > 1 else "ss"].first(self.dims)
        public = [collection.pictures[row] for row in collection.public.tolist()]
        found = describe(sight, public, device=device)
        learned = self.whitening == "learned"
        white = learned_whitening(found, collection.public_labels) if learned else pca_whitening(found)
        return white.first(self.dims)


class Sight(Describer):
    """A network as an engine looks through it: shrunk, at several sizes, whitened. Differentiable."""

    def __init__(self, network: Describer, scales: Sequence[float], longest: int) -> None:
        """Look through a network."""
        super().__init__()
        self.network, self.scales, self.longest = network, tuple(scales), longest
        self.whitening: Whitening | None = None

    @property
    def dim(self) -> int:
        """Return how many numbers a descriptor has."""
        return self.network.dim if self.whitening is None else len(self.whitening.projection)

    def raw(self, pictures: Tensor) -> Tensor:
        """Return descriptors, which have length one already."""
        height, width = pictures.shape[2:]
        shrink = min(1.0, self.longest / max(height, width)) if self.longest else 1.0
        seen = [self.network(_resized(pictures, shrink * scale)) for scale in self.scales]
        joined = seen[0] if len(seen) == 1 else self._joined(seen)
        return joined if self.whitening is None else self.whitening(joined)

    def _joined(self, seen: list[Tensor]) -> Tensor:
        p = torch.as_tensor(self.network.exponent).to(seen[0])
        stack = torch.stack(seen)
        mean = stack.mean(0) if float(p) == 1 else stack.clamp(min=LEAST).pow(p).mean(0).pow(1 / p)
        return F.normalize(mean, eps=LEAST)


def _resized(pictures: Tensor, scale: float) -> Tensor:
    size = [max(SMALLEST, round(scale * side)) for side in pictures.shape[2:]]
    if scale == 1 or size == list(pictures.shape[2:]):
        return pictures
    return F.interpolate(pictures, size, mode="bilinear", antialias=True, align_corners=False)


class NeuralEngine:
    """A neural engine whose network is ready.

    network: what describes, as the engine looks through it; what a move is made on that knows its target.
    """

    version = Neural.version

    def __init__(self, settings: Neural, network: Sight, *, device: str = "cpu") -> None:
        self.settings, self.network, self.device = settings, network, device

    def fingerprint(self) -> dict[str, Any]:
        """Return everything that descriptors depend on."""
        white = self.network.whitening
        whole = {} if white is None else {"mean": white.mean, "projection": white.projection}
        return {
            "engine": "neural",
            "version": self.version,
            "backbone": self.settings.backbone,
            "weights": digest_of(self.network.network.state_dict()),
            "scales": list(self.settings.scales),
            "longest": self.settings.longest,
            "resizing": "bilinear, antialiased",
            "whitening": "none" if white is None else digest_of(whole),
        }

    def describe(self, pictures: Pictures | Sequence[Tensor]) -> Tensor:
        """Return the descriptors of 8-bit pictures, unit vectors [N, D]."""
        return describe(self.network, pictures, device=self.device)

    def build(self, pictures: Pictures | Sequence[Tensor]) -> NeuralIndex:
        """Index pictures.

        Raises:
            DataError: when there are none, or one is not uint8 [3, H, W].
        """
        return NeuralIndex(self, self.describe(pictures))

    def load(self, folder: Path) -> NeuralIndex:
        """Load an index.

        Raises:
            DataError: when there is none, it is broken, or was built with other weights or settings.
        """
        tensors = read_index(folder, self.fingerprint())
        return NeuralIndex(self, stored_tensor(tensors, "descriptors", torch.float32, None, self.network.dim))


class NeuralIndex:
    """Pictures by their descriptors."""

    def __init__(self, engine: NeuralEngine, descriptors: Tensor) -> None:
        self.engine, self.descriptors = engine, descriptors

    def __len__(self) -> int:
        return len(self.descriptors)

    def scores(self, queries: Sequence[Tensor]) -> Tensor:
        """Return the cosines, float [Q, M]."""
        return self.engine.describe(queries) @ self.descriptors.T

    def search(self, queries: Sequence[Tensor], count: int) -> tuple[Tensor, Tensor]:
        """Return the cosines and the rows of the best, [Q, count] each, best first.

        Raises:
            DataError: when faiss is to search and cannot be imported.
        """
        count = min(count, len(self))
        if self.engine.settings.search == "exact":
            best = self.scores(queries).topk(count, dim=1)
            return best.values, best.indices
        faiss = _faiss()
        flat = faiss.IndexFlatIP(self.descriptors.shape[1])
        flat.add(self.descriptors.numpy())
        values, rows = flat.search(self.engine.describe(queries).numpy(), count)
        return torch.from_numpy(values), torch.from_numpy(rows)

    def add(self, pictures: Sequence[Tensor]) -> None:
        """Put pictures behind those that are there; whitening stays as it is."""
        self.descriptors = torch.cat([self.descriptors, self.engine.describe(pictures)])

    def remove(self, rows: Sequence[int]) -> None:
        """Take pictures out; those behind move up."""
        self.descriptors = self.descriptors[kept_rows(len(self), rows)]

    def save(self, folder: Path) -> None:
        """Write everything into an empty folder."""
        write_index(folder, self.engine.fingerprint(), {"descriptors": self.descriptors})


def _faiss() -> Any:
    try:
        return import_module("faiss")
    except ImportError as error:
        raise DataError(
            f"search=faiss needs faiss, which cannot be imported ({error}); run: pip install 'countermove[retrieval]', "
            "or take search=exact"
        ) from error
