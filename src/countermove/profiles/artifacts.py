"""What cells share: extractors, profilers, additions, and detectors of additions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from countermove.errors import DataError
from countermove.finetuning.adaptation import read_adaptation
from countermove.finetuning.pictures import adamw, ready
from countermove.game.cell import Cost, Crafted, Desk, Task
from countermove.learning.scoring import place, warm_up
from countermove.nets.weights import load_weights, save_weights
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float
from countermove.pixels.selection import pick
from countermove.pixels.ssim import ssim
from countermove.profiles.dataset import Profiles, as_float
from countermove.profiles.detecting import blank_detector, fit_detector
from countermove.profiles.extractor import ItemNetwork, check_medium, extract, read_extractor
from countermove.profiles.fitting import bag_losses, fit_bags
from countermove.profiles.pivot import Additions, PivotContext
from countermove.profiles.plan import Detection, kept
from countermove.profiles.profiler import Profiler, Reader
from countermove.profiles.sound import snr
from countermove.profiles.source import FEATURES, Source

if TYPE_CHECKING:
    from countermove.profiles.arena import Profiles as Arena

WEIGHTS, ADDITIONS, LIKENESS = "weights.safetensors", "additions.safetensors", "likeness.safetensors"
SMALLEST_SSIM = 11


def make_extractor(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Train an extractor on the public, or find one with weights from elsewhere, and look at every item."""
    warm_up(arena.rules.device)
    data = data_of(arena, task)
    spelled, extractor = read_extractor(task.payload["extractor"]["spelling"], "extractor")
    check_medium(extractor, data, spelled)
    began = time.perf_counter()
    network, samples = extractor.fit(data, seed=task.payload["seed"], device=arena.rules.device)
    features = extract(network, data.items, data.medium, device=arena.rules.device)
    seconds = time.perf_counter() - began
    if extractor.stored:
        save_weights(network, desk.folder / WEIGHTS)
    save_file({"features": features.contiguous()}, desk.folder / FEATURES)
    return Crafted(cost=Cost(seconds=seconds, samples=samples + len(features)), facts={"features": network.dim})


def make_profiler(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Train a profiler on labelled profiles, with what its trainer or other people added to them."""
    warm_up(arena.rules.device)
    data, seed = data_of(arena, task), task.payload["seed"]
    plan = arena.plan(task.payload["through"]["spelling"])
    network = read_extractor_network(arena, task, desk)
    if task.need("profiler") is not None:
        ready(task.payload["adaptation"]["spelling"])
    began = time.perf_counter()
    source = Source(arena, task, desk, data, plan.squeezes, network)
    bags, labels = training_bags(arena, task, desk, source)
    base = task.need("profiler")
    change = Cost()
    if base is None:
        reader, samples, accuracy = train_profiler(
            profiler_of(arena, task), network, source, bags, labels, seed=seed, purpose=str(task.payload["share"])
        )
    else:
        reader = read_profiler(arena, base, desk)
        samples, accuracy, change = _fine_tuned(
            profiler_of(arena, task),
            reader,
            source,
            bags,
            labels,
            way=task.payload["adaptation"]["spelling"],
            seed=seed,
        )
    save_weights(reader if network is None else reader.bag, desk.folder / WEIGHTS)
    known = [need for need in task.needs if need.kind == "known"]
    cost = change + Cost(
        seconds=time.perf_counter() - began,
        samples=samples + source.extracted,
        clean_examples=len(movers_of(data, known[0], arena)) if known else 0,
    )
    return Crafted(cost=cost, facts={"train_accuracy": accuracy, "profiles": len(bags)})


def _fine_tuned(
    profiler: Profiler,
    reader: Reader,
    source: Source,
    bags: Sequence[Tensor],
    labels: Tensor,
    *,
    way: str,
    seed: int,
) -> tuple[int, float, Cost]:
    """Fine-tune a profiler in place; return items passed, its accuracy in training, and what its change takes.

    A given extractor stays as it is; what a profiler learned to look through may change with it.
    """
    learned = profiler.looks()[1].learned
    own = reader if learned else Reader(reader.bag)
    seen, chosen = source.items if learned else source.features, read_adaptation(way)
    recipe = replace(profiler.recipe(), lr=chosen.lr)
    losses = bag_losses(seen, bags, labels, recipe=recipe, seed=seed, medium=source.data.medium, device=source.device)
    adapting = chosen.begin(own, losses=losses, seed=seed)
    fitted = fit_bags(
        own,
        seen,
        bags,
        labels,
        recipe=recipe,
        seed=int(torch.randint(2**31, (), generator=generator(seed, "fine-tuned profiler"))),
        medium=source.data.medium,
        device=source.device,
        optimizer=adamw(chosen),
    )
    adapted = adapting.finish()
    accuracy = fitted.train_accuracy[-1] if fitted.train_accuracy else 0.0
    change = Cost(parameters_changed=adapted.parameters_changed, bytes_stored=adapted.bytes_stored)
    return fitted.samples + losses.samples, accuracy, change


def training_bags(arena: Arena, task: Task, desk: Desk, source: Source) -> tuple[list[Tensor], Tensor]:
    """Return what a profiler's task trains on as rows of a source, and their labels.

    That is: the profiles, as other people have spoiled them, and the trainer's own pivoted ones, after the filters that
    training profiles go through as well.

    Raises:
        DataError: filters for a profiler that learns what it looks through, whose features change meanwhile.
    """
    data, plan = source.data, arena.plan(task.payload["through"]["spelling"])
    rows = share_of(data, data.train, task.payload["share"], "whom a mover in the gray box knows")
    poison = next((need for need in task.needs if need.kind == "move"), None)
    known = [need for need in task.needs if need.kind == "known"]
    bags = source.bags(rows, read_additions(desk, poison), movers_of(data, poison, arena))
    labels = data.labels[rows]
    for number, need in enumerate(known):
        movers = movers_of(data, need, arena)
        mine = torch.isin(movers, movers[number :: len(known)])
        pivoted = source.bags(movers, read_additions(desk, need), movers)
        bags += [bag for bag, taken in zip(pivoted, mine.tolist(), strict=True) if taken]
        labels = torch.cat([labels, data.labels[movers[mine]]])
    filters = [one.filter for one in plan.filters if one.on == "all"]
    if not filters:
        return bags, labels
    if task.need("extractor") is None:
        raise DataError("filters of training profiles need features that do not change while a profiler learns")
    return [kept(bag, source.features, filters) for bag in bags], labels


def train_profiler(
    profiler: Profiler,
    network: ItemNetwork | None,
    source: Source,
    bags: Sequence[Tensor],
    labels: Tensor,
    *,
    seed: int,
    purpose: str,
) -> tuple[Reader, int, float]:
    """Train a fresh profiler; returns it with what it looks through, items passed, and its accuracy in training.

    Args:
        profiler: how it is made and trained.
        network: what it looks through; None where it learns that itself.
        source: of features or of items.
        bags: rows of the source.
        labels: int64, one a bag.
        seed: of weights and order.
        purpose: makes another draw.
    """
    data, device = source.data, source.device
    drawn = generator(seed, "profiler", purpose)
    start = int(torch.randint(2**31, (), generator=drawn))
    own = profiler.looks()[1].blank(data, seed=start) if network is None else None
    dim = source.dim if own is None else own.dim
    reader = Reader(profiler.network(dim, len(data.classes), generator=drawn), own)
    fitted = fit_bags(
        reader,
        source.features if own is None else source.items,
        bags,
        labels,
        recipe=profiler.recipe(),
        seed=int(torch.randint(2**31, (), generator=drawn)),
        medium=data.medium,
        device=device,
    )
    whole = Reader(reader.bag, own if own is not None else network)
    return whole.eval(), fitted.samples, fitted.train_accuracy[-1] if fitted.train_accuracy else 0.0


def pivot(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Let movers add to their profiles, and store what they added."""
    return _pivoted(arena, task, desk, seed=task.payload["seed"], trainers=False)


def pivot_known(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Pivot the trainer's own profiles, as the trainer does who has the tool."""
    seed = int(torch.randint(2**31, (), generator=generator(task.payload["seed"], "the trainer's own pivots")))
    return _pivoted(arena, task, desk, seed=seed, trainers=True)


def half_of_background(data: Profiles, *, trainers: bool) -> Profiles:
    """Return the set with one half of what may be added, chosen by id: the trainer's own half, or everybody else's.

    Were they one, a trainer who has the tool would know the very items that others add, and not what they are like.
    """
    names = [data.ids[row] for row in data.background.tolist()]
    taken = torch.from_numpy(pick(names, 0.5, seed=0, purpose="the trainer's half of the background"))
    mine = taken if trainers else ~taken
    return replace(data, background=data.background[mine], kinds=data.kinds[mine])


def _pivoted(arena: Arena, task: Task, desk: Desk, *, seed: int, trainers: bool) -> Crafted:
    warm_up(arena.rules.device)
    data, method = (
        half_of_background(data_of(arena, task), trainers=trainers),
        arena.composed("move", task.payload["move"]["spelling"]).method,
    )
    reader = next((read_profiler(arena, need, desk) for need in task.needs if need.kind == "profiler"), None)
    network = None if reader is not None else read_extractor_network(arena, task, desk)
    context = PivotContext(reader=reader, network=network, seed=seed, device=arena.rules.device)
    movers = movers_of(data, task, arena)
    began = time.perf_counter()
    added: Additions = method(data, movers, context=context)
    cost = Cost(seconds=time.perf_counter() - began, samples=context.meter.samples)
    if added.items.shape[1:] != data.items.shape[1:] or added.items.dtype != data.items.dtype:
        raise DataError(f"the pivot returned items of another form: {list(added.items.shape)}, {added.items.dtype}")
    stored = {"items": added.items, "mover": added.mover, "source": added.source, "when": added.when}
    save_file({name: value.contiguous() for name, value in stored.items()}, desk.folder / ADDITIONS)
    like = likeness(data, added)
    if like:
        save_file({name: torch.tensor(value) for name, value in like.items()}, desk.folder / LIKENESS)
    return Crafted(cost=cost, facts={"movers": len(movers), "additions": len(added), **like})


def likeness(data: Profiles, added: Additions) -> dict[str, float]:
    """Return how like the items they were made from additions are: mean `ssim`, or median `snr` in dB.

    Nothing where they were made from none, or nothing was changed.
    """
    if not len(added) or not bool((added.source >= 0).all()):
        return {}
    clean = data.items[added.source]
    if torch.equal(clean, added.items):
        return {}
    if data.medium == "picture" and min(clean.shape[2:]) >= SMALLEST_SSIM:
        parts = zip(added.items.split(256), clean.split(256), strict=True)
        return {"ssim": float(torch.cat([ssim(to_float(a), to_float(b)) for a, b in parts]).mean())}
    if data.medium == "speech":
        found = snr(as_float(clean, "speech"), as_float(added.items, "speech"))
        return {"snr": float(found[found.isfinite()].median())}  # a clip whose change was rounded away has none
    return {}


def read_likeness(desk: Desk, need: Task | None) -> dict[str, float]:
    """Return what `likeness` said when additions were made."""
    if need is None or not (desk.artifact(need) / LIKENESS).is_file():
        return {}
    return {name: float(value) for name, value in load_file(desk.artifact(need) / LIKENESS).items()}


def movers_of(data: Profiles, task: Task | None, arena: Arena) -> Tensor:
    """Return the rows of the profiles that a pivot's additions are numbered by."""
    if task is None:
        return torch.zeros(0, dtype=torch.int64)
    if task.kind == "known":
        return share_of(data, data.train, task.payload["share"], "pivoted by the trainer")
    method = arena.composed("move", task.payload["move"]["spelling"]).method
    takes_part = getattr(method, "takes_part", None)
    return data.test if takes_part is None else takes_part(data)


def share_of(data: Profiles, rows: Tensor, share: float, purpose: str) -> Tensor:
    """Return a share of the profiles, chosen by id.

    Raises:
        DataError: when they lack a value of the attribute.
    """
    taken = pick([data.profile_ids[row] for row in rows.tolist()], share, seed=0, purpose=purpose)
    chosen = rows[torch.from_numpy(taken)]
    if len(data.labels[chosen].unique()) < len(data.classes):
        raise DataError(f"{data.name}: {share:g} of its {len(rows)} training profiles lack a value of the attribute")
    return chosen


def read_additions(desk: Desk, need: Task | None) -> Additions | None:
    """Return what was added."""
    return None if need is None else stored_additions(desk.artifact(need))


def stored_additions(folder: Path) -> Additions:
    """Return what was added, from its artifact's folder."""
    return Additions(**load_file(folder / ADDITIONS))


def make_detector(arena: Arena, task: Task, desk: Desk) -> Crafted:
    """Train a detector on the trainer's own profiles; with no pivot to know, it stays untrained and drops nothing."""
    warm_up(arena.rules.device)
    data, seed = data_of(arena, task), task.payload["seed"]
    asked = Detection(**task.payload["asked"], known=())
    profiler = next(need for need in task.needs if need.kind == "profiler")
    network = read_profiler(arena, profiler, desk).body
    assert isinstance(network, ItemNetwork), "a profiler looks through something"
    detector = blank_detector(network.dim + data.captions.shape[1], asked.hidden, seed=seed)
    known = [need for need in task.needs if need.kind == "known"]
    began, samples = time.perf_counter(), 0
    if known:
        through = arena.plan(profiler.payload["through"]["spelling"])
        filters = [one.filter for one in arena.plan(task.payload["filters"]["spelling"]).filters]
        source = Source(arena, profiler, desk, data, through.squeezes, network)
        own = source.bags(data.train)
        bags = list(own)
        for need in known:
            movers = movers_of(data, need, arena)
            bags += source.bags(movers, read_additions(desk, need), movers)
        held = data.validation if len(data.validation) else data.train
        features, bags = source.features, [kept(bag, source.features, filters) for bag in bags]
        samples = fit_detector(
            detector,
            [features[bag] for bag in bags],
            [source.is_added(bag) for bag in bags],
            [features[kept(bag, features, filters)] for bag in source.bags(held)],
            asked=asked,
            seed=seed,
        )
    save_weights(detector, desk.folder / WEIGHTS)
    clean = len(data.train) if known else 0
    return Crafted(cost=Cost(seconds=time.perf_counter() - began, samples=samples, clean_examples=clean))


def read_extractor_network(arena: Arena, task: Task, desk: Desk) -> ItemNetwork | None:
    """Return the extractor that a task needs, on the device, in evaluation mode; None where it needs none."""
    need = next((need for need in task.needs if need.kind == "extractor"), None)
    if need is None:
        return None
    _, extractor = read_extractor(need.payload["extractor"]["spelling"], "extractor")
    network = extractor.blank(data_of(arena, need), seed=need.payload["seed"])
    if extractor.stored:
        load_weights(network, desk.artifact(need) / WEIGHTS)
    place(network, arena.rules.device)
    return network.eval()


def read_profiler(arena: Arena, need: Task, desk: Desk) -> Reader:
    """Read a profiler with what it looks through, on the device, in evaluation mode."""
    profiler, data = profiler_of(arena, need), data_of(arena, need)
    network, drawn = read_extractor_network(arena, need, desk), torch.Generator().manual_seed(0)
    body = profiler.looks()[1].blank(data, seed=0) if network is None else network
    dim = body.dim + data.captions.shape[1]
    reader = Reader(profiler.network(dim, len(data.classes), generator=drawn), body)
    load_weights(reader if network is None else reader.bag, desk.artifact(need) / WEIGHTS)
    place(reader, arena.rules.device)
    return reader.eval()


def profiler_of(arena: Arena, task: Task) -> Profiler:
    """Return the profiler of a task that makes one."""
    return arena.composed("model", task.payload["model"]["spelling"]).method


def data_of(arena: Arena, task: Task) -> Profiles:
    """Return the set of a task."""
    return arena.profiles(task.payload["data"]["spelling"])
