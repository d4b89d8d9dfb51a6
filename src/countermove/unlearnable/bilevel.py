"""The min-min game of error-minimising noise: surrogate and noise lower the same loss in turns.

Legend: N pictures, K classes, noise [N, 3, H, W] or [K, 3, H, W].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from countermove.learning.checkpoint import Checkpoint, restore_training, training_state
from countermove.pixels.batch import Batch
from countermove.pixels.steps import frozen
from countermove.unlearnable.descent import Descent, Loss, placed
from countermove.unlearnable.patches import draw_places, places_by_id, put
from countermove.unlearnable.poison import Context
from countermove.unlearnable.views import Through, View

SWEEP_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Bilevel:
    """The settings of the game; see ErrorMinimizing. A patch of 0 is the whole picture."""

    descent: Descent
    batches: int
    batch_size: int
    rounds: int
    stop_error: float
    augment: bool
    augment_sweep: bool
    lr: float
    patch: int = 0
    through: Through = field(default_factory=Through)

    def view(self, source: Generator) -> View:
        """Return how the surrogate sees pictures while it learns."""
        return View(augment=self.augment, generator=source, through=self.through)

    def sweep_view(self, source: Generator) -> View:
        """Return how it sees them while the noise descends."""
        return replace(self.view(source), augment=self.augment and self.augment_sweep)

    def places(self, batch: Batch, seed: int) -> Tensor | None:
        """Return where each picture's square will be published, None without a patch."""
        return places_by_id(seed, batch.ids, self.patch, *batch.pictures.shape[2:]) if self.patch else None


def sample_wise(batch: Batch, network: nn.Module, game: Bilevel, context: Context) -> Tensor:
    """Return one noise a picture, [N, 3, H, W], inside eps and so that picture + noise is in [0, 1]."""
    noise = _blank(len(batch), batch, game)
    places = game.places(batch, context.seed)
    table = _Table(noise, torch.arange(len(batch)), lambda rows, _: _rows(places, rows), places)
    sweep = partial(_sweep_samples, batch, network, game, noise, places, context)
    _play(batch, network, game, context, table, sweep)
    return put(noise, places, *batch.pictures.shape[2:])


def against(batch: Batch, network: nn.Module, game: Bilevel, sweeps: int, context: Context) -> Tensor:
    """Return noise for pictures that were not in the game, [N, 3, H, W]: so many sweeps against its last surrogate."""
    noise = _blank(len(batch), batch, game)
    places = game.places(batch, context.seed)
    view = game.sweep_view(context.generator("bilevel", "new pictures"))
    for _ in range(sweeps):
        _sweep_samples(batch, network, game, noise, places, context, view)
    return put(noise, places, *batch.pictures.shape[2:])


def class_wise(batch: Batch, network: nn.Module, game: Bilevel, share: float, context: Context) -> Tensor:
    """Return one noise a class, found on a share of the pictures, stratified by class: [K, 3, H, W] inside eps.

    With a patch it is [K, 3, P, P]: no picture's place yet. While it is found it lies at places that are drawn for
    every step and picture.
    """
    few = batch.select(_stratified(batch.labels, share, context.generator("share")))
    height, width = batch.pictures.shape[2:]
    noise = _blank(len(batch.classes), batch, game)

    def somewhere(rows: Tensor, source: Generator) -> Tensor | None:
        return draw_places(len(rows), game.patch, height, width, source) if game.patch else None

    def sweep(view: View) -> None:
        order = torch.randperm(len(few), generator=view.generator)
        for rows in order.split(game.batch_size):
            labels = few.labels[rows]
            x, y = few.pictures[rows].to(context.device), labels.to(context.device)
            places = partial(somewhere, rows, view.generator)
            loss = Loss(network=network, x=x, y=y, view=view, places=places, inside=False, context=context)
            delta = game.descent(loss, noise[labels].to(context.device)).cpu()
            present, position = labels.unique(return_inverse=True)
            total = torch.zeros(len(present), *noise.shape[1:]).index_add_(0, position, delta)
            noise[present] = total / torch.bincount(position)[:, None, None, None]

    _play(few, network, game, context, _Table(noise, few.labels, somewhere, game.places(few, context.seed)), sweep)
    return noise


def _blank(n: int, batch: Batch, game: Bilevel) -> Tensor:
    sides = (game.patch, game.patch) if game.patch else batch.pictures.shape[2:]
    return torch.zeros(n, 3, *sides)


def _rows(places: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if places is None else places[rows]


def _sweep_samples(
    batch: Batch, network: nn.Module, game: Bilevel, noise: Tensor, places: Tensor | None, context: Context, view: View
) -> None:
    """Let the noise of every picture descend once, in place."""
    for rows in torch.arange(len(batch)).split(SWEEP_BATCH):
        loss = Loss(
            network=network,
            x=batch.pictures[rows].to(context.device),
            y=batch.labels[rows].to(context.device),
            view=view,
            places=partial(_rows, places, rows),
            inside=True,
            context=context,
        )
        noise[rows] = game.descent(loss, noise[rows].to(context.device)).cpu()


@dataclass(frozen=True)
class _Table:
    """The noise in the making, and which picture carries what where.

    noise:     [M, 3, P, P].
    owner:     int64 [N]: picture i carries noise[owner[i]].
    somewhere: gives places for some rows while the surrogate learns.
    published: the places where the squares will be published, None without a patch.
    """

    noise: Tensor
    owner: Tensor
    somewhere: Callable[[Tensor, Generator], Tensor | None]
    published: Tensor | None

    def moved(self, batch: Batch, rows: Tensor, places: Tensor | None) -> Tensor:
        """Return some pictures with their noise at places."""
        x = batch.pictures[rows]
        return (x + put(self.noise[self.owner[rows]], places, *x.shape[2:])).clamp(0, 1)


def _play(
    batch: Batch,
    network: nn.Module,
    game: Bilevel,
    context: Context,
    table: _Table,
    sweep: Callable[[View], None],
) -> None:
    """Alternate between surrogate batches and noise sweeps until the error is low or the rounds are over.

    `sweep` changes the table's noise in place. A checkpoint that is found is continued from, to the same result.
    """
    source = context.generator("bilevel")
    view = game.view(source)
    optimizer = torch.optim.SGD(network.parameters(), lr=game.lr, momentum=0.9, weight_decay=5e-4)
    stream = _Stream(len(batch), game.batch_size, source)
    checkpoint = context.checkpoint("bilevel")
    error, rounds = _resume(checkpoint, network, optimizer, stream, table.noise, context)
    while rounds < game.rounds and error > game.stop_error:
        network.train()
        for _ in range(game.batches):
            rows = stream.next()
            moved = table.moved(batch, rows, table.somewhere(rows, source)).to(context.device)
            seen = view.draw(moved)(moved)
            loss = F.cross_entropy(network(placed(seen, context)), batch.labels[rows].to(context.device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            context.meter.samples += len(rows)
        sweep(game.sweep_view(source))
        error = _error(batch, network, table, game, context)
        rounds += 1
        if checkpoint is not None:
            tensors = {**training_state(network, optimizer), **stream.state(), "noise": table.noise}
            checkpoint.save_if_due(
                tensors, {"error": error, "rounds": rounds, "place": stream.place, "samples": context.meter.samples}
            )
    context.meter.facts |= {"rounds": rounds, "surrogate_error": error, "stopped_early": error <= game.stop_error}


def _resume(
    checkpoint: Checkpoint | None,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    stream: _Stream,
    noise: Tensor,
    context: Context,
) -> tuple[float, int]:
    """Take up a checkpoint; return the last error and how many rounds are done."""
    found = checkpoint.load() if checkpoint is not None else None
    if found is None:
        return 1.0, 0
    tensors, facts = found
    restore_training(network, optimizer, tensors)
    stream.restore(tensors, facts["place"])
    noise.copy_(tensors["noise"])
    context.meter.samples = facts["samples"]
    return facts["error"], facts["rounds"]


class _Stream:
    """Batches of positions, epoch after epoch, each epoch in a new order; its state can be kept."""

    def __init__(self, n: int, size: int, generator: Generator) -> None:
        self.n, self.size, self.generator = n, min(size, n), generator
        self.order, self.place = torch.empty(0, dtype=torch.int64), 0

    def next(self) -> Tensor:
        """Return the next batch; a last one of a single picture is passed over, as batch norm needs two."""
        if len(self.order) - self.place < min(2, self.n):
            self.order, self.place = torch.randperm(self.n, generator=self.generator), 0
        rows = self.order[self.place : self.place + self.size]
        self.place += len(rows)
        return rows

    def state(self) -> dict[str, Tensor]:
        return {"order": self.order, "generator": self.generator.get_state()}

    def restore(self, tensors: dict[str, Tensor], place: int) -> None:
        self.order, self.place = tensors["order"], place
        self.generator.set_state(tensors["generator"])


@torch.no_grad()
def _error(batch: Batch, network: nn.Module, table: _Table, game: Bilevel, context: Context) -> float:
    """Return how often the surrogate errs on the noisy pictures, squeezed in every way but not augmented."""
    looks, wrong = game.through.every(), 0
    with frozen(network):
        for rows in torch.arange(len(batch)).split(SWEEP_BATCH):
            moved = table.moved(batch, rows, _rows(table.published, rows)).to(context.device)
            for look in looks:
                found = network(placed(look(moved), context)).argmax(dim=1).cpu()
                wrong += int((found != batch.labels[rows]).sum())
    return wrong / (len(batch) * len(looks))


def _stratified(labels: Tensor, share: float, generator: Generator) -> Tensor:
    """Return positions of a share of each class, at least two of each, in their original order."""
    chosen = []
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        count = min(len(rows), max(2, round(share * len(rows))))
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    return torch.cat(chosen).sort().values
