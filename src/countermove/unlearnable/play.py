"""The work of this arena: train a surrogate, craft a move, play a cell."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from countermove.finetuning.pictures import fine_tune
from countermove.game.cell import Cost, Crafted, Desk, Outcome, Task, Units
from countermove.learning.adversary import Adversary
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import Training, train
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples, features, warm_up
from countermove.learning.stopping import early_epoch
from countermove.nets.registry import build_network
from countermove.nets.weights import load_weights, save_weights
from countermove.pixels import spectrum
from countermove.pixels.batch import Batch
from countermove.pixels.budget import Spending, measured_budget
from countermove.pixels.mapped import portions, replaced, room_for
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import quantize_move, to_float, to_uint8
from countermove.pixels.squeezes import squeeze_uint8
from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.dataset import DataSet, Pictures
from countermove.unlearnable.detection import picture_metrics
from countermove.unlearnable.on_test import put_on_test, put_on_test_in_portions, read_test, write_test
from countermove.unlearnable.poison import Context, Surrogate, ball_of, in_portions, promised_ball, surrogates_of
from countermove.unlearnable.verification import roc

if TYPE_CHECKING:
    from countermove.unlearnable.arena import Unlearnable

WEIGHTS = "weights.safetensors"
PICTURES = "moved.safetensors"
STAGE = "stage-{}.safetensors"


def train_surrogate(arena: Unlearnable, task: Task, desk: Desk) -> Crafted:
    """Train a network on the clean train pictures and store its weights, stage by stage."""
    began = time.perf_counter()
    torch.set_num_threads(arena.rules.threads)
    seed, data = task.payload["seed"], _data(arena, task)
    network = _surrogate_network(task, data)
    adversary = task.payload.get("adversary")
    log = train(
        network,
        _examples(data.train),
        _examples(data.test),
        recipe=Recipe(**task.payload["training"]),
        seed=seed,
        classes=len(data.classes),
        model_steps=() if adversary is None else (Adversary(**adversary),),
        stages=task.payload.get("checkpoints", 0),
        device=arena.rules.device,
        checkpoint=Checkpoint(desk.scratch / "training.safetensors"),
    )
    save_weights(network, desk.folder / WEIGHTS)
    for i, stage in enumerate(log.stages):
        save_file(stage, desk.folder / STAGE.format(i))
    facts = {"accuracy": log.accuracy[-1], "train_accuracy": log.train_accuracy[-1]}
    return Crafted(cost=Cost(seconds=time.perf_counter() - began, samples=log.samples), facts=facts)


def craft(arena: Unlearnable, task: Task, desk: Desk) -> Crafted:
    """Craft a move and store its pictures with 8 bits a channel."""
    began = time.perf_counter()
    torch.set_num_threads(arena.rules.threads)
    data = _data(arena, task)
    poison = arena.composed("move", task.payload["move"]["spelling"]).method
    trained = dict(zip(surrogates_of(poison), (n for n in task.needs if n.kind == "surrogate"), strict=True))

    def networks(asked: Surrogate) -> list[nn.Module]:
        need = trained[asked]
        names = [STAGE.format(i) for i in range(asked.checkpoints)] or [WEIGHTS]
        found = [_surrogate_network(need, data) for _ in names]
        for network, name in zip(found, names, strict=True):
            load_weights(network, desk.artifact(need) / name)
        return found

    context = Context(
        seed=task.payload["seed"],
        device=arena.rules.device,
        folder=desk.scratch,
        networks=networks if trained else None,
    )
    rows = data.moved.nonzero().flatten()
    tests = _moved_classes(data)[data.test.labels].nonzero().flatten()
    whole = None if in_portions(poison) else data.train.batch(rows)
    if whole is None:
        stored, budget = move_in_portions(poison, data.train, rows, context)
    else:
        stored, budget = move_and_round(poison, whole, context)
    save_file({"pictures": stored}, desk.folder / PICTURES)
    facts = {**context.meter.facts, "budget": budget, "ids": [data.train.ids[i] for i in rows.tolist()]}
    cost = Cost(seconds=time.perf_counter() - began, samples=context.meter.samples)
    if whole is None:
        on_test = put_on_test_in_portions(poison, data.test, tests, trained=data.train.labels[rows], context=context)
    else:
        published = whole.with_pictures(to_float(stored))
        on_test = put_on_test(poison, data.test.batch(tests), clean=whole, moved=published, context=context)
    write_test(on_test, desk.folder)
    return Crafted(cost=cost, facts=facts)


def move_and_round(poison: Any, batch: Batch, context: Context) -> tuple[Tensor, dict[str, Any]]:
    """Call a poison and round its pictures inside its budget. The caller checks: a method is not trusted.

    Returns:
        uint8 [N, 3, H, W], and what was measured of the budget on exactly these bytes.
    """
    moved = poison(batch, context=context).pictures
    ball = ball_of(poison)
    stored = to_uint8(moved if ball is None else quantize_move(moved, batch.pictures, ball))
    return stored, measured_budget(stored, batch.pictures, promised_ball(poison))


def move_in_portions(poison: Any, pictures: Pictures, rows: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
    """Do what move_and_round does for the pictures at some positions; only a portion of them is there as floats."""
    stored = room_for((len(rows), *pictures.pictures.shape[1:]))
    ball, spending = ball_of(poison), Spending(len(rows), promised_ball(poison))
    for part in portions(len(rows), stored.shape):
        batch = pictures.batch(rows[part])
        moved = poison(batch, context=context).pictures
        stored[part] = to_uint8(moved if ball is None else quantize_move(moved, batch.pictures, ball))
        spending.add(part, stored[part], batch.pictures)
    return stored, spending.told()


def make_trained(arena: Unlearnable, task: Task, desk: Desk) -> Crafted:
    """Train a model on what was received and store its weights, to be fine-tuned by many replies."""
    prepared = _prepare(arena, task, desk)
    network, log, cost = _train(arena, task, desk, prepared)
    save_weights(network, desk.folder / WEIGHTS)
    return Crafted(cost=cost, facts={"accuracy": log.accuracy[-1], "train_accuracy": log.train_accuracy[-1]})


def play_cell(arena: Unlearnable, task: Task, desk: Desk) -> Outcome:
    """Receive the data, reply, train, and score on clean test pictures. Reading the data is not part of the price."""
    prepared = _prepare(arena, task, desk)
    data, plan, test = prepared.data, prepared.plan, prepared.test
    network, log, cost = (_fine_tune if plan.fine_tuning else _train)(arena, task, desk, prepared)
    right, counted = log.predicted == data.test.labels, _counted(data)
    metrics = {
        "accuracy": log.accuracy[log.kept_epoch],
        "accuracy_best": max(log.accuracy),
        "accuracy_early": log.accuracy[early_epoch(log.train_accuracy)],
        "train_accuracy": log.train_accuracy[log.kept_epoch],
        **({} if counted is None else {"moved_class_accuracy": float(right[counted].float().mean())}),
        **{name: values[log.kept_epoch] for name, values in log.probes.items()},
        **_verified(network, test, data),
        **prepared.noise,
        **_detected(plan, data),
        **prepared.facts,
    }
    units = Units(
        ids=data.test.ids,
        outcome=[int(one) for one in right],
        counted=None if counted is None else counted.tolist(),
    )
    curves = {"accuracy": log.accuracy, "train_accuracy": log.train_accuracy, "train_loss": log.train_loss}
    curves |= log.probes
    return Outcome(
        metrics=metrics,
        units=units,
        chance=chance(data.test),
        cost=cost,
        curves=curves,
        tables={"confusion": _confusion(data.test.labels, log.predicted, len(data.classes))},
    )


@dataclass(kw_only=True)
class _Prepared:
    """What a training begins with.

    test:  8-bit test pictures as the trained model gets to see them.
    noise: where in the spectrum the move lies.
    facts: what countermeasures, and then a fine-tuning, have to say.
    began: when the reply began.
    """

    data: DataSet
    plan: Plan
    test: Tensor
    noise: dict[str, float]
    facts: dict[str, float]
    began: float


def _prepare(arena: Unlearnable, task: Task, desk: Desk) -> _Prepared:
    """Receive the data and make the plan."""
    torch.set_num_threads(arena.rules.threads)
    warm_up(arena.rules.device)
    seed, data = task.payload["seed"], _data(arena, task)
    plan = Plan(received=received(data, task, desk), moved=data.moved, recipe=arena.recipe, classes=data.classes)
    noise = _noise(data, plan)
    began = time.perf_counter()
    context = ReplyContext(seed=seed, device=arena.rules.device)
    for part in arena.composed("countermove", task.payload["countermove"]["spelling"]).parts:
        plan = part.method(plan, context=context)
    test = _judged(data.test.pictures, plan)
    return _Prepared(data=data, plan=plan, test=test, noise=noise, facts=context.facts, began=began)


def _train(arena: Unlearnable, task: Task, desk: Desk, prepared: _Prepared) -> tuple[nn.Module, Training, Cost]:
    """Train a network on what was received, as planned."""
    seed, data, plan = task.payload["seed"], prepared.data, prepared.plan
    network = _blank(task, prepared)
    log = train(
        network,
        plan.received,
        Examples(pictures=prepared.test, labels=data.test.labels),
        recipe=plan.recipe,
        seed=seed,
        classes=len(data.classes),
        steps=plan.steps,
        model_steps=plan.model_steps,
        probes=_probes(plan, task, desk),
        stop=plan.stop,
        device=arena.rules.device,
        checkpoint=Checkpoint(desk.scratch / "training.safetensors"),
    )
    cost = Cost(
        seconds=time.perf_counter() - prepared.began,
        samples=plan.samples + log.samples,
        parameters_changed=sum(parameter.numel() for parameter in network.parameters()),
        bytes_stored=sum(t.numel() * t.element_size() for t in network.state_dict().values()),
        clean_examples=plan.clean_examples,
    )
    return network, log, cost


def _fine_tune(arena: Unlearnable, task: Task, desk: Desk, prepared: _Prepared) -> tuple[nn.Module, Training, Cost]:
    """Go on with a network that was trained before; what that took is its artifact's cost."""
    seed, data, plan, asked = task.payload["seed"], prepared.data, prepared.plan, prepared.plan.fine_tuning
    need = task.need("trained")
    assert asked is not None, "the plan says so"
    assert need is not None, "the arena asks for it"
    network = _blank(task, prepared)
    load_weights(network, desk.artifact(need) / WEIGHTS)
    began = time.perf_counter()
    log, adapted = fine_tune(
        network,
        asked.examples,
        Examples(pictures=prepared.test, labels=data.test.labels),
        adaptation=asked.adaptation,
        recipe=replace(plan.recipe, epochs=asked.epochs),
        seed=seed,
        classes=len(data.classes),
        model_steps=() if asked.adversary is None else (asked.adversary,),
        probes=_probes(plan, task, desk),
        device=arena.rules.device,
        checkpoint=Checkpoint(desk.scratch / "training.safetensors"),
    )
    prepared.facts |= {name: value for name, value in adapted.facts.items() if isinstance(value, float)}
    cost = Cost(
        seconds=time.perf_counter() - began,
        samples=log.samples,
        parameters_changed=adapted.parameters_changed,
        bytes_stored=adapted.bytes_stored,
        clean_examples=asked.clean,
    )
    return adapted.network, log, cost


def _blank(task: Task, prepared: _Prepared) -> nn.Module:
    """Return the untrained network of a cell."""
    source = generator(task.payload["seed"], "model")
    classes, side = len(prepared.data.classes), prepared.test.shape[-1]
    return build_network(task.payload["model"]["spelling"], classes, side, source)


def received(data: DataSet, task: Task, desk: Desk) -> Examples:
    """Return the train pictures as the trainer gets them: moved where a mover owned them."""
    need = task.need("move")
    if need is None:
        return _examples(data.train)
    pictures = load_file(desk.artifact(need) / PICTURES)["pictures"]  # a map of the file
    if not data.moved.all():
        pictures = replaced(data.train.pictures, data.moved, pictures)
    return Examples(pictures=pictures, labels=data.train.labels)


def chance(test: Pictures) -> float:
    """Return what always naming the largest test class reaches."""
    return float(torch.bincount(test.labels).max() / len(test))


def _judged(test: Tensor, plan: Plan) -> Tensor:
    """Return test pictures as the trained model gets to see them."""
    for squeeze in plan.test_squeezes:
        test = squeeze_uint8(test, squeeze)
    return test


def _probes(plan: Plan, task: Task, desk: Desk) -> dict[str, Examples]:
    """Return the test pictures with the move on them, as the trained model gets to see them, by metric."""
    need = task.need("move")
    sets = {} if need is None else read_test(desk.artifact(need))
    return {name: replace(examples, pictures=_judged(examples.pictures, plan)) for name, examples in sets.items()}


def _noise(data: DataSet, plan: Plan) -> dict[str, float]:
    """Return where in the spectrum a move lies, and how much of it is colour; nothing for move none."""
    rows = data.moved.nonzero().flatten()[: spectrum.PICTURES]
    delta = to_float(plan.received.pictures[rows]) - to_float(data.train.pictures[rows])
    if not delta.any():
        return {}
    return {
        "noise_high_frequency": spectrum.high_frequency_share(spectrum.mean_power(delta)),
        "noise_colour": spectrum.colour_share(delta),
    }


def _detected(plan: Plan, data: DataSet) -> dict[str, float]:
    """Return how well a reply told moved pictures from others, where it tried to on the pictures as they came."""
    if plan.suspicion is None or plan.flagged is None or len(plan.flagged) != len(data.moved):
        return {}
    return picture_metrics(plan.suspicion, plan.flagged, data.moved)


def _verified(network: nn.Module, test: Tensor, data: DataSet) -> dict[str, float]:
    """Return how well the network's features tell whether two test pictures show the same person, where they do.

    Where only some people moved their pictures, theirs and the others' are verified apart, too.
    """
    if not data.people:
        return {}
    found = features(network, test)
    metrics = {"verification_auc": roc(found, data.test.labels).auc}
    moved = _moved_classes(data)[data.test.labels]
    if not moved.all():
        metrics["verification_auc_moved"] = roc(found[moved], data.test.labels[moved]).auc
        metrics["verification_auc_others"] = roc(found[~moved], data.test.labels[~moved]).auc
    return metrics


def _confusion(labels: Tensor, predicted: Tensor, classes: int) -> list[list[int]]:
    """Return how many test pictures of each class (rows) were named as each class (columns)."""
    return torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes).tolist()


def _moved_classes(data: DataSet) -> Tensor:
    """Return which classes have a picture that a mover owned, bool [K]."""
    touched = torch.zeros(len(data.classes), dtype=torch.bool)
    touched[data.train.labels[data.moved]] = True
    return touched


def _counted(data: DataSet) -> Tensor | None:
    """Return which test pictures the payoff counts: those of the moved classes, where not every class is moved."""
    touched = _moved_classes(data)
    return None if touched.all() else touched[data.test.labels]


def _surrogate_network(task: Task, data: DataSet) -> nn.Module:
    payload: Mapping[str, Any] = task.payload
    source = generator(payload["seed"], "surrogate")
    return build_network(payload["model"]["spelling"], len(data.classes), data.train.pictures.shape[-1], source)


def _data(arena: Unlearnable, task: Task) -> DataSet:
    return arena.data(task.payload["data"]["spelling"], task.payload["seed"])


def _examples(part: Pictures) -> Examples:
    return Examples(pictures=part.pictures, labels=part.labels)
