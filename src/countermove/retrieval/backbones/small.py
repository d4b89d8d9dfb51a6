"""Small networks trained on the public pictures at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.learning.adversary import FeatureAdversary
from countermove.learning.augment import BatchStep, ModelStep
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import OptimizerOf, Training, train
from countermove.learning.operations import Strong
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples
from countermove.nets.parts import seeded
from countermove.nets.registry import build_network, check_network
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float, to_uint8
from countermove.retrieval.backbone import Describer, GeM
from countermove.retrieval.backbones.trunks import Pooled, Vectors, trunk_of
from countermove.retrieval.collection import Collection

Augment = Literal["plain", "strong"]
USUAL_SIDE = 64


@dataclass(frozen=True, kw_only=True)
class Small:
    """A small network trained to name the public pictures, its feature map pooled as a generalised mean.

    A picture's name is the class whose direction its descriptor is nearest to (cosines times `scale`, cross-entropy:
    Zhai and Wu 2018, arXiv:1811.12649).

    network:   one of ours, as on the command line: small-residual, 'small-cnn(width=2)', resnet-18. One without a
               feature map, such as vit-small, gives its penultimate features.
    p:         exponent of the pooling; learned from there on, unless it is fixed.
    fixed:     keep p.
    scale:     factor on cosines in training.
    side:      to which the public pictures are resized for training; 0: theirs where all have one size, else 64.
    augment:   "plain" (crop and flip), or "strong" (also colours, sharpness, small turns, a hole).
    adversary: radius (L-infinity) of adversarial training, with 4 steps that move the descriptors; 0: none.
    epochs, lr: of SGD with momentum.
    build:     another number is another draw of weights and order.
    """

    version: ClassVar[int] = 1
    stored: ClassVar[bool] = True
    network: str = "small-residual"
    p: float = 3.0
    fixed: bool = False
    scale: float = 16.0
    side: int = 0
    augment: Augment = "plain"
    adversary: float = 0.0
    epochs: int = 20
    lr: float = 0.1
    build: int = 0

    def __post_init__(self) -> None:
        check_network(self.network)
        if self.augment not in ("plain", "strong"):
            raise ConfigError(f"backbone small: augment = {self.augment!r} is refused; it is plain or strong")
        if self.epochs < 1 or self.lr <= 0 or self.scale <= 0 or self.p < 1 or not 0 <= self.adversary < 1:
            raise ConfigError("backbone small: epochs and p are at least 1, scale and lr above 0, adversary in [0, 1)")
        if self.side and self.side < 8:
            raise ConfigError(f"backbone small: side = {self.side} is refused; pictures have at least 8 pixels a side")

    def blank(self, collection: Collection, *, seed: int) -> Describer:
        """Return the untrained network."""
        side = self.side or common_side(collection)
        network = build_network(self.network, 2, side, generator(seed, "backbone", self.build))
        trunk = trunk_of(network)
        with torch.no_grad():
            probe = torch.zeros(1, 3, side, side)
            if trunk is None:
                network = Vectors(network, 1, penultimate=True, side=side)
                return Vectors(network.network, network.eval().raw(probe).shape[1], penultimate=True, side=side)
            dim = trunk.eval()(probe).shape[1]
        return Pooled(trunk, dim, GeM(self.p, learned=not self.fixed)).train()

    def recipe(self) -> Recipe:
        """Return how it is trained."""
        return Recipe(epochs=self.epochs, lr=self.lr)

    def batch_steps(self) -> tuple[BatchStep, ...]:
        """Return the strong augmentation, where it is asked for."""
        return (Strong(),) if self.augment == "strong" else ()

    def model_steps(self) -> tuple[ModelStep, ...]:
        """Return the adversary, where there is one."""
        return (FeatureAdversary(part="describer", eps=self.adversary),) if self.adversary else ()

    def fit(
        self, collection: Collection, *, seed: int, device: str = "cpu", checkpoint: Checkpoint | None = None
    ) -> tuple[Describer, Training]:
        """Train it on the public pictures.

        Raises:
            DataError: when they show fewer than two things.
        """
        examples, classes = public_examples(collection, self.side)
        describer = self.blank(collection, seed=seed)
        log = fit_describer(
            describer,
            examples,
            classes,
            scale=self.scale,
            recipe=self.recipe(),
            seed=int(torch.randint(2**31, (), generator=generator(seed, "fit backbone", self.build))),
            steps=self.batch_steps(),
            model_steps=self.model_steps(),
            device=device,
            checkpoint=checkpoint,
        )
        return describer.eval(), log


class Directions(nn.Module):
    """A direction for every class."""

    def __init__(self, classes: int, dim: int, scale: float, source: torch.Generator) -> None:
        """Draw the directions."""
        super().__init__()
        self.scale = scale
        with seeded(source):
            self.weight = nn.Parameter(torch.randn(classes, dim))

    def forward(self, described: Tensor) -> Tensor:
        """Return scaled cosines [N, K] of unit vectors [N, D]."""
        return self.scale * F.linear(described, F.normalize(self.weight))


class Named(nn.Module):
    """A network with a direction for every class: what `learning.loop.train` sees."""

    def __init__(self, describer: Describer, directions: Directions) -> None:
        """Join both."""
        super().__init__()
        self.describer, self.directions = describer, directions

    def forward(self, pictures: Tensor) -> Tensor:
        """Return scaled cosines."""
        return self.directions(self.describer(pictures))


def fresh_directions(describer: Describer, classes: int, scale: float, *, seed: int) -> Directions:
    """Return directions that depend on the seed alone."""
    return Directions(classes, describer.dim, scale, generator(seed, "directions"))


def fit_describer(
    describer: Describer,
    examples: Examples,
    classes: int,
    *,
    scale: float,
    recipe: Recipe,
    seed: int,
    steps: tuple[BatchStep, ...] = (),
    model_steps: tuple[ModelStep, ...] = (),
    optimizer: OptimizerOf | None = None,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Training:
    """Train a network in place with fresh directions, which are thrown away."""
    few = Examples(pictures=examples.pictures[:100], labels=examples.labels[:100])
    return train(
        Named(describer, fresh_directions(describer, classes, scale, seed=seed)),
        examples,
        few,
        recipe=recipe,
        seed=seed,
        classes=classes,
        steps=steps,
        model_steps=model_steps,
        optimizer=optimizer,
        device=device,
        checkpoint=checkpoint,
    )


def public_examples(collection: Collection, side: int = 0) -> tuple[Examples, int]:
    """Return the public pictures at one size, labelled 0 to K - 1, and K.

    Raises:
        DataError: when they show fewer than two things.
    """
    names, labels = torch.unique(collection.public_labels, return_inverse=True)
    if len(names) < 2:
        raise DataError(f"{collection.name}: its public pictures show {len(names)} kinds of things; a backbone needs 2")
    side = side or common_side(collection)
    pictures = torch.stack([resized(collection.pictures[row], side) for row in collection.public.tolist()])
    return Examples(pictures=pictures, labels=labels), len(names)


def common_side(collection: Collection) -> int:
    """Return the side of the public pictures where all are squares of one size, else the usual one."""
    shapes = {tuple(collection.pictures[row].shape[1:]) for row in collection.public.tolist()}
    sides = {side for shape in shapes for side in shape}
    return sides.pop() if len(sides) == 1 else USUAL_SIDE


def resized(picture: Tensor, side: int) -> Tensor:
    """Return an 8-bit picture [3, H, W] squeezed into a square, bilinear with antialiasing."""
    if tuple(picture.shape[1:]) == (side, side):
        return picture
    pictures = F.interpolate(to_float(picture)[None], (side, side), mode="bilinear", antialias=True)
    return to_uint8(pictures)[0]
