"""What turns a photo of a face into features: how it is named, trained, stored and used.

Legend: N photos, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.faces.gallery import Faces
from countermove.faces.losses import LOSSES, Head, Loss, fresh_head, margin_loss
from countermove.game import spelling
from countermove.game.methods import build, load
from countermove.game.spelling import Named
from countermove.learning.augment import BatchStep, CutoutStep, ModelStep
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import Training, train
from countermove.learning.operations import apply
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import EVALUATION_BATCH, Examples, place, to_model
from countermove.nets.registry import build_network, check_network
from countermove.pixels.balls import Ball
from countermove.pixels.randomness import generator
from countermove.pixels.selection import pick
from countermove.pixels.steps import frozen, sign_gradient

PeopleOf = Literal["all", "first", "second"]
Augment = Literal["plain", "strong"]
TARGET = "target"
"""In a cloak's list of extractors: the one of the trainer whom it meets."""

ERAS = {
    "plain": "small(people=first)",
    "arc": "small(build=1, loss=arcface, network='small-residual(width=1.5)', people=second)",
    "strong": "small(augment=strong, build=2, loss=cosface, network=small-cnn)",
    "robust": "small(adversary=4/255, build=3)",
}
"""Small extractors that differ in data, loss, augmentation, network and robustness, by name: surrogate eras."""


class Embedder(nn.Module):
    """A network with normalised features: photos [N, 3, S, S] in [0, 1] to unit vectors [N, D]."""

    def __init__(self, body: nn.Module, dim: int) -> None:
        """Put batch normalisation behind a body that gives [N, dim]."""
        super().__init__()
        self.body, self.neck, self.dim = body, nn.BatchNorm1d(dim), dim

    def raw(self, photos: Tensor) -> Tensor:
        """Return features before they are normalised in length."""
        return self.neck(self.body(photos))

    def forward(self, photos: Tensor) -> Tensor:
        """Return unit vectors."""
        return F.normalize(self.raw(photos))


class Trained(nn.Module):
    """An embedder with a head: what `learning.loop.train` sees."""

    def __init__(self, embedder: Embedder, head: Head) -> None:
        """Join both."""
        super().__init__()
        self.embedder, self.head = embedder, head

    def forward(self, photos: Tensor) -> Tensor:
        """Return the head's output."""
        return self.head(self.embedder.raw(photos))


class Extractor(Protocol):
    """How features are made."""

    version: ClassVar[int]

    def blank(self, faces: Faces, *, seed: int) -> Embedder:
        """Return the embedder whose weights are still to be read; with weights from elsewhere, the whole one."""
        ...

    def fit(self, faces: Faces, *, seed: int, device: str, checkpoint: Checkpoint | None) -> tuple[Embedder, Training]:
        """Return the embedder ready for use, with the log of its training (empty where it was not trained)."""
        ...

    def recipe(self) -> Recipe:
        """Return how it is trained, or fine-tuned where it comes with weights."""
        ...

    def criterion(self) -> tuple[Loss, float, float]:
        """Return the loss, its scale and its margin."""
        ...


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
        return Embedder(build_network(self.network, self.dim, faces.side, source), self.dim)

    def recipe(self) -> Recipe:
        """Return how it is trained."""
        return Recipe(epochs=self.epochs, lr=self.lr)

    def criterion(self) -> tuple[Loss, float, float]:
        """Return the loss, its scale and its margin."""
        return self.loss, self.scale, self.margin

    def fit(
        self, faces: Faces, *, seed: int, device: str = "cpu", checkpoint: Checkpoint | None = None
    ) -> tuple[Embedder, Training]:
        """Train it on the public's photos.

        Raises:
            DataError: when the public has fewer than two people for it.
        """
        examples, people = public_examples(faces, self.people)
        embedder = self.blank(faces, seed=seed)
        steps = (Strong(),) if self.augment == "strong" else ()
        models = (FeatureAdversary(self.adversary),) if self.adversary else ()
        log = fit_embedder(
            embedder,
            examples,
            people,
            extractor=self,
            recipe=self.recipe(),
            seed=int(torch.randint(2**31, (), generator=generator(seed, "fit", self.build))),
            steps=steps,
            model_steps=models,
            device=device,
            checkpoint=checkpoint,
        )
        return embedder.eval(), log


EXTRACTORS = {
    "small": "countermove.faces.extractor:Small",
    "pretrained": "countermove.faces.extractors.pretrained:Pretrained",
}


def read_extractor(spelled: str, owner: str) -> tuple[str, Extractor]:
    """Return an extractor's canonical spelling and itself; eras stand for what they are.

    Raises:
        ConfigError: when it is unknown, or has settings that are refused.
    """
    named, *others = spelling.parse(ERAS.get(spelled, spelled))
    if others:
        raise ConfigError(f"{owner}: one extractor is needed, not {spelled!r}")
    if named.name not in EXTRACTORS:
        known = did_you_mean(named.name, [*EXTRACTORS, *ERAS])
        raise ConfigError(f"{owner}: no extractor is called {named.name!r}; {known}")
    method = build(load(EXTRACTORS[named.name]), named.settings, what=f"{owner}: extractor {named.name!r}")
    spoken = {f.name: getattr(method, f.name) for f in fields(method) if getattr(method, f.name) != f.default}
    return spelling.spell([Named(named.name, spoken)]), method


def identity(spelled: str, *, rehash: bool = False) -> dict[str, Any]:
    """Return what of an extractor enters a key: every setting, its version, the content of its weights' file."""
    spelled, method = read_extractor(spelled, "extractor")
    fingerprint = getattr(method, "fingerprint", None)
    content = {"content": fingerprint(rehash=rehash)} if callable(fingerprint) else {}
    return {"spelling": spelled, "settings": asdict(method), "version": method.version, **content}  # pyright: ignore


def public_examples(faces: Faces, people: PeopleOf = "all") -> tuple[Examples, int]:
    """Return the public's photos, labelled 0 to K - 1, and K.

    Raises:
        DataError: when there are fewer than two people.
    """
    public = sorted({int(p) for p in faces.person[faces.public].tolist()})
    if people != "all":
        first = pick([faces.people[p] for p in public], 0.5, seed=0, purpose="half of the public")
        public = [p for p, taken in zip(public, first, strict=True) if taken == (people == "first")]
    if len(public) < 2:
        raise DataError(f"{faces.name}: {len(public)} people are left to train an extractor on; lower movers")
    label = torch.full((len(faces.people),), -1)
    label[torch.tensor(public)] = torch.arange(len(public))
    rows = faces.public[label[faces.person[faces.public]] >= 0]
    return Examples(pictures=faces.photos[rows], labels=label[faces.person[rows]]), len(public)


def fit_embedder(
    embedder: Embedder,
    examples: Examples,
    people: int,
    *,
    extractor: Extractor,
    recipe: Recipe,
    seed: int,
    steps: Sequence[BatchStep] = (),
    model_steps: Sequence[ModelStep] = (),
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Training:
    """Train an embedder in place with a fresh head, which is thrown away."""
    loss, scale, margin = extractor.criterion()
    model = Trained(embedder, fresh_head(people, embedder.dim, loss, seed, "fit"))
    few = Examples(pictures=examples.pictures[:100], labels=examples.labels[:100])
    return train(
        model,
        examples,
        few,
        recipe=recipe,
        seed=seed,
        classes=people,
        steps=tuple(_Labelled(step) for step in steps),
        model_steps=model_steps,
        loss=_on_labels(margin_loss(loss, scale=scale, margin=margin)),
        device=device,
        checkpoint=checkpoint,
    )


def _on_labels(loss: Any) -> Any:
    """Let a loss of labels take one-hot rows as well."""

    def on_either(output: Tensor, targets: Tensor) -> Tensor:
        return loss(output, targets if targets.ndim == 1 else targets.argmax(1))

    return on_either


@dataclass(frozen=True)
class _Labelled:
    """A batch step that leaves labels alone."""

    step: BatchStep

    def __call__(self, pictures: Tensor, targets: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return self.step(pictures, targets, generator=generator)[0], targets


@dataclass(frozen=True)
class Strong:
    """Colours, sharpness and small turns at random, then a hole of a quarter of the side."""

    def __call__(self, pictures: Tensor, targets: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the changed batch."""
        for names, most in ((("Color", "Brightness", "Contrast", "Sharpness"), 0.7), (("Rotate", "ShearX"), 1.0)):
            which = torch.randint(-1, len(names), (len(pictures),), generator=generator)
            strength = most * (2 * torch.rand(len(pictures), generator=generator) - 1)
            if "Rotate" in names:
                strength = torch.where(which == 0, 15 * strength, 0.2 * strength)
            pictures = apply(pictures, names, which, strength)
        return CutoutStep(pictures.shape[-1] // 4)(pictures, targets, generator=generator)


@dataclass(frozen=True)
class FeatureAdversary:
    """Adversarial training of an extractor: photos whose features are moved as far as they go.

    eps:   radius (L-infinity).
    steps: of 2.5 eps / steps each, from a random start.
    """

    eps: float
    steps: int = 4

    @property
    def passes(self) -> float:
        """Forward-backward passes spent on every photo."""
        return self.steps

    def __call__(
        self, model: nn.Module, pictures: Tensor, targets: Tensor, *, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Tensor]:
        """Return moved photos and the same targets."""
        assert isinstance(model, Trained), "an extractor is trained with its head"
        with frozen(model.embedder), torch.no_grad():
            clean = model.embedder(pictures)
        changes = sign_gradient(
            model.embedder,
            pictures,
            clean,
            ball=Ball(norm="linf", radius=self.eps),
            step=2.5 * self.eps / self.steps,
            steps=self.steps,
            minimize=False,
            random_start=generator,
            loss=squared_distance,
            chunk=len(pictures),
        )
        return pictures + changes, targets


def squared_distance(features: Tensor, reference: Tensor) -> Tensor:
    """Return the squared Euclidean distance of each pair of rows, [N]."""
    return (features - reference).square().sum(1)


@torch.no_grad()
def embed(embedder: nn.Module, photos: Tensor, *, device: str = "cpu") -> Tensor:
    """Return the features of 8-bit photos [N, 3, S, S], unit vectors [N, D] on the CPU."""
    with frozen(place(embedder, device)):
        parts = [embedder(to_model(part, device)).float().cpu() for part in photos.split(EVALUATION_BATCH)]
    return torch.cat(parts) if parts else torch.zeros(0, 1)
