"""What cells share: backbones, indexes, changed queries, and what owners learn from changes that they know."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from countermove.errors import DataError
from countermove.finetuning.pictures import FULL, adamw, ready, sensitivity_losses, some_rows
from countermove.game.cell import Cost, Crafted, Desk, Task
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples, place, warm_up
from countermove.nets.weights import load_weights, save_weights
from countermove.pixels.randomness import generator
from countermove.pixels.selection import pick
from countermove.retrieval.backbone import Describer, read_backbone
from countermove.retrieval.backbones.small import Small, fit_describer, fresh_directions, public_examples
from countermove.retrieval.backbones.stolen import Stolen
from countermove.retrieval.collection import Collection, cropped, judged_by
from countermove.retrieval.engine import Engine, Index
from countermove.retrieval.evaluation import ranking
from countermove.retrieval.plan import Adaptation, Purification, through
from countermove.retrieval.purifying import PurifyingNetwork, blank_purifier, fit_purifier, purify
from countermove.retrieval.query import QueryContext, change
from countermove.retrieval.scoring import leaked_rows

if TYPE_CHECKING:
    from countermove.retrieval.arena import Retrieval

WEIGHTS, PICTURES = "weights.safetensors", "pictures.safetensors"


def make_backbone(arena: Retrieval, task: Task, desk: Desk) -> Crafted:
    """Train a backbone on the public, or find one with weights from elsewhere."""
    warm_up(arena.rules.device)
    collection = collection_of(arena, task)
    _, backbone = read_backbone(task.payload["backbone"]["spelling"], "backbone")
    began = time.perf_counter()
    if isinstance(backbone, Stolen):
        return _stolen(arena, task, desk, backbone)
    describer, log = backbone.fit(
        collection,
        seed=task.payload["seed"],
        device=arena.rules.device,
        checkpoint=Checkpoint(desk.scratch / "training.safetensors"),
    )
    if backbone.stored:
        save_weights(describer, desk.folder / WEIGHTS)
    facts = {"train_accuracy": log.train_accuracy[-1]} if log.train_accuracy else {}
    return Crafted(cost=Cost(seconds=time.perf_counter() - began, samples=log.samples), facts=facts)


def _stolen(arena: Retrieval, task: Task, desk: Desk, backbone: Stolen) -> Crafted:
    """Send every public picture to an engine, and train a backbone on the lists that come back."""
    collection, (engine,) = collection_of(arena, task), task.needs
    began = time.perf_counter()
    scores = read_index(arena, engine, desk).scores([collection.pictures[row] for row in collection.public.tolist()])
    answers = collection.indexed[ranking(scores)[:, : backbone.length]]
    describer, samples = backbone.steal(
        collection, collection.public, answers, seed=task.payload["seed"], device=arena.rules.device
    )
    save_weights(describer, desk.folder / WEIGHTS)
    cost = Cost(seconds=time.perf_counter() - began, samples=samples)
    return Crafted(cost=cost, facts={"queries": len(collection.public)})


def make_index(arena: Retrieval, task: Task, desk: Desk) -> Crafted:
    """Index the collection."""
    warm_up(arena.rules.device)
    collection, engine = collection_of(arena, task), engine_of(arena, task)
    began = time.perf_counter()
    index: Index = engine.index(
        collection,
        _indexed(arena, task, desk, collection),
        describer=describer_of(arena, task, desk),
        seed=task.payload["seed"],
        device=arena.rules.device,
    )
    index.save(desk.folder)
    return Crafted(cost=Cost(seconds=time.perf_counter() - began, samples=len(index)))


def _indexed(arena: Retrieval, task: Task, desk: Desk, collection: Collection) -> list[Tensor]:
    """Return the indexed pictures after what the owner does to all pictures."""
    plan = arena.plan(task.payload["through"]["spelling"])
    purifier = read_purifier(desk, task.need("purifier"))
    found = []
    for row in collection.indexed.tolist():
        picture = through(plan.indexed, collection.pictures[row], collection.ids[row], task.payload["seed"])
        found.append(picture if purifier is None else purify(picture, network=purifier, device=arena.rules.device))
    return found


def read_index(arena: Retrieval, need: Task, desk: Desk) -> Index:
    """Read an index with what it looks through."""
    return engine_of(arena, need).opened(
        desk.artifact(need),
        collection_of(arena, need),
        describer=describer_of(arena, need, desk),
        device=arena.rules.device,
    )


def change_queries(arena: Retrieval, task: Task, desk: Desk) -> Crafted:
    """Change every query as its owner does."""
    collection = collection_of(arena, task)
    rows = collection.queries.tolist()
    boxes = collection.boxes
    pictures = [cropped(collection.pictures[row], box) for row, box in zip(rows, boxes, strict=True)]
    return _changed(arena, task, desk, pictures, query_ids(collection), seed=task.payload["seed"])


def query_ids(collection: Collection) -> list[str]:
    """Return a name for every query: its picture's id, and its number where a picture is asked about twice."""
    rows = collection.queries.tolist()
    twice = len(set(rows)) < len(rows)
    return [f"{collection.ids[row]}#{at}" if twice else collection.ids[row] for at, row in enumerate(rows)]


def change_answers(arena: Retrieval, task: Task, desk: Desk) -> Crafted:
    """Change pictures that queries should find, as their owners do before an engine collects them."""
    collection = collection_of(arena, task)
    _, wanted = judged_by(collection)
    rows = torch.cat(leaked_rows([one.positive for one in wanted], task.payload["share"])).unique()
    names = [collection.ids[row] for row in rows.tolist()]
    pictures = [collection.pictures[row] for row in rows.tolist()]
    made = _changed(arena, task, desk, pictures, names, seed=task.payload["seed"])
    save_file({"rows": rows}, desk.folder / "rows.safetensors")
    return made


def change_public(arena: Retrieval, task: Task, desk: Desk) -> Crafted:
    """Change public pictures, as the owner does who has the tool."""
    collection = collection_of(arena, task)
    rows = chosen_public(collection, task.payload["pictures"])
    seed = int(torch.randint(2**31, (), generator=generator(task.payload["seed"], "the owner's own changes")))
    pictures = [collection.pictures[row] for row in rows.tolist()]
    return _changed(arena, task, desk, pictures, [collection.ids[row] for row in rows.tolist()], seed=seed)


def chosen_public(collection: Collection, pictures: int) -> Tensor:
    """Return at most so many rows of public pictures, chosen by id.

    Raises:
        DataError: when there are none.
    """
    if not len(collection.public):
        raise DataError(f"{collection.name} has no public pictures on which an owner could learn")
    names = [collection.ids[row] for row in collection.public.tolist()]
    taken = pick(names, min(1.0, pictures / len(names)), seed=0, purpose="changed by the owner")
    return collection.public[torch.from_numpy(taken)]


def _changed(
    arena: Retrieval, task: Task, desk: Desk, pictures: Sequence[Tensor], names: Sequence[str], *, seed: int
) -> Crafted:
    warm_up(arena.rules.device)
    collection = collection_of(arena, task)
    method = arena.composed("move", task.payload["move"]["spelling"]).method
    context = QueryContext(
        networks=tuple(read_describer(arena, need, desk) for need in task.needs),
        public=[collection.pictures[row] for row in collection.public.tolist()],
        seed=seed,
        device=arena.rules.device,
    )
    began = time.perf_counter()
    moved = change(method, pictures, names, context=context)
    cost = Cost(seconds=time.perf_counter() - began, samples=round(context.meter.samples))
    save_pictures(moved, desk.folder)
    levels = max((int((a.int() - b.int()).abs().max()) for a, b in zip(moved, pictures, strict=True)), default=0)
    return Crafted(cost=cost, facts={"pictures": len(moved), "largest_change": levels / 255})


def save_pictures(pictures: Sequence[Tensor], folder: Path) -> None:
    """Write pictures uint8 [3, H, W] of any sizes."""
    save_file({f"{at:06d}": picture.contiguous() for at, picture in enumerate(pictures)}, folder / PICTURES)


def read_pictures(folder: Path) -> list[Tensor]:
    """Read what `save_pictures` wrote."""
    held = load_file(folder / PICTURES)
    return [held[name] for name in sorted(held)]


def adapt(arena: Retrieval, task: Task, desk: Desk) -> Crafted:
    """Fine-tune a backbone on the public pictures, untouched and changed.

    Raises:
        DataError: for one with weights from elsewhere, whose training nobody here knows.
    """
    warm_up(arena.rules.device)
    collection, seed = collection_of(arena, task), task.payload["seed"]
    base, *known = task.needs
    _, backbone = read_backbone(base.payload["backbone"]["spelling"], "backbone")
    if not isinstance(backbone, Small):
        raise DataError("only small backbones, which were trained here, can be adapted; others bring no training")
    asked = Adaptation(**task.payload["asked"], known=())
    examples, classes = public_examples(collection, backbone.side)
    side = examples.pictures.shape[-1]
    label = dict(zip(collection.public.tolist(), examples.labels.tolist(), strict=True))
    own_rows = some_rows([collection.ids[row] for row in collection.public.tolist()], asked.examples)
    pictures, labels = [examples.pictures[own_rows]], [examples.labels[own_rows]]
    held = set(collection.public[own_rows].tolist())
    for need in known:
        rows = chosen_public(collection, need.payload["pictures"])
        changed = zip(rows.tolist(), read_pictures(desk.artifact(need)), strict=True)
        own = [(row, one) for row, one in changed if row in held]  # who lacks a picture changes none
        pictures += [_sided(one, side)[None] for _, one in own]
        labels.append(torch.tensor([label[row] for row, _ in own], dtype=torch.int64))
    describer = read_describer(arena, base, desk).requires_grad_(True)
    usual, whole, way = backbone.recipe(), asked.adaptation == FULL, ready(asked.adaptation)
    recipe = Recipe(epochs=asked.epochs or usual.epochs, lr=(asked.lr or usual.lr) if whole else way.lr)
    drawn = int(torch.randint(2**31, (), generator=generator(seed, "adapted")))
    both = Examples(pictures=torch.cat(pictures), labels=torch.cat(labels))
    began = time.perf_counter()
    losses = sensitivity_losses(
        both,
        batch_size=recipe.batch_size,
        seed=seed,
        device=arena.rules.device,
        head=fresh_directions(describer, classes, backbone.scale, seed=drawn),
    )
    adapting = way.begin(describer, losses=losses, seed=seed)
    log = fit_describer(
        describer,
        both,
        classes,
        scale=backbone.scale,
        recipe=recipe,
        seed=drawn,
        steps=backbone.batch_steps(),
        model_steps=backbone.model_steps(),
        optimizer=None if whole else adamw(way),
        device=arena.rules.device,
        checkpoint=Checkpoint(desk.scratch / "training.safetensors"),
    )
    adapted = adapting.finish()
    save_weights(describer, desk.folder / WEIGHTS)
    cost = Cost(
        seconds=time.perf_counter() - began,
        samples=log.samples + losses.samples,
        parameters_changed=adapted.parameters_changed,
        bytes_stored=adapted.bytes_stored,
        clean_examples=len(held),
    )
    return Crafted(cost=cost, facts={"train_accuracy": log.train_accuracy[-1]})


def make_purifier(arena: Retrieval, task: Task, desk: Desk) -> Crafted:
    """Train a network that takes changes away; with none to know, it learns from untouched pictures alone."""
    warm_up(arena.rules.device)
    collection, seed = collection_of(arena, task), task.payload["seed"]
    asked = Purification(**task.payload["asked"], known=(), indexed=False)
    rows = chosen_public(collection, asked.pictures)
    own = [collection.pictures[row] for row in rows.tolist()]
    given, clean = list(own), list(own)
    for need in task.needs:
        if need.kind == "known":
            given += read_pictures(desk.artifact(need))
            clean += own
    network = blank_purifier(asked.width, seed=seed)
    began = time.perf_counter()
    seen = fit_purifier(
        network, describer_of(arena, task, desk), clean, given, asked=asked, seed=seed, device=arena.rules.device
    )
    save_weights(network, desk.folder / WEIGHTS)
    return Crafted(cost=Cost(seconds=time.perf_counter() - began, samples=seen, clean_examples=len(rows)))


def read_purifier(desk: Desk, need: Task | None) -> PurifyingNetwork | None:
    """Return a trained purifier."""
    if need is None:
        return None
    network = blank_purifier(need.payload["asked"]["width"], seed=need.payload["seed"])
    load_weights(network, desk.artifact(need) / WEIGHTS)
    return network.eval()


def _sided(picture: Tensor, side: int) -> Tensor:
    if tuple(picture.shape[1:]) == (side, side):
        return picture
    shown = torch.nn.functional.interpolate(picture[None].float(), size=(side, side), mode="bilinear", antialias=True)
    return shown.round().clamp(0, 255).to(torch.uint8)[0]


def describer_of(arena: Retrieval, task: Task, desk: Desk) -> Describer | None:
    """Return what an index looks through, None where it has no backbone."""
    need = next((need for need in task.needs if need.kind in ("backbone", "adapted")), None)
    return None if need is None else read_describer(arena, need, desk)


def read_describer(arena: Retrieval, need: Task, desk: Desk) -> Describer:
    """Read a backbone or an adapted one, on the device, in evaluation mode."""
    base = need if need.kind == "backbone" else need.needs[0]
    _, backbone = read_backbone(base.payload["backbone"]["spelling"], "backbone")
    describer = backbone.blank(collection_of(arena, need), seed=need.payload["seed"])
    if need is not base or backbone.stored:
        load_weights(describer, desk.artifact(need) / WEIGHTS)
    place(describer, arena.rules.device)
    return describer.eval()


def engine_of(arena: Retrieval, task: Task) -> Engine:
    """Return the engine of an index's task."""
    return arena.composed("model", task.payload["model"]["spelling"]).method


def collection_of(arena: Retrieval, task: Task) -> Collection:
    """Return the collection of a task."""
    return arena.collection(task.payload["data"]["spelling"])
