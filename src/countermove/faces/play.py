"""The work of this arena: extractors, cloaks, what trainers make of them, cells."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from countermove.errors import DataError
from countermove.faces.cloak import CloakContext
from countermove.faces.detector import blank_detector, detect, fit_detector
from countermove.faces.extractor import (
    Embedder,
    Extractor,
    fit_embedder,
    public_examples,
    read_extractor,
)
from countermove.faces.gallery import Faces
from countermove.faces.naming import Named, Views, either, fall_back, grown, nearest_other
from countermove.faces.purifying import blank_purifier, fit_purifier, purify
from countermove.faces.recogniser import Material, Photos, Recognised
from countermove.faces.remembered import Remembered
from countermove.faces.trainer import Adaptation, Detection, Plan, Purification
from countermove.game.cell import Cost, Crafted, Desk, Outcome, Task, Units
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples, place, warm_up
from countermove.nets.weights import load_weights, save_weights
from countermove.pixels.balls import Ball
from countermove.pixels.batch import Batch
from countermove.pixels.budget import measured_budget
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import quantize_move, to_float, to_uint8
from countermove.pixels.selection import pick
from countermove.pixels.squeezes import Squeeze, squeeze_uint8
from countermove.pixels.ssim import ssim

if TYPE_CHECKING:
    from countermove.faces.arena import Faces as Arena

WEIGHTS, PHOTOS = "weights.safetensors", "photos.safetensors"
SMALLEST_SSIM = 11

FEATURES = Remembered()
"""Features that this process has computed; keys are those of artifacts."""


def set_threads(threads: int) -> None:
    """Let torch use as many threads as the keys say."""
    torch.set_num_threads(threads)


def make_extractor(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Train an extractor on the public, or find one with weights from elsewhere."""
    warm_up(arena.rules.device)
    faces, extractor = _faces(arena, task), _extractor(task)
    began = time.perf_counter()
    embedder, log = extractor.fit(
        faces,
        seed=task.payload["seed"],
        device=arena.rules.device,
        checkpoint=Checkpoint(desk.scratch / "training.safetensors"),
    )
    if extractor.stored:
        save_weights(embedder, desk.folder / WEIGHTS)
    facts = {"train_accuracy": log.train_accuracy[-1]} if log.train_accuracy else {}
    return Crafted(cost=Cost(seconds=time.perf_counter() - began, samples=log.samples), facts=facts)


def cloak(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Cloak the movers' published photos and store them with 8 bits a channel."""
    return _cloaked(arena, task, desk, _faces(arena, task).published, seed=task.payload["seed"])


def cloak_public(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Cloak photos of the public, as the trainer does who has the tool."""
    rows = chosen_public(_faces(arena, task), task.payload["photos"])
    seed = int(torch.randint(2**31, (), generator=generator(task.payload["seed"], "the trainer's own cloaks")))
    return _cloaked(arena, task, desk, rows, seed=seed)


def chosen_public(faces: Faces, photos: int) -> Tensor:
    """Return rows of at most so many photos of each person of the public, chosen by id.

    Raises:
        DataError: when there is nobody.
    """
    if not len(faces.public):
        raise DataError(f"{faces.name} has no people besides the movers, on whose photos a trainer could learn")
    rows = []
    for person in faces.person[faces.public].unique().tolist():
        own = faces.public[faces.person[faces.public] == person]
        share = min(1.0, photos / len(own))
        taken = pick([faces.ids[i] for i in own.tolist()], share, seed=0, purpose="cloaked by the trainer")
        rows.append(own[torch.from_numpy(taken)])
    return torch.cat(rows)


def _cloaked(arena: Arena, task: Task, desk: Desk, rows: Tensor, *, seed: int) -> Crafted:
    warm_up(arena.rules.device)
    faces, method = _faces(arena, task), arena.composed("move", task.payload["move"]["spelling"]).method
    batch = Batch(
        pictures=to_float(faces.photos[rows]),
        labels=faces.person[rows],
        ids=tuple(faces.ids[i] for i in rows.tolist()),
        classes=faces.people,
    )
    extractors = [_extractor(need) for need in task.needs]
    context = CloakContext(
        embedders=tuple(_embedder(arena, need, desk) for need in task.needs),
        names=tuple(getattr(extractor, "network", "") for extractor in extractors),
        others=faces.photos[faces.public],
        other_people=faces.person[faces.public],
        other_names=faces.people,
        seed=seed,
        device=arena.rules.device,
    )
    began = time.perf_counter()
    stored, ball = cloak_and_round(method, batch, context)
    cost = Cost(seconds=time.perf_counter() - began, samples=context.meter.samples)
    save_file({"photos": stored, "rows": rows}, desk.folder / PHOTOS)
    return Crafted(cost=cost, facts={"budget": measured_budget(stored, batch.pictures, ball), **_seen(stored, batch)})


def cloak_and_round(method: object, batch: Batch, context: CloakContext) -> tuple[Tensor, Ball | None]:
    """Return cloaked photos with 8 bits a channel, inside the ball that the method promises, and the ball."""
    moved = method(batch, context=context).pictures  # pyright: ignore[reportCallIssue]
    if moved.shape != batch.pictures.shape:
        raise DataError(f"the cloak returned photos of another size: {list(moved.shape)}")
    norm = getattr(method, "norm", None)
    ball = None if norm is None else Ball(norm=norm, radius=getattr(method, "eps"))  # noqa: B009
    return to_uint8(moved if ball is None else quantize_move(moved, batch.pictures, ball)), ball


def _seen(stored: Tensor, batch: Batch) -> dict[str, float]:
    """Return how much of the structure is left, mean and worst over photos, where photos are large enough to tell."""
    if min(stored.shape[2:]) < SMALLEST_SSIM or not len(stored):
        return {}
    found = torch.cat([ssim(to_float(a), b) for a, b in zip(stored.split(256), batch.pictures.split(256), strict=True)])
    return {"ssim": float(found.mean()), "ssim_worst": float(found.min())}


def adapt(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Fine-tune the extractor on the public, clean and cloaked."""
    warm_up(arena.rules.device)
    faces, seed = _faces(arena, task), task.payload["seed"]
    base, *known = task.needs
    extractor = _extractor(base)
    asked = Adaptation(**task.payload["asked"], known=())
    examples, people = public_examples(faces)
    label = torch.full((len(faces.people),), -1)
    label[faces.person[faces.public]] = examples.labels
    stored = [load_file(desk.artifact(need) / PHOTOS) for need in known]
    both = Examples(
        pictures=torch.cat([examples.pictures, *(held["photos"] for held in stored)]),
        labels=torch.cat([examples.labels, *(label[faces.person[held["rows"]]] for held in stored)]),
    )
    embedder, own = _embedder(arena, base, desk).requires_grad_(True), extractor.recipe()
    began = time.perf_counter()
    log = fit_embedder(
        embedder,
        both,
        people,
        extractor=extractor,
        recipe=Recipe(epochs=asked.epochs or own.epochs, lr=asked.lr or own.lr),
        seed=int(torch.randint(2**31, (), generator=generator(seed, "adaptive"))),
        steps=extractor.batch_steps(),
        model_steps=extractor.model_steps(),
        device=arena.rules.device,
        checkpoint=Checkpoint(desk.scratch / "training.safetensors"),
    )
    save_weights(embedder, desk.folder / WEIGHTS)
    cost = Cost(seconds=time.perf_counter() - began, samples=log.samples, clean_examples=len(examples))
    return Crafted(cost=cost, facts={"train_accuracy": log.train_accuracy[-1]})


def make_purifier(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Train a network that takes cloaks away."""
    warm_up(arena.rules.device)
    faces, seed, device = _faces(arena, task), task.payload["seed"], arena.rules.device
    base, *known = task.needs
    asked = Purification(**task.payload["asked"], known=(), probes=True)
    stored = [load_file(desk.artifact(need) / PHOTOS) for need in known]
    own = chosen_public(faces, asked.photos)
    rows = torch.cat([own, *(held["rows"] for held in stored)])
    given = torch.cat([faces.photos[own], *(held["photos"] for held in stored)])
    network = blank_purifier(asked.width, seed=seed)
    began = time.perf_counter()
    embedder = _embedder(arena, base, desk)
    seen = fit_purifier(network, embedder, faces.photos[rows], given, asked=asked, seed=seed, device=device)
    save_weights(network, desk.folder / WEIGHTS)
    return Crafted(cost=Cost(seconds=time.perf_counter() - began, samples=seen, clean_examples=len(rows.unique())))


def make_detector(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Train a detector on the public; with no cloak to know, it stays untrained and knows nothing."""
    warm_up(arena.rules.device)
    faces, seed, device = _faces(arena, task), task.payload["seed"], arena.rules.device
    asked = Detection(**task.payload["asked"], known=())
    network = blank_detector(asked.network, faces.side, seed=seed)
    stored = [load_file(desk.artifact(need) / PHOTOS)["photos"] for need in task.needs]
    rows = chosen_public(faces, asked.photos)
    began, seen = time.perf_counter(), 0
    if stored:
        # one cloak a photo, in turn, so that there are as many cloaked photos as clean ones
        cloaked = torch.stack([stored[i % len(stored)][i] for i in range(len(rows))])
        cloaked = cloaked[unlike(cloaked, faces.photos[rows])]
        seen = fit_detector(network, faces.photos[rows], cloaked, asked=asked, seed=seed, device=device)
    save_weights(network, desk.folder / WEIGHTS)
    return Crafted(cost=Cost(seconds=time.perf_counter() - began, samples=seen, clean_examples=len(rows)))


def play_cell(arena: Arena, task: Task, desk: Desk) -> Outcome:
    """Make the recogniser and name every mover's test photos, in the world where they alone have cloaked."""
    warm_up(arena.rules.device)
    faces, plan = _faces(arena, task), arena.plan(task.payload["countermove"]["spelling"])
    names = [_Names(arena, task, desk, faces, need) for need in _embedders(task, plan)]
    began = time.perf_counter()
    received = _received(arena, task, desk, faces, plan)
    views = [one.views(received) for one in names]
    recognised = [one.of(received, seen) for one, seen in zip(names, views, strict=True)]
    named = _joined(recognised, views[0], plan)
    seconds = time.perf_counter() - began + FEATURES.saved()
    scores = _Scores.of(named, faces)
    fitted = sum(one.parameters for one in recognised) + _size(received.purifier) + _size(received.detector)
    tuned = max(*(one.tuned for one in recognised), _size(names[-1].embedder) if plan.adaptation else 0)
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
            bytes_stored=4 * (fitted + sum(_size(one.embedder) for one in names) + features),
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


def unlike(moved: Tensor, clean: Tensor) -> Tensor:
    """Return which photos a cloak has changed, bool [N]."""
    return (moved != clean).flatten(1).any(1)


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
        self.embedder, self.key = _embedder(arena, need, desk), need.key
        self.copy = partial(_embedder, arena, need, desk)
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


def _embedder(arena: Arena, need: Task, desk: Desk) -> Embedder:
    """Read an extractor or an adapted one, on the device, in evaluation mode."""
    base = need if need.kind == "extractor" else need.needs[0]
    extractor = _extractor(base)
    embedder = extractor.blank(_faces(arena, need), seed=need.payload["seed"])
    if need is not base or extractor.stored:
        load_weights(embedder, desk.artifact(need) / WEIGHTS)
    place(embedder, arena.rules.device)
    return embedder.eval()


def _extractor(task: Task) -> Extractor:
    return read_extractor(task.payload["extractor"]["spelling"], "extractor")[1]


def _faces(arena: Arena, task: Task) -> Faces:
    return arena.faces(task.payload["data"]["spelling"])


def _size(module: nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())
