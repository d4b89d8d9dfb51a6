"""Small networks trained on the faces at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.faces.extractor import Embedder, PeopleOf, fit_embedder, public_examples
from countermove.faces.gallery import Faces
from countermove.faces.losses import LOSSES, Loss
from countermove.learning.adversary import FeatureAdversary
from countermove.learning.augment import BatchStep, ModelStep
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import Training
from countermove.learning.operations import Strong
from countermove.learning.recipe import Recipe
from countermove.nets.registry import build_network, check_network
from countermove.pixels.randomness import generator

Augment = Literal["plain", "strong"]


@dataclass(frozen=True, kw_only=True)
class Small:
    """A small network trained on the public's photos.

    network:   one of ours, as on the command line: small-residual, 'small-cnn(width=2)', resnet-18.
    dim:       features.
    loss:      softmax, arcface or cosface.
    scale, margin: of the last two.
    people:    "all" of the public, or its "first" or "second" half, chosen by name: two halves share nobody.
    augment:   "plain" (crop and flip), or "strong" (also colours, sharpness, small turns, a hole).
    adversary: radius (L-infinity) of adversarial training, with 4 steps that move the features; 0: none.
    epochs, lr: of SGD with momentum.
    build:     another number is another draw of weights and order.
    """

    version: ClassVar[int] = 1
    stored: ClassVar[bool] = True
    network: str = "small-residual"
    dim: int = 128
    loss: Loss = "softmax"
    scale: float = 16.0
    margin: float = 0.2
    people: PeopleOf = "all"
    augment: Augment = "plain"
    adversary: float = 0.0
    epochs: int = 20
    lr: float = 0.1
    build: int = 0

    def __post_init__(self) -> None:
        check_network(self.network)
        if self.loss not in LOSSES or self.people not in ("all", "first", "second"):
            raise ConfigError(f"extractor small: loss = {self.loss!r}, people = {self.people!r} is refused")
        if self.augment not in ("plain", "strong"):
            raise ConfigError(f"extractor small: augment = {self.augment!r} is refused; it is plain or strong")
        if min(self.dim, self.epochs) < 1 or self.scale <= 0 or self.margin < 0 or not 0 <= self.adversary < 1:
            raise ConfigError("extractor small: dim, epochs and scale are above 0, margin and adversary not below")

    def blank(self, faces: Faces, *, seed: int) -> Embedder:
        """Return the untrained embedder."""
        source = generator(seed, "extractor", self.build)
        return SmallEmbedder(build_network(self.network, self.dim, faces.side, source), self.dim)

    def recipe(self) -> Recipe:
        """Return how it is trained."""
        return Recipe(epochs=self.epochs, lr=self.lr)

    def criterion(self) -> tuple[Loss, float, float]:
        """Return the loss, its scale and its margin."""
        return self.loss, self.scale, self.margin

    def batch_steps(self) -> tuple[BatchStep, ...]:
        """Return the strong augmentation, where it is asked for."""
        return (Strong(),) if self.augment == "strong" else ()

    def model_steps(self) -> tuple[ModelStep, ...]:
        """Return the adversary, where there is one."""
        return (FeatureAdversary(part="embedder", eps=self.adversary),) if self.adversary else ()

    def fit(
        self, faces: Faces, *, seed: int, device: str = "cpu", checkpoint: Checkpoint | None = None
    ) -> tuple[Embedder, Training]:
        """Train it on the public's photos.

        Raises:
            DataError: when the public has fewer than two people for it.
        """
        examples, people = public_examples(faces, self.people)
        embedder = self.blank(faces, seed=seed)
        log = fit_embedder(
            embedder,
            examples,
            people,
            extractor=self,
            recipe=self.recipe(),
            seed=int(torch.randint(2**31, (), generator=generator(seed, "fit", self.build))),
            steps=self.batch_steps(),
            model_steps=self.model_steps(),
            device=device,
            checkpoint=checkpoint,
        )
        return embedder.eval(), log


class SmallEmbedder(Embedder):
    """A network of ours with batch normalisation behind it."""

    def __init__(self, body: nn.Module, dim: int) -> None:
        """Put batch normalisation behind a body that gives [N, dim]."""
        super().__init__()
        self.body, self.neck = body, nn.BatchNorm1d(dim)

    @property
    def dim(self) -> int:
        """Return how many features there are."""
        return self.neck.num_features

    def raw(self, photos: Tensor) -> Tensor:
        """Return features before they are normalised in length."""
        return self.neck(self.body(photos))
