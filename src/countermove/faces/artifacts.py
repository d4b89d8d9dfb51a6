"""What cells share: extractors, cloaked photos, and what trainers learn from cloaks that they know."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from countermove.errors import DataError
from countermove.faces.cloak import CloakContext
from countermove.faces.detector import blank_detector, fit_detector
from countermove.faces.extractor import (
    Embedder,
    Extractor,
    fit_embedder,
    head_and_loss,
    public_examples,
    raw_features,
    read_extractor,
)
from countermove.faces.gallery import Faces
from countermove.faces.purifying import blank_purifier, fit_purifier
from countermove.faces.trainer import Adaptation, Detection, Purification
from countermove.finetuning.pictures import FULL, adamw, ready, sensitivity_losses, some_rows
from countermove.game.cell import Cost, Crafted, Desk, Task
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
from countermove.pixels.ssim import ssim

if TYPE_CHECKING:
    from countermove.faces.arena import Faces as Arena

WEIGHTS, PHOTOS = "weights.safetensors", "photos.safetensors"
SMALLEST_SSIM = 11


def make_extractor(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Train an extractor on the public, or find one with weights from elsewhere."""
    warm_up(arena.rules.device)
    faces, extractor = faces_of(arena, task), extractor_of(task)
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
    return _cloaked(arena, task, desk, faces_of(arena, task).published, seed=task.payload["seed"])


def cloak_public(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Cloak photos of the public, as the trainer does who has the tool."""
    rows = chosen_public(faces_of(arena, task), task.payload["photos"])
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
    faces, method = faces_of(arena, task), arena.composed("move", task.payload["move"]["spelling"]).method
    batch = Batch(
        pictures=to_float(faces.photos[rows]),
        labels=faces.person[rows],
        ids=tuple(faces.ids[i] for i in rows.tolist()),
        classes=faces.people,
    )
    extractors = [extractor_of(need) for need in task.needs]
    context = CloakContext(
        embedders=tuple(read_embedder(arena, need, desk) for need in task.needs),
        names=tuple(extractor.network for extractor in extractors),
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


def cloak_and_round(method: Any, batch: Batch, context: CloakContext) -> tuple[Tensor, Ball | None]:
    """Return cloaked photos with 8 bits a channel, inside the ball that the method promises, and the ball."""
    moved = method(batch, context=context).pictures
    if moved.shape != batch.pictures.shape:
        raise DataError(f"the cloak returned photos of another size: {list(moved.shape)}")
    ball = None if method.norm is None else Ball(norm=method.norm, radius=method.eps)
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
    faces, seed = faces_of(arena, task), task.payload["seed"]
    base, *known = task.needs
    extractor = extractor_of(base)
    asked = Adaptation(**task.payload["asked"], known=())
    examples, people = public_examples(faces)
    label = torch.full((len(faces.people),), -1)
    label[faces.person[faces.public]] = examples.labels
    stored = [load_file(desk.artifact(need) / PHOTOS) for need in known]
    own_rows = some_rows([faces.ids[i] for i in faces.public.tolist()], asked.examples)
    known_rows = [torch.isin(held["rows"], faces.public[own_rows]) for held in stored]  # who lacks a photo cloaks none
    pictures = [examples.pictures[own_rows]]
    labels = [examples.labels[own_rows]]
    for held, kept in zip(stored, known_rows, strict=True):
        pictures.append(held["photos"][kept])
        labels.append(label[faces.person[held["rows"][kept]]])
    both = Examples(pictures=torch.cat(pictures), labels=torch.cat(labels))
    embedder, own = read_embedder(arena, base, desk).requires_grad_(True), extractor.recipe()
    way, whole = ready(asked.adaptation), asked.adaptation == FULL
    recipe = Recipe(epochs=asked.epochs or own.epochs, lr=(asked.lr or own.lr) if whole else way.lr)
    drawn = int(torch.randint(2**31, (), generator=generator(seed, "adaptive")))
    began = time.perf_counter()
    head, criterion = head_and_loss(embedder, people, extractor, seed=drawn)
    losses = sensitivity_losses(
        both,
        batch_size=recipe.batch_size,
        seed=seed,
        device=arena.rules.device,
        head=head,
        features=raw_features,
        loss=criterion,
    )
    adapting = way.begin(embedder, losses=losses, seed=seed)
    log = fit_embedder(
        embedder,
        both,
        people,
        extractor=extractor,
        recipe=recipe,
        seed=drawn,
        steps=extractor.batch_steps(),
        model_steps=extractor.model_steps(),
        optimizer=None if whole else adamw(way),
        device=arena.rules.device,
        checkpoint=Checkpoint(desk.scratch / "training.safetensors"),
    )
    adapted = adapting.finish()
    save_weights(embedder, desk.folder / WEIGHTS)
    cost = Cost(
        seconds=time.perf_counter() - began,
        samples=log.samples + losses.samples,
        parameters_changed=adapted.parameters_changed,
        bytes_stored=adapted.bytes_stored,
        clean_examples=int(own_rows.sum()),
    )
    return Crafted(cost=cost, facts={"train_accuracy": log.train_accuracy[-1]})


def make_purifier(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Train a network that takes cloaks away."""
    warm_up(arena.rules.device)
    faces, seed, device = faces_of(arena, task), task.payload["seed"], arena.rules.device
    base, *known = task.needs
    asked = Purification(**task.payload["asked"], known=(), probes=True)
    stored = [load_file(desk.artifact(need) / PHOTOS) for need in known]
    own = chosen_public(faces, asked.photos)
    rows = torch.cat([own, *(held["rows"] for held in stored)])
    given = torch.cat([faces.photos[own], *(held["photos"] for held in stored)])
    network = blank_purifier(asked.width, seed=seed)
    began = time.perf_counter()
    embedder = read_embedder(arena, base, desk)
    seen = fit_purifier(network, embedder, faces.photos[rows], given, asked=asked, seed=seed, device=device)
    save_weights(network, desk.folder / WEIGHTS)
    return Crafted(cost=Cost(seconds=time.perf_counter() - began, samples=seen, clean_examples=len(rows.unique())))


def make_detector(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Train a detector on the public; with no cloak to know, it stays untrained and knows nothing."""
    warm_up(arena.rules.device)
    faces, seed, device = faces_of(arena, task), task.payload["seed"], arena.rules.device
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


def unlike(moved: Tensor, clean: Tensor) -> Tensor:
    """Return which photos a cloak has changed, bool [N]."""
    return (moved != clean).flatten(1).any(1)


def read_embedder(arena: Arena, need: Task, desk: Desk) -> Embedder:
    """Read an extractor or an adapted one, on the device, in evaluation mode."""
    base = need if need.kind == "extractor" else need.needs[0]
    extractor = extractor_of(base)
    embedder = extractor.blank(faces_of(arena, need), seed=need.payload["seed"])
    if need is not base or extractor.stored:
        load_weights(embedder, desk.artifact(need) / WEIGHTS)
    place(embedder, arena.rules.device)
    return embedder.eval()


def extractor_of(task: Task) -> Extractor:
    """Return the extractor of a task that makes one."""
    return read_extractor(task.payload["extractor"]["spelling"], "extractor")[1]


def faces_of(arena: Arena, task: Task) -> Faces:
    """Return the face set of a task."""
    return arena.faces(task.payload["data"]["spelling"])
