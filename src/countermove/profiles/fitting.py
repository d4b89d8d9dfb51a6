"""Training profilers on profiles of unequal length, and reading profiles with them.

Profiles of about the same length share a batch, so that little of it is padding; benchmarks/profiles_ragged.py measures
this against one profile a step. Legend: M items, P profiles, N items of a profile, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import DataError
from countermove.finetuning.critical_layers import CountedLosses
from countermove.learning.loop import OptimizerOf
from countermove.learning.scoring import place
from countermove.pixels.randomness import generator as make_generator
from countermove.pixels.steps import frozen
from countermove.profiles.dataset import Medium, as_float, padded
from countermove.profiles.extractor import AT_ONCE
from countermove.profiles.profiler import BagRecipe, Reader

ITEMS_AT_ONCE = 8192
"""Of a batch that is read, with padding."""
_JITTER = 0.1
"""How far apart, relative, lengths of a batch can be; without it the same profiles would meet in every epoch."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a training took and how it went.

    samples:        forward-backward passes of an item.
    train_accuracy: on the profiles (or copies) as trained on, dropout included, one value an epoch.
    """

    samples: int
    train_accuracy: list[float] = field(default_factory=list)


def fit_bags(
    reader: Reader,
    source: Tensor,
    bags: Sequence[Tensor],
    labels: Tensor,
    *,
    recipe: BagRecipe,
    seed: int,
    medium: Medium,
    device: str = "cpu",
    class_balanced: bool = True,
    optimizer: OptimizerOf | None = None,
) -> Fitted:
    """Train a profiler in place; it is left in evaluation mode.

    The same seed gives the same weights on one device with one number of threads; the global random state stays as it
    is.

    Args:
        reader: what is trained, with its body where it has one.
        source: features [M, D] where the reader has no body, else items as they are stored.
        bags: rows of source for each profile, int64 [N].
        labels: int64 [P].
        recipe: how; with copies, every item is a profile of its own.
        seed: of order and dropout.
        medium: of the items, where there is a body.
        device: "cpu" or "cuda".
        class_balanced: whether every class weighs the same in the loss, however many profiles it has.
        optimizer: of whatever requires gradients; None: as the recipe says.

    Raises:
        DataError: on no or empty profiles, labels that are not as many, features or a loss that are not finite.
    """
    _check(source, bags, labels)
    flat, lengths = torch.cat(list(bags)), torch.tensor([len(bag) for bag in bags])
    if recipe.copies:
        labels, lengths = labels.repeat_interleave(lengths), torch.ones_like(flat)
    starts = lengths.cumsum(0) - lengths
    weights = _balance(labels) if class_balanced else torch.ones(len(labels))
    place(reader, device).train()
    source, labels, weights = source.to(device), labels.to(device), weights.to(device)
    trained = [parameter for parameter in reader.parameters() if parameter.requires_grad]
    descent = _optimizer(trained, recipe) if optimizer is None else optimizer(trained)
    order = make_generator(seed, "order of profiles")
    batches, history = math.ceil(len(labels) / recipe.batch), []
    with _layers_draw_from(seed, device):
        for epoch in range(recipe.epochs):
            right = torch.zeros((), device=device)
            for at, chosen in enumerate(_batches(lengths, batches, order)):
                rate = recipe.lr * 0.5 * (1 + math.cos(math.pi * (epoch + at / batches) / recipe.epochs))
                for group in descent.param_groups:
                    group["lr"] = rate
                place_in_bag = torch.arange(int(lengths[chosen].max()))
                mask = place_in_bag < lengths[chosen, None]
                rows = flat[torch.where(mask, starts[chosen, None] + place_in_bag, starts[chosen, None])]
                logits = reader(_items(reader, source, rows.to(device), medium), mask.to(device))
                chosen = chosen.to(device)
                loss = (F.cross_entropy(logits, labels[chosen], reduction="none") * weights[chosen]).mean()
                descent.zero_grad(set_to_none=True)
                loss.backward()
                descent.step()
                right += (logits.detach().argmax(1) == labels[chosen]).sum() + loss.detach() * 0  # NaN stays NaN
            history.append(float(right) / len(labels))
            if not math.isfinite(history[-1]):
                raise DataError("a profiler's training diverged; lower its lr, or bring its features to a common scale")
    reader.eval()
    return Fitted(samples=int(lengths.sum()) * recipe.epochs, train_accuracy=history)


def bag_losses(
    source: Tensor,
    bags: Sequence[Tensor],
    labels: Tensor,
    *,
    recipe: BagRecipe,
    seed: int,
    medium: Medium,
    device: str = "cpu",
) -> CountedLosses:
    """Return what yields a profiler's losses of batches of profiles, to measure the sensitivity of its layers on.

    Arguments as for `fit_bags`, whose loss it is; classes weigh the same. A sample is an item.
    """
    if recipe.copies:
        labels = labels.repeat_interleave(torch.tensor([len(bag) for bag in bags]))
        bags = list(torch.cat(list(bags))[:, None])
    weights = _balance(labels)

    def batches(reader: Any) -> Iterator[tuple[Tensor, int]]:
        order = torch.randperm(len(bags), generator=make_generator(seed, "sensitivity"))
        for chosen in order.split(recipe.batch):
            rows, mask = padded([bags[p] for p in chosen.tolist()])
            logits = reader(_items(reader, source.to(device), rows.to(device), medium), mask.to(device))
            each = F.cross_entropy(logits, labels[chosen].to(device), reduction="none")
            yield (each * weights[chosen].to(device)).mean(), int(mask.sum())

    return CountedLosses(batches)


@torch.no_grad()
def read_bags(
    reader: Reader, source: Tensor, bags: Sequence[Tensor], medium: Medium, *, device: str = "cpu"
) -> tuple[Tensor, list[Tensor] | None]:
    """Return how profiles are read, [P, C], and how much each of their items counts, [N] each, on the CPU.

    The second is None where the profiler does not say. Arguments as for `fit_bags`; nothing is changed. Items go
    through a body a few at a time, so that a long profile needs room for its features alone.
    """
    _check(source, bags, None)
    probabilities: list[Tensor] = [torch.empty(0)] * len(bags)
    attention: list[Tensor] = []
    by_length = sorted(range(len(bags)), key=lambda p: len(bags[p]))
    with frozen(place(reader, device)):
        for chosen in _within(by_length, [len(bag) for bag in bags]):
            rows, mask = padded([bags[p] for p in chosen])
            there = mask.to(device)
            features = _features(reader, source, rows, mask, medium, device)
            for p, read in zip(chosen, reader.bag.probabilities(features, there).float().cpu(), strict=True):
                probabilities[p] = read
            looks = reader.bag.attention(features, there)
            if looks is not None:
                attention += [look[: len(bags[p])] for p, look in zip(chosen, looks.float().cpu(), strict=True)]
    if not attention:
        return torch.stack(probabilities), None
    return torch.stack(probabilities), [attention[at] for at in torch.tensor(by_length).argsort().tolist()]


def _items(reader: Reader, source: Tensor, rows: Tensor, medium: Medium) -> Tensor:
    return source[rows] if reader.body is None else as_float(source[rows], medium)


def _features(reader: Reader, source: Tensor, rows: Tensor, mask: Tensor, medium: Medium, device: str) -> Tensor:
    """Return features [B, N, D] on the device."""
    body = reader.body
    if body is None:
        return source[rows].to(device)
    seen = torch.cat([body(as_float(source[part], medium).to(device)) for part in rows[mask].split(AT_ONCE)])
    blank = torch.zeros(*mask.shape, seen.shape[1], dtype=seen.dtype, device=device)
    return blank.masked_scatter(mask.to(device)[..., None], seen)


def _batches(lengths: Tensor, batches: int, order: torch.Generator) -> list[Tensor]:
    """Return profiles of about the same length together, in a random order, all batches about as large."""
    jittered = lengths * (1 + _JITTER * torch.rand(len(lengths), generator=order))
    sorted_parts = jittered.argsort(stable=True).tensor_split(batches)
    return [sorted_parts[at] for at in torch.randperm(batches, generator=order).tolist()]


def _within(by_length: list[int], lengths: list[int]) -> Iterator[list[int]]:
    """Yield runs of profiles, shortest first, that are no more than so many items with their padding."""
    run: list[int] = []
    for p in by_length:
        if run and (len(run) + 1) * lengths[p] > ITEMS_AT_ONCE:
            yield run
            run = []
        run.append(p)
    if run:
        yield run


def _balance(labels: Tensor) -> Tensor:
    """Return a weight for each profile: classes weigh the same, and the mean weight is 1."""
    counts = labels.bincount().float()
    return len(labels) / (int((counts > 0).sum()) * counts[labels])


def _optimizer(parameters: list[nn.Parameter], recipe: BagRecipe) -> torch.optim.Optimizer:
    how: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, **how)
    return torch.optim.SGD(parameters, momentum=0.9, **how)


@contextmanager
def _layers_draw_from(seed: int, device: str) -> Iterator[None]:
    """Give layers that draw from the global generator (dropout) a stream of their own, and put the old one back."""
    state = make_generator(seed, "layers").initial_seed()
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(state)
        if devices:
            torch.cuda.manual_seed(state)
        yield


def _check(source: Tensor, bags: Sequence[Tensor], labels: Tensor | None) -> None:
    if not len(bags) or not all(len(bag) for bag in bags):
        raise DataError("a profiler needs profiles, and every profile at least one item")
    if labels is not None and len(labels) != len(bags):
        raise DataError(f"{len(bags)} profiles come with {len(labels)} labels; the numbers must agree")
    if source.is_floating_point() and not bool(source.isfinite().all()):
        raise DataError("a feature is not finite; check the items and the extractor that made them")
