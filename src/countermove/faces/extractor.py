"""What turns a photo of a face into features: how it is named, trained, stored and used.

Legend: N photos, D features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.faces.gallery import Faces
from countermove.faces.losses import Head, Loss, fresh_head, margin_loss
from countermove.game import spelling
from countermove.game.methods import build, load
from countermove.game.spelling import Named
from countermove.learning.augment import BatchStep, ModelStep
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import Loss as Criterion
from countermove.learning.loop import OptimizerOf, Training, train
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import EVALUATION_BATCH, Examples, place, to_model
from countermove.pixels.selection import pick
from countermove.pixels.steps import frozen

PeopleOf = Literal["all", "first", "second"]
TARGET = "target"
"""In a cloak's list of extractors: the one of the trainer whom it meets."""

ERAS = {
    "plain": "small",
    "margin": "small(build=1, loss=cosface, network=small-cnn)",
    "strong": "small(augment=strong, build=2, network='small-residual(width=1.5)')",
    "half": "small(build=3, loss=arcface, people=second)",
    "robust": "small(adversary=4/255, build=4)",
}
"""Small extractors that differ in data, loss, augmentation, network and robustness, by name: surrogate eras."""


class Embedder(nn.Module):
    """A network with features of length one: photos [N, 3, S, S] in [0, 1] to [N, dim]."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Return how many features there are."""

    @abstractmethod
    def raw(self, photos: Tensor) -> Tensor:
        """Return features before they are normalised in length."""

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
    """How features are made. Extractors are frozen dataclasses, like methods.

    stored: whether its weights are kept in the run folder; not where they are a file of the user's.
    """

    version: ClassVar[int]
    stored: ClassVar[bool]

    @property
    def network(self) -> str:
        """Return which network it is, whatever its weights."""
        ...

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

    def batch_steps(self) -> tuple[BatchStep, ...]:
        """Return what is done to every batch after crop and flip."""
        ...

    def model_steps(self) -> tuple[ModelStep, ...]:
        """Return what is done to every batch with the network's help."""
        ...


EXTRACTORS = {
    "small": "countermove.faces.extractors.small:Small",
    "public": "countermove.faces.extractors.public:Public",
}


def read_extractor(spelled: str, owner: str) -> tuple[str, Extractor]:
    """Return an extractor's canonical spelling and itself; what is an era is spelled as that.

    Raises:
        ConfigError: when it is unknown, or has settings that are refused.
    """
    text, method = _read(spelled, owner)
    return next((name for name, era in ERAS.items() if _read(era, name) == (text, method)), text), method


def _read(spelled: str, owner: str) -> tuple[str, Extractor]:
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
    optimizer: OptimizerOf | None = None,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Training:
    """Train an embedder in place with a fresh head, which is thrown away."""
    head, loss = head_and_loss(embedder, people, extractor, seed=seed)
    few = Examples(pictures=examples.pictures[:100], labels=examples.labels[:100])
    return train(
        Trained(embedder, head),
        examples,
        few,
        recipe=recipe,
        seed=seed,
        classes=people,
        steps=tuple(_Labelled(step) for step in steps),
        model_steps=model_steps,
        loss=_on_labels(loss),
        optimizer=optimizer,
        device=device,
        checkpoint=checkpoint,
    )


def head_and_loss(embedder: Embedder, people: int, extractor: Extractor, *, seed: int) -> tuple[Head, Criterion]:
    """Return what an embedder is trained against: a fresh head, and the loss of its output and labels."""
    loss, scale, margin = extractor.criterion()
    return fresh_head(people, embedder.dim, loss, seed, "fit"), margin_loss(loss, scale=scale, margin=margin)


def raw_features(embedder: Any, photos: Tensor) -> Tensor:
    """Return what a head is given: features before they are normalised in length."""
    return embedder.raw(photos)


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


def squared_distance(features: Tensor, reference: Tensor) -> Tensor:
    """Return the squared Euclidean distance of each pair of rows, [N]."""
    return (features - reference).square().sum(1)


@torch.no_grad()
def embed(embedder: nn.Module, photos: Tensor, *, device: str = "cpu") -> Tensor:
    """Return the features of 8-bit photos [N, 3, S, S], unit vectors [N, D] on the CPU."""
    with frozen(place(embedder, device)):
        parts = [embedder(to_model(part, device)).float().cpu() for part in photos.split(EVALUATION_BATCH)]
    return torch.cat(parts) if parts else torch.zeros(0, 1)
