"""The work of this arena: train a surrogate, craft a move, play a cell."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from countermove.game.cell import Cost, Crafted, Desk, Outcome, Task, Units
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import Examples, early_epoch, train, warm_up
from countermove.learning.recipe import Recipe
from countermove.nets.weights import load_weights, save_weights
from countermove.pixels.balls import Ball
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import quantize_move, to_float, to_uint8
from countermove.unlearnable.countermeasure import Plan, ReplyContext, squeeze_uint8
from countermove.unlearnable.dataset import DataSet, Pictures
from countermove.unlearnable.poison import Context, ball_of, build_network, promised_ball

if TYPE_CHECKING:
    from countermove.unlearnable.arena import Unlearnable

WEIGHTS = "weights.safetensors"
PICTURES = "moved.safetensors"


def train_surrogate(arena: Unlearnable, task: Task, desk: Desk) -> Crafted:
    """Train a network on the clean train pictures and store its weights."""
    began = time.perf_counter()
    torch.set_num_threads(arena.rules.threads)
    seed, data = task.payload["seed"], _data(arena, task)
    network = _surrogate_network(task, data)
    log = train(
        network,
        _examples(data.train),
        _examples(data.test),
        recipe=Recipe(**task.payload["training"]),
        seed=seed,
        classes=len(data.classes),
        device=arena.rules.device,
        checkpoint=Checkpoint(desk.scratch / "training.safetensors"),
    )
    save_weights(network, desk.folder / WEIGHTS)
    facts = {"accuracy": log.accuracy[-1], "train_accuracy": log.train_accuracy[-1]}
    return Crafted(cost=Cost(seconds=time.perf_counter() - began, samples=log.samples), facts=facts)


def craft(arena: Unlearnable, task: Task, desk: Desk) -> Crafted:
    """Craft a move and store its pictures with 8 bits a channel."""
    began = time.perf_counter()
    torch.set_num_threads(arena.rules.threads)
    data = _data(arena, task)
    poison = arena.composed("move", task.payload["move"]["spelling"]).method
    need = task.need("surrogate")

    def surrogate() -> nn.Module:
        assert need is not None, "only called by poisons that asked for one"
        network = _surrogate_network(need, data)
        load_weights(network, desk.artifact(need) / WEIGHTS)
        return network

    context = Context(
        seed=task.payload["seed"],
        device=arena.rules.device,
        folder=desk.scratch,
        surrogate=surrogate if need else None,
    )
    batch = data.train.batch(data.moved.nonzero().flatten())
    stored, budget = move_and_round(poison, batch, context)
    save_file({"pictures": stored}, desk.folder / PICTURES)
    facts = {**context.meter.facts, "budget": budget, "ids": list(batch.ids)}
    return Crafted(cost=Cost(seconds=time.perf_counter() - began, samples=context.meter.samples), facts=facts)


def move_and_round(poison: Any, batch: Batch, context: Context) -> tuple[Tensor, dict[str, Any]]:
    """Call a poison and round its pictures inside its budget. The caller checks: a method is not trusted.

    Returns:
        uint8 [N, 3, H, W], and what was measured of the budget on exactly these bytes.
    """
    moved = poison(batch, context=context).pictures
    ball = ball_of(poison)
    stored = to_uint8(moved if ball is None else quantize_move(moved, batch.pictures, ball))
    return stored, measured_budget(stored, batch.pictures, promised_ball(poison))


def measured_budget(stored: Tensor, clean: Tensor, ball: Ball | None) -> dict[str, Any]:
    """Measure a stored move against what it promises; without a promise its largest change is reported."""
    delta = to_float(stored) - clean
    meter = ball or Ball(norm="linf", radius=1.0)
    sizes = meter.measure(delta)
    return {
        "norm": meter.norm,
        "radius": None if ball is None else ball.radius,
        "largest": float(sizes.max()),
        "mean": float(sizes.mean()),
        "kept": None if ball is None else bool(ball.contains(delta).all()),
    }


def play_cell(arena: Unlearnable, task: Task, desk: Desk) -> Outcome:
    """Receive the data, reply, train, and score on clean test pictures. Reading the data is not part of the price."""
    torch.set_num_threads(arena.rules.threads)
    warm_up(arena.rules.device)
    seed, data = task.payload["seed"], _data(arena, task)
    plan = Plan(received=received(data, task, desk), moved=data.moved, recipe=arena.recipe)
    began = time.perf_counter()
    context = ReplyContext(seed=seed, device=arena.rules.device)
    for part in arena.composed("countermove", task.payload["countermove"]["spelling"]).parts:
        plan = part.method(plan, context=context)
    test = data.test.pictures
    for squeeze in plan.test_squeezes:
        test = squeeze_uint8(test, squeeze)
    network = build_network(
        task.payload["model"]["spelling"], len(data.classes), test.shape[-1], generator(seed, "model")
    )
    log = train(
        network,
        plan.received,
        Examples(pictures=test, labels=data.test.labels),
        recipe=plan.recipe,
        seed=seed,
        classes=len(data.classes),
        steps=plan.steps,
        device=arena.rules.device,
        checkpoint=Checkpoint(desk.scratch / "training.safetensors"),
    )
    counted = _counted(data)
    metrics = {
        "accuracy": log.accuracy[-1],
        "accuracy_best": max(log.accuracy),
        "accuracy_early": log.accuracy[early_epoch(log.train_accuracy)],
        "train_accuracy": log.train_accuracy[-1],
        **({} if counted is None else {"moved_class_accuracy": float(log.correct[counted].float().mean())}),
        **context.facts,
    }
    cost = Cost(
        seconds=time.perf_counter() - began,
        samples=plan.samples + log.samples,
        parameters_changed=sum(parameter.numel() for parameter in network.parameters()),
        bytes_stored=sum(t.numel() * t.element_size() for t in network.state_dict().values()),
        clean_examples=plan.clean_examples,
    )
    units = Units(
        ids=data.test.ids,
        outcome=[int(right) for right in log.correct],
        counted=None if counted is None else counted.tolist(),
    )
    curves = {"accuracy": log.accuracy, "train_accuracy": log.train_accuracy, "train_loss": log.train_loss}
    return Outcome(metrics=metrics, units=units, chance=chance(data.test), cost=cost, curves=curves)


def received(data: DataSet, task: Task, desk: Desk) -> Examples:
    """Return the train pictures as the trainer gets them: moved where a mover owned them."""
    need = task.need("move")
    if need is None:
        return _examples(data.train)
    pictures = data.train.pictures.clone()
    pictures[data.moved] = load_file(desk.artifact(need) / PICTURES)["pictures"]
    return Examples(pictures=pictures, labels=data.train.labels)


def chance(test: Pictures) -> float:
    """Return what always naming the largest test class reaches."""
    return float(torch.bincount(test.labels).max() / len(test))


def _counted(data: DataSet) -> Tensor | None:
    """Return which test pictures the payoff counts: those of the moved classes, where not every class is moved."""
    touched = torch.zeros(len(data.classes), dtype=torch.bool)
    touched[data.train.labels[data.moved]] = True
    return None if touched.all() else touched[data.test.labels]


def _surrogate_network(task: Task, data: DataSet) -> nn.Module:
    payload: Mapping[str, Any] = task.payload
    source = generator(payload["seed"], "surrogate")
    return build_network(payload["model"]["spelling"], len(data.classes), data.train.pictures.shape[-1], source)


def _data(arena: Unlearnable, task: Task) -> DataSet:
    return arena.data(task.payload["data"]["spelling"], task.payload["seed"])


def _examples(part: Pictures) -> Examples:
    return Examples(pictures=part.pictures, labels=part.labels)
