"""The work of a cell: every test profile is read, as it is and with what its owner added."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from countermove.game.cell import Cost, Desk, Outcome, Task, Units
from countermove.learning.scoring import warm_up
from countermove.nets.weights import load_weights
from countermove.profiles.artifacts import (
    WEIGHTS,
    Source,
    data_of,
    profiler_of,
    read_additions,
    read_extractor_network,
    read_likeness,
    read_profiler,
    train_profiler,
    training_bags,
)
from countermove.profiles.detecting import ItemDetector, blank_detector, detect, scores
from countermove.profiles.extractor import ItemNetwork
from countermove.profiles.fitting import read_bags
from countermove.profiles.plan import SelfTraining, kept
from countermove.profiles.profiler import Reader

if TYPE_CHECKING:
    from countermove.profiles.arena import Profiles as Arena

STRONG = 0.3
"""Share of the test profiles that are strong: those whose value is read most surely while nobody moves."""


def set_threads(threads: int) -> None:
    """Let torch use as many threads as the keys say."""
    torch.set_num_threads(threads)


def play_cell(arena: Arena, task: Task, desk: Desk) -> Outcome:
    """Read every test profile, as it is and with what its owner added."""
    warm_up(arena.rules.device)
    data, plan = data_of(arena, task), arena.plan(task.payload["countermove"]["spelling"])
    own = next(need for need in task.needs if need.kind == "profiler")
    began = time.perf_counter()
    reader, additions = read_profiler(arena, own, desk), read_additions(desk, task.need("move"))
    assert isinstance(reader.body, ItemNetwork), "a profiler looks through something"
    source = Source(arena, own, desk, data, plan.squeezes, reader.body)
    clean, moved = source.bags(data.test), source.bags(data.test, additions, data.test)
    filters = [one.filter for one in plan.filters]
    clean, moved = ([kept(bag, source.features, filters) for bag in bags] for bags in (clean, moved))
    found: dict[str, float] = {}
    detector = _detector(arena, task, desk, reader.body.dim + data.captions.shape[1])
    if detector is not None and plan.detection is not None:
        clean, moved, found = _looked_at(detector, source, clean, moved, drop=plan.detection.drop)
    samples = sum(len(bag) for bag in moved) + source.extracted
    if plan.self_training is not None:
        reader, learned = _self_trained(arena, own, desk, source, reader, moved, plan.self_training)
        samples += learned
        if own.need("extractor") is None:  # what it looks through has changed
            source = _seen_again(source, reader)
    before, _ = read_bags(Reader(reader.bag), source.features, clean, medium=data.medium, device=arena.rules.device)
    after, weights = read_bags(
        Reader(reader.bag), source.features, moved, medium=data.medium, device=arena.rules.device
    )
    seconds = time.perf_counter() - began
    labels = data.labels[data.test]
    right = after.argmax(1) == labels
    trained = _size(reader.bag) + (0 if own.need("extractor") else _size(reader.body)) + _size(detector)
    return Outcome(
        metrics={
            **_accuracies(before, after, labels),
            **_on_additions(source, moved, weights),
            **read_likeness(desk, task.need("move")),
            **found,
        },
        units=Units(ids=[data.profile_ids[row] for row in data.test.tolist()], outcome=right.double().tolist()),
        chance=data.chance,
        cost=Cost(
            seconds=seconds,
            samples=samples,
            parameters_changed=trained,
            bytes_stored=4 * (trained + (_size(reader.body) if own.need("extractor") else 0)),
        ),
        tables={
            "probability": torch.stack([_own(before, labels), _own(after, labels)], dim=1).tolist(),
            "length": [[float(len(a)), float(len(b))] for a, b in zip(clean, moved, strict=True)],
        },
    )


def _detector(arena: Arena, task: Task, desk: Desk, dim: int) -> ItemDetector | None:
    need = task.need("detector")
    if need is None:
        return None
    detector = blank_detector(dim, need.payload["asked"]["hidden"], seed=need.payload["seed"])
    load_weights(detector, desk.artifact(need) / WEIGHTS)
    return detector.eval()


def _looked_at(
    detector: ItemDetector, source: Source, clean: list[Tensor], moved: list[Tensor], *, drop: bool
) -> tuple[list[Tensor], list[Tensor], dict[str, float]]:
    """Return profiles up to where additions begin, as far as the detector sees any, and how well it sees them."""
    still, changed = (detect(detector, [source.features[bag] for bag in bags]) for bags in (clean, moved))
    added = [source.is_added(bag) for bag in moved]
    found: dict[str, float] = {}
    if all(bool(one.any()) for one in added):
        found = scores(still, changed, added)
    threshold = float(detector.threshold)
    found["flagged"] = sum(e > threshold for e in changed.evidence) / len(changed.evidence)
    if not drop:
        return clean, moved, found

    def cut(bags: Sequence[Tensor], seen: Sequence[float], onset: Sequence[int]) -> list[Tensor]:
        pairs = zip(bags, seen, onset, strict=True)
        return [bag[:at] if strength > threshold else bag for bag, strength, at in pairs]

    return cut(clean, still.evidence, still.onset), cut(moved, changed.evidence, changed.onset), found


def _self_trained(
    arena: Arena,
    own: Task,
    desk: Desk,
    source: Source,
    reader: Reader,
    received: Sequence[Tensor],
    asked: SelfTraining,
) -> tuple[Reader, int]:
    """Return a profiler that has also learned from what the former one read in the received profiles."""
    data, seed, samples = source.data, own.payload["seed"], 0
    bags, labels = training_bags(arena, own, desk, source)
    network = read_extractor_network(arena, own, desk)
    for number in range(asked.rounds):
        seen, _ = read_bags(Reader(reader.bag), source.features, received, medium=data.medium, device=source.device)
        sure = (seen.max(1).values >= asked.confidence).nonzero().flatten().tolist()
        reader, spent, _ = train_profiler(
            profiler_of(arena, own),
            network,
            source,
            [*bags, *(received[at] for at in sure)],
            torch.cat([labels, seen.argmax(1)[sure]]),
            seed=seed,
            purpose=f"self-training {number}",
        )
        samples += spent
        if network is None and number + 1 < asked.rounds:
            source = _seen_again(source, reader)
    return reader, samples


def _seen_again(source: Source, reader: Reader) -> Source:
    """Return the source with the features of a profiler that has learned what it looks through."""
    assert isinstance(reader.body, ItemNetwork), "a profiler looks through something"
    return source.through(reader.body)


def _accuracies(before: Tensor, after: Tensor, labels: Tensor) -> dict[str, float]:
    """Return shares of profiles that are read rightly, and areas under the curve."""
    strong = _own(before, labels).argsort(descending=True, stable=True)[: max(1, round(STRONG * len(labels)))]
    right = (after.argmax(1) == labels).double()
    return {
        "accuracy": float(right.mean()),
        "clean_accuracy": float((before.argmax(1) == labels).double().mean()),
        "auc": _auc(after, labels),
        "clean_auc": _auc(before, labels),
        "strong_accuracy": float(right[strong].mean()),
    }


def _auc(probabilities: Tensor, labels: Tensor) -> float:
    """Return the area under the curve; of several values, the mean of each against the others."""
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(labels.numpy(), probabilities[:, 1].numpy()))
    one_hot = torch.nn.functional.one_hot(labels, probabilities.shape[1])
    return float(roc_auc_score(one_hot.numpy(), probabilities.numpy(), average="macro"))


def _own(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the probability of each profile's true value."""
    return probabilities.gather(1, labels[:, None])[:, 0]


def _on_additions(source: Source, bags: Sequence[Tensor], weights: Sequence[Tensor] | None) -> dict[str, float]:
    """Return the share of a profile's weight that additions get, where there are both."""
    added = [source.is_added(bag) for bag in bags]
    if weights is None or not any(bool(one.any()) for one in added):
        return {}
    shares = [float(weight[one].sum()) for weight, one in zip(weights, added, strict=True)]
    return {"attention_on_additions": sum(shares) / len(shares)}


def _size(module: nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())
