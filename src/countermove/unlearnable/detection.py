"""What a simple model tells about received pictures: whether a shortcut was planted, and in which of them.

A shortcut is easy by design, so a model that learns little of natural pictures learns it, and it works on pictures that
the model has not seen. Every picture is therefore judged by a model that was trained on the others. Legend: N pictures,
K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Generator, Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.game.methods import Composition
from countermove.learning.loop import train
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import EVALUATION_BATCH, Examples, to_model
from countermove.nets.parts import normalized, seeded
from countermove.pixels.mapped import replaced, selected
from countermove.pixels.randomness import generator
from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.data.sources import digest_of
from countermove.unlearnable.methods import METHODS

Then = Literal["discard", "squeeze"]
Build = Callable[[int, tuple[int, int], Generator], nn.Module]
"""From classes, (height, width) and a generator to an untrained network for pictures in [0, 1]."""

SMALLEST_CLASS = 2


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What models say of the pictures that they were not trained on.

    confidence: float [N], the probability given to a picture's own label.
    right:      bool [N], whether that label is the likeliest.
    samples:    forward-backward passes.
    """

    confidence: Tensor
    right: Tensor
    samples: int

    @property
    def accuracy(self) -> float:
        """The share of the pictures that are named as labelled."""
        return float(self.right.float().mean())


def held_out(
    examples: Examples, build: Build, recipe: Recipe, *, folds: int, seed: int, device: str = "cpu"
) -> HeldOut:
    """Judge every picture by a network that was trained on the other folds.

    Raises:
        DataError: when there are fewer pictures than folds, or a label has a single picture.
    """
    n, labels = len(examples), examples.labels
    classes = max(2, int(labels.max()) + 1)
    height, width = examples.pictures.shape[2:]
    fold = folds_of(labels, folds, generator(seed, "folds"))
    confidence, right, samples = torch.empty(n), torch.empty(n, dtype=torch.bool), 0
    for k in range(folds):
        model = build(classes, (height, width), generator(seed, "simple model", k))
        held = _rows(examples, fold == k)
        log = train(model, _rows(examples, fold != k), held, recipe=recipe, seed=seed, classes=classes, device=device)
        confidence[fold == k] = _own_confidence(model, held, device)
        right[fold == k] = log.predicted == held.labels
        samples += log.samples
    return HeldOut(confidence=confidence, right=right, samples=samples)


def folds_of(labels: Tensor, folds: int, source: Generator) -> Tensor:
    """Deal the pictures of every class out to the folds in turn, in random order. Returns int64 [N] in 0..folds-1.

    Raises:
        DataError: when there are fewer pictures than folds, or a label has a single picture.
    """
    if len(labels) < folds:
        raise DataError(f"{len(labels)} pictures cannot be divided into {folds} folds; set folds = {len(labels)}")
    if (torch.bincount(labels) == 1).any():
        raise DataError("a class has a single picture: nothing could be said of it without training on it; drop it")
    order = torch.randperm(len(labels), generator=source)
    order = order[labels[order].argsort(stable=True)]
    fold = torch.empty_like(labels)
    fold[order] = torch.arange(len(labels)) % folds
    return fold


def linear(classes: int, size: tuple[int, int], source: Generator) -> nn.Module:
    """Build a linear model of the pixels."""
    with seeded(source):
        return normalized(nn.Sequential(nn.Flatten(), nn.Linear(3 * size[0] * size[1], classes)))


def two_layers(hidden: int) -> Build:
    """Return how to build a network of one hidden layer on the pixels."""

    def build(classes: int, size: tuple[int, int], source: Generator) -> nn.Module:
        with seeded(source):
            first = nn.Linear(3 * size[0] * size[1], hidden)
            return normalized(nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(hidden, classes)))

    return build


def plain_recipe(epochs: int, *, lr: float = 0.01, batch_size: int = 128) -> Recipe:
    """Return how simple models are trained: without augmentation."""
    return Recipe(epochs=epochs, lr=lr, batch_size=batch_size, warmup=0.0, crop=0, flip=False)


class Detector(Protocol):
    """What all detectors are told: see the data sheet of detect-linear."""

    @property
    def threshold(self) -> float:
        """Accuracy on unseen pictures above which the data set is held for moved."""
        ...

    @property
    def confidence(self) -> float:
        """Probability of its own label above which a picture is flagged."""
        ...

    @property
    def then(self) -> Then:
        """What is done to flagged pictures."""
        ...

    @property
    def treat(self) -> str:
        """The squeezes for them, as spelled."""
        ...

    @property
    def folds(self) -> int:
        """How often the pictures are divided."""
        ...

    @property
    def epochs(self) -> int:
        """Of each model."""
        ...


def check_detector(name: str, detector: Detector) -> None:
    """Refuse settings of a detector that make no sense; raises ConfigError."""
    for field in ("threshold", "confidence"):
        value = getattr(detector, field)
        if not 0 < value < 1:
            raise ConfigError(
                f"{name}: {field} = {value} is refused: it lies between 0 and 1, and the default is usual"
            )
    if detector.folds < 2 or detector.epochs < 1:
        raise ConfigError(f"{name}: folds = {detector.folds}, epochs = {detector.epochs}: at least 2 folds and 1 epoch")
    _treatment(name, detector.treat)


def fingerprint_of(treat: str) -> str:
    """Return SHA-256 of all that a spelled treatment is, versions included."""
    return digest_of(METHODS.compose("countermove", treat))


def react(plan: Plan, found: HeldOut, detector: Detector, *, context: ReplyContext) -> Plan:
    """Decide whether the data set was moved, and discard or treat the pictures that look so.

    Facts: `detection_score` (accuracy on unseen pictures), `detected` (1 if above the threshold), `detection_flagged`
    (share of the pictures), `detection_kept` (pictures that were flagged and kept, so that two of every class are
    left), `detection_treated` (1 if flagged pictures were squeezed, as asked or because all were flagged).
    """
    detected = found.accuracy > detector.threshold
    flagged = (found.confidence > detector.confidence) & detected
    everything = bool(flagged.all())
    treated = bool(flagged.any()) and (detector.then == "squeeze" or everything)
    plan = replace(plan, suspicion=found.confidence, flagged=flagged, samples=plan.samples + found.samples)
    kept = 0
    if treated:
        plan = _treat(plan, flagged, detector.treat, context)
    elif flagged.any():
        gone = discardable(flagged, found.confidence, plan.received.labels)
        kept = int((flagged & ~gone).sum())
        plan = replace(plan, received=_rows(plan.received, ~gone), moved=plan.moved[~gone])
    context.facts.update(
        detection_score=found.accuracy,
        detected=float(detected),
        detection_flagged=float(flagged.float().mean()),
        detection_kept=float(kept),
        detection_treated=float(treated),
    )
    return plan


def discardable(flagged: Tensor, suspicion: Tensor, labels: Tensor) -> Tensor:
    """Return which flagged pictures can go while every class keeps two: the least suspicious ones stay. Bool [N]."""
    gone = flagged.clone()
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        missing = SMALLEST_CLASS - int((~flagged[rows]).sum())
        if missing > 0:
            rows = rows[flagged[rows]]
            gone[rows[suspicion[rows].argsort(stable=True)[:missing]]] = False
    return gone


def picture_metrics(suspicion: Tensor, flagged: Tensor, moved: Tensor) -> dict[str, float]:
    """Return how well moved pictures were found: precision, recall, area under the ROC curve.

    What is not defined is left out: precision where none is flagged, recall where none is moved, the area where all or
    none are moved.

    Args:
        suspicion: float [N], higher is more suspicious.
        flagged: bool [N].
        moved: bool [N], the truth.
    """
    if not len(suspicion) == len(flagged) == len(moved):
        raise DataError(
            f"suspicion, flagged and moved speak of {len(suspicion)}, {len(flagged)} and {len(moved)} pictures"
        )
    from sklearn.metrics import precision_score, recall_score, roc_auc_score  # only where something was detected

    truth, guess = moved.numpy(), flagged.numpy()
    metrics: dict[str, float] = {}
    if guess.any():
        metrics["detection_precision"] = float(precision_score(truth, guess))
    if truth.any():
        metrics["detection_recall"] = float(recall_score(truth, guess))
    if truth.any() and not truth.all():
        metrics["detection_auc"] = float(roc_auc_score(truth, suspicion.numpy()))
    return metrics


def dataset_auc(scores: Sequence[float], poisoned: Sequence[bool]) -> float | None:
    """Return the area under the ROC curve of data sets' scores; None unless both kinds of data set are there."""
    if len(scores) != len(poisoned):
        raise DataError(f"{len(scores)} scores and {len(poisoned)} data sets; the numbers must agree")
    if len(set(poisoned)) < 2:
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(list(poisoned), list(scores)))


def _treat(plan: Plan, flagged: Tensor, treat: str, context: ReplyContext) -> Plan:
    """Squeeze the flagged pictures and put them back where they were."""
    part = replace(plan, received=_rows(plan.received, flagged), moved=plan.moved[flagged])
    for method in METHODS.compose("countermove", treat).parts:
        part = method.method(part, context=context)
    pictures = replaced(plan.received.pictures, flagged, part.received.pictures)
    received = replace(plan.received, pictures=pictures)
    return replace(plan, received=received, test_squeezes=part.test_squeezes, samples=part.samples)


def _treatment(name: str, treat: str) -> Composition:
    """Return a composition of squeezes: the methods that offer train=true, where it is not switched off."""
    composition = METHODS.compose("countermove", treat)
    for part in composition.parts:
        if not getattr(part.method, "train", False):
            raise ConfigError(
                f"{name}: treat = {treat!r} is refused: {part.name!r} does not squeeze what is received; use "
                "squeezes such as gray, jpeg or gray+jpeg"
            )
    return composition


@torch.no_grad()
def _own_confidence(model: nn.Module, examples: Examples, device: str) -> Tensor:
    model.eval()
    parts = []
    for pictures, labels in zip(
        examples.pictures.split(EVALUATION_BATCH), examples.labels.split(EVALUATION_BATCH), strict=True
    ):
        probabilities = model(to_model(pictures, device)).float().softmax(dim=1).cpu()
        parts.append(probabilities.gather(1, labels[:, None]).squeeze(1))
    return torch.cat(parts)


def _rows(examples: Examples, chosen: Tensor) -> Examples:
    return Examples(pictures=selected(examples.pictures, chosen), labels=examples.labels[chosen])
