"""Features that were computed before, found again by the content of a photo."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict

import torch
from torch import Tensor, nn

from countermove.faces.extractor import embed

MOST = 200_000
"""Photos whose features are kept; with 512 features they take 400 MB."""


class Remembered:
    """A cache of features by extractor and photo content, for one process. The oldest are forgotten first."""

    def __init__(self, most: int = MOST) -> None:
        """Begin with nothing."""
        self.most, self.asked, self.computed = most, 0, 0
        self._seconds: dict[str, float] = {}
        self._saved = 0.0
        self._known: OrderedDict[tuple[str, bytes], Tensor] = OrderedDict()

    def saved(self) -> float:
        """Return the seconds that were saved since the last call, so that a price does not depend on who came first."""
        saved, self._saved = self._saved, 0.0
        return saved

    def embed(self, extractor: str, embedder: nn.Module, photos: Tensor, *, device: str = "cpu") -> Tensor:
        """Return features [N, D] of 8-bit photos [N, 3, S, S], computed where they are not known.

        Args:
            extractor: a key of the embedder's weights; the same key must mean the same weights.
            embedder: asked about photos that are new.
            photos: what to embed.
            device: where the embedder runs.
        """
        keys = [(extractor, hashlib.sha256(photo.numpy().tobytes()).digest()) for photo in photos.contiguous()]
        fresh = {key: row for row, key in enumerate(keys) if key not in self._known}
        self.asked += len(keys)
        self.computed += len(fresh)
        found = {key: self._known[key] for key in keys if key in self._known}
        if fresh:
            began = time.perf_counter()
            features = embed(embedder, photos[list(fresh.values())], device=device)
            self._seconds[extractor] = (time.perf_counter() - began) / len(fresh)
            found |= dict(zip(fresh, features, strict=True))
            self._known.update({key: found[key] for key in fresh})
        self._saved += self._seconds.get(extractor, 0.0) * (len(keys) - len(fresh))
        while len(self._known) > self.most:
            self._known.popitem(last=False)
        return torch.stack([found[key] for key in keys])
