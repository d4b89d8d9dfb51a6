"""Networks with public weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from countermove.faces.extractor import Embedder
from countermove.faces.extractors.pretrained import architecture, load_embedder
from countermove.faces.gallery import Faces
from countermove.faces.losses import Loss
from countermove.learning.augment import BatchStep, ModelStep
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import Training
from countermove.learning.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Public:
    """A face network with weights from elsewhere, which are never replaced by random ones.

    weights: facenet-vggface2, facenet-casia-webface, arcface-r50, arcface-r100, cosface-r100, magface-r100,
             adaface-ir50, adaface-ir101, clip-b32,
             one of these with a file (arcface-r50:backbone.pth), a file whose name is known, or open_clip:NAME/TAG.
    sha256:  of the file, where it is another than the published one or where none is known.
    """

    version: ClassVar[int] = 1
    stored: ClassVar[bool] = False
    weights: str
    sha256: str | None = None

    @property
    def network(self) -> str:
        """Return which network it is, whatever its weights."""
        return architecture(self.weights)

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return the SHA-256 of the file of weights, or of the weights themselves where they are not one file."""
        embedder = load_embedder(self.weights, sha256=self.sha256)
        return embedder.sha256 or _digest(embedder)

    def blank(self, faces: Faces, *, seed: int) -> Embedder:
        """Return the network with its weights."""
        return load_embedder(self.weights, sha256=self.sha256)

    def recipe(self) -> Recipe:
        """Return how it is fine-tuned."""
        return Recipe(epochs=10, lr=0.01)

    def criterion(self) -> tuple[Loss, float, float]:
        """Return the loss of fine-tuning, its scale and its margin."""
        return "softmax", 1.0, 0.0

    def batch_steps(self) -> tuple[BatchStep, ...]:
        """Return nothing."""
        return ()

    def model_steps(self) -> tuple[ModelStep, ...]:
        """Return nothing."""
        return ()

    def fit(
        self, faces: Faces, *, seed: int, device: str = "cpu", checkpoint: Checkpoint | None = None
    ) -> tuple[Embedder, Training]:
        """Return the network; there is nothing to train."""
        return self.blank(faces, seed=seed), Training(predicted=torch.zeros(0, dtype=torch.int64))


def _digest(embedder: Embedder) -> str:
    """Return SHA-256 over all weights, names in order."""
    import hashlib

    found = hashlib.sha256()
    for name, tensor in sorted(embedder.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
