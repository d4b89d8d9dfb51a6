"""The work of this arena: find a network, adapt it to a task, test it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from countermove.finetuning.closeness import layer_distances
from countermove.finetuning.layers import inside
from countermove.finetuning.ways.lora import Lora, needs_peft
from countermove.game.cell import Cost, Crafted, Desk, Outcome, Task, Units
from countermove.learning.scoring import warm_up
from countermove.pixels.randomness import generator
from countermove.tasks.bases import FACTS, copy_base, facts_of
from countermove.tasks.fitting import Readable, answers, encoded, fit, matthews, some_losses
from countermove.tasks.model import build_reader
from countermove.tasks.networks import PictureRows, build_classifier
from countermove.tasks.task import PictureTask, TextTask

if TYPE_CHECKING:
    from countermove.tasks.arena import Tasks

MOVED = "moved: "
"""Before the name of a block, the name of its table in a cell."""


def make_base(arena: Tasks, task: Task, desk: Desk) -> Crafted:
    """Put a published network into the run folder; what is pre-trained here is trained first, where it never was."""
    torch.set_num_threads(arena.rules.threads)
    folder = arena.composed("model", task.payload["model"]["spelling"]).method.folder(device=arena.rules.device)
    copy_base(folder, desk.folder)
    return Crafted(cost=Cost(), facts=facts_of(folder) if (folder / FACTS).is_file() else {})


def play_cell(arena: Tasks, task: Task, desk: Desk) -> Outcome:
    """Adapt the network and test it. Reading data and network is not part of the price, nor is its pre-training."""
    torch.set_num_threads(arena.rules.threads)
    (need,) = task.needs
    seed, device, recipe = task.payload["seed"], arena.rules.device, arena.recipe
    found = arena.task(task.payload["data"]["spelling"])
    way = arena.composed("countermove", task.payload["countermove"]["spelling"]).method
    network, new, train, test = _opened(desk.artifact(need), found, seed=seed)
    if isinstance(way, Lora):
        needs_peft()
    warm_up(device)
    before = _copy(network.state_dict())
    network.to(device)
    began = time.perf_counter()
    losses = some_losses(train, batch_size=recipe.batch_size, seed=seed, device=device)
    adapting = way.begin(network, new=new, losses=losses, seed=seed)
    samples = fit(network, train, recipe=recipe, lr=way.lr, seed=seed, device=device)
    adapted = adapting.finish()
    seconds = time.perf_counter() - began
    said = answers(network, test, device=device)
    right = (said == test.labels).float()
    metrics = {"accuracy": float(right.mean())}
    if len(found.classes) == 2:
        metrics["matthews"] = matthews(said, test.labels)
    metrics |= {name: adapted.facts[name] for name in ("sparsity", "flipped") if name in adapted.facts}
    after = network.cpu().state_dict()
    metrics |= _whole(before, len(train))
    return Outcome(
        metrics=metrics,
        units=Units(ids=list(found.test.ids), outcome=right.tolist()),
        chance=found.chance,
        cost=Cost(
            seconds=seconds,
            samples=samples + losses.samples,
            parameters_changed=adapted.parameters_changed,
            bytes_stored=adapted.bytes_stored,
            clean_examples=len(train),
        ),
        tables=_moved(before, after, new),
    )


def _opened(
    folder: Path, found: TextTask | PictureTask, *, seed: int
) -> tuple[nn.Module, tuple[str, ...], Readable, Readable]:
    """Return a network with an output for every class, its new modules, and what it is trained and tested on."""
    source = generator(seed, "output layer")
    if isinstance(found, PictureTask):
        network, new = build_classifier(folder, len(found.classes), source=source)
        return network, new, PictureRows.of(found.train), PictureRows.of(found.test)
    reader = build_reader(folder, len(found.classes), source=source)
    train, test = (encoded(reader, texts, length=found.length) for texts in (found.train, found.test))
    return reader.network, reader.new, train, test


def _whole(state: Mapping[str, Tensor], texts: int) -> dict[str, float]:
    """Return how many numbers and bytes a full copy of the network has."""
    numbers = [tensor for tensor in state.values() if tensor.is_floating_point()]
    return {
        "parameters": float(sum(tensor.numel() for tensor in numbers)),
        "bytes_full": float(sum(tensor.numel() * tensor.element_size() for tensor in numbers)),
        "texts": float(texts),
    }


def _moved(
    before: Mapping[str, Tensor], after: Mapping[str, Any], new: tuple[str, ...]
) -> dict[str, list[list[float]]]:
    """Return a line a published block: numbers, share changed, angle, chance angle, mean L1, chance mean L1."""
    old = {name: tensor for name, tensor in before.items() if not inside(name, new)}
    return {
        f"{MOVED}{d.name}": [[d.numel, d.changed / d.numel, d.angle, d.chance, d.l1 / d.numel, d.chance_l1 / d.numel]]
        for d in layer_distances(old, after)
        if d.numel
    }


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
