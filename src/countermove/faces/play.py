"""The work of a cell: every mover's test photos are named, in the world where they alone have cloaked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from countermove.faces.artifacts import PHOTOS, WEIGHTS, faces_of, read_embedder, unlike
from countermove.faces.detector import blank_detector, detect
from countermove.faces.gallery import Faces
from countermove.faces.naming import Named, Views, either, fall_back, grown, nearest_other
from countermove.faces.purifying import blank_purifier, purify
from countermove.faces.recogniser import Material, Photos, Recognised
from countermove.faces.remembered import Remembered
from countermove.faces.trainer import Plan
from countermove.game.cell import Cost, Desk, Outcome, Task, Units
from countermove.learning.scoring import warm_up
from countermove.nets.weights import load_weights
from countermove.pixels.squeezes import Squeeze, squeeze_uint8

if TYPE_CHECKING:
    from countermove.faces.arena import Faces as Arena

FEATURES = Remembered()
"""Features that this process has computed; keys are those of artifacts."""


def set_threads(threads: int) -> None:
    """Let torch use as many threads as the keys say."""
    torch.set_num_threads(threads)


def play_cell(arena: Arena, task: Task, desk: Desk) -> Outcome:
    """Make the recogniser and name every mover's test photos, in the world where they alone have cloaked."""
    warm_up(arena.rules.device)
    faces, plan = faces_of(arena, task), arena.plan(task.payload["countermove"]["spelling"])
    names = [_Names(arena, task, desk, faces, need) for need in _embedders(task, plan)]
    FEATURES.saved()  # what a cell that failed has left
    began = time.perf_counter()
    received = _received(arena, task, desk, faces, plan)
    views = [one.views(received) for one in names]
    recognised = [one.of(received, seen) for one, seen in zip(names, views, strict=True)]
    named = _joined(recognised, views[0], plan)
    seconds = time.perf_counter() - began + FEATURES.saved()
    scores = _Scores.of(named, faces)
    fitted = sum(one.parameters for one in recognised) + _size(received.purifier) + _size(received.detector)
    tuned = max(one.tuned for one in recognised)
    features = sum(
        len(received.owner) * one.embedder.dim for one, made in zip(names, recognised, strict=True) if made.gallery
    )
    return Outcome(
        metrics={
            "protection": 1 - float(scores.moved.mean()),
            "clean_error": 1 - float(scores.clean.mean()),
            "others_accuracy": scores.others,
            **received.detected,
        },
        units=Units(ids=[faces.people[m] for m in faces.movers.tolist()], outcome=scores.moved.tolist()),
        chance=1 / len(faces.movers),
        cost=Cost(
            seconds=seconds,
            samples=sum(one.samples for one in recognised),
            parameters_changed=fitted + tuned,
            bytes_stored=4 * (fitted + _size(names[0].embedder) + features),
            clean_examples=min(plan.leaked, int(torch.bincount(received.owner).min())),
        ),
        tables={"by_person": torch.stack([scores.clean, scores.moved], dim=1).tolist()},
    )


@dataclass(frozen=True, kw_only=True)
class _Received:
    """The photos that a trainer works with, squeezed; rows as in `Photos`."""

    photos: Photos
    owner: Tensor
    purifier: nn.Module | None
    detector: nn.Module | None
    detected: dict[str, float]


def _received(arena: Arena, task: Task, desk: Desk, faces: Faces, plan: Plan) -> _Received:
    device, move = arena.rules.device, task.need("move")
    clean, tests = faces.photos[faces.published], faces.photos[faces.tested]
    owner = faces.number[faces.person[faces.published]]
    moved = clean.clone() if move is None else load_file(desk.artifact(move) / PHOTOS)["photos"]
    detected, detector = dict[str, float](), None
    if (need := task.need("detector")) is not None and plan.detection is not None:
        detector = blank_detector(plan.detection.network, faces.side, seed=task.payload["seed"])
        load_weights(detector, desk.artifact(need) / WEIGHTS)
        changed = unlike(moved, clean)
        cloaked = moved[changed] if changed.any() else moved
        detected = detect(detector, clean, cloaked, asked=plan.detection, device=device)
    leaked = first_by_id([faces.ids[i] for i in faces.published.tolist()], owner, plan.leaked)
    moved = torch.where(leaked[:, None, None, None], clean, moved)
    gallery, probes = plan.gallery, plan.probes
    purifier = None
    if (need := task.need("purifier")) is not None and plan.purification is not None:
        purifier = blank_purifier(plan.purification.width, seed=task.payload["seed"])
        load_weights(purifier, desk.artifact(need) / WEIGHTS)
        first: Squeeze = partial(purify, network=purifier, device=device)
        gallery = (first, *gallery)
        probes = (first, *probes) if plan.purification.probes else probes
    photos = Photos(
        clean=squeeze_uint8(clean, *gallery),
        moved=squeeze_uint8(moved, *gallery),
        tests=squeeze_uint8(tests, *probes),
    )
    return _Received(photos=photos, owner=owner, purifier=purifier, detector=detector, detected=detected)


def first_by_id(ids: Sequence[str], owner: Tensor, count: int) -> Tensor:
    """Return which photos are among the first so many of their owner's, in the order of ids: bool [G]."""
    before: dict[int, int] = {}
    first = torch.zeros(len(ids), dtype=torch.bool)
    for row in sorted(range(len(ids)), key=ids.__getitem__):
        person = int(owner[row])
        first[row] = before.setdefault(person, 0) < count
        before[person] += 1
    return first


class _Names:
    """A recogniser with one embedder, which names photos."""

    def __init__(self, arena: Arena, task: Task, desk: Desk, faces: Faces, need: Task) -> None:
        self.method = arena.composed("model", task.payload["model"]["spelling"]).method
        self.embedder, self.key = read_embedder(arena, need, desk), need.key
        self.copy = partial(read_embedder, arena, need, desk)
        self.faces, self.seed, self.device = faces, task.payload["seed"], arena.rules.device

    def views(self, received: _Received) -> Views:
        """Return the features of all photos."""
        photos = received.photos
        embed = partial(FEATURES.embed, self.key, self.embedder, device=self.device)
        return Views(
            clean=embed(photos.clean),
            moved=embed(photos.moved),
            owner=received.owner,
            tests=embed(photos.tests),
            tested=self.faces.number[self.faces.person[self.faces.tested]],
        )

    def of(self, received: _Received, views: Views) -> Recognised:
        """Name the test photos."""
        material = Material(
            views=views,
            photos=received.photos,
            copy=self.copy,
            extractor=self.method.features()[1],
            seed=self.seed,
            device=self.device,
        )
        return self.method.recognise(material)


@dataclass(frozen=True, kw_only=True)
class _Scores:
    """Shares of test photos that are named rightly.

    moved, clean: each mover's own, when they move and when nobody does, [M].
    others:       all others' photos, on average over worlds.
    """

    moved: Tensor
    clean: Tensor
    others: float

    @classmethod
    def of(cls, named: Named, faces: Faces) -> _Scores:
        tested = faces.number[faces.person[faces.tested]]
        movers = len(faces.movers)
        right = named.worlds == tested[:, None]
        own = right.gather(1, tested[:, None])[:, 0].double()
        count = torch.bincount(tested, minlength=movers).double()

        def shares(of: Tensor) -> Tensor:
            return torch.zeros(movers, dtype=torch.float64).scatter_add_(0, tested, of.double()) / count

        cloaking = torch.eye(movers, dtype=torch.bool) if named.together is None else named.together
        still = ~cloaking[tested]  # whose photo it is does not cloak in this world
        others = (right & still).double().sum(0) / still.double().sum(0)
        return cls(moved=shares(own), clean=shares(named.clean == tested), others=float(others.nanmean()))


def _joined(recognised: list[Recognised], plain: Views, plan: Plan) -> Named:
    """Return the names of the only recogniser, or of a mixture of the plain and the adapted one."""
    named = [one.named for one in recognised]
    if plan.mixture == "top-2":
        return either(named[0], named[1], plain.tested)
    if plan.mixture == "confidence":
        return fall_back(named[0], named[1], float(nearest_other(plain).quantile(plan.quantile)))
    if plan.growing:
        threshold = float(nearest_other(plain).quantile(plan.growing.quantile))
        return grown(named[0], plain, threshold=threshold, rounds=plan.growing.rounds)
    return named[0]


def _embedders(task: Task, plan: Plan) -> list[Task]:
    """Return the extractors that name photos: the plain one, the adapted one, or both."""
    adapted = task.need("adapted")
    plain = next(need for need in task.needs if need.kind == "extractor")
    if adapted is None:
        return [plain]
    return [plain, adapted] if plan.mixture else [adapted]


def _size(module: nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())
