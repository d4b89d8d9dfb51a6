"""Items that are made for a profile: projected ascent through extractor and profiler.

Legend: B movers, N items of the longest profile, K additions of the longest extension, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError
from countermove.learning.scoring import place as place_on
from countermove.pixels.balls import Ball
from countermove.pixels.rounding import quantize_move
from countermove.pixels.steps import frozen
from countermove.profiles.dataset import Medium, Profiles, as_stored
from countermove.profiles.extractor import ItemNetwork, extract
from countermove.profiles.pivot import PivotContext, own_items, positions
from countermove.profiles.profiler import Reader
from countermove.profiles.sound import round_to_16_bit, within_snr

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From items [b, K, ...], which are there [b, K], and numbers of movers [b], to what shall grow, [b]."""
AT_ONCE = 256
_PENALTY = 10.0


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How far an item may be changed: eps (L-infinity, pictures) or snr (dB, speech), in steps of `step` of that.

    step: in [0, 1] pixel units for pictures; speech takes the same share of its radius.
    """

    medium: Medium
    eps: float
    snr: float
    step: float
    steps: int

    def climb(self, change: Tensor, gradient: Tensor, start: Tensor) -> Tensor:
        """Return the change after a step uphill, back inside."""
        if self.medium == "picture":
            moved = Ball(norm="linf", radius=self.eps).project(change + self.step * gradient.sign())
            return (start + moved).clamp(0, 1) - start
        radius = torch.linalg.vector_norm(start, dim=1, keepdim=True) * 10 ** (-self.snr / 20)
        share = self.step / self.eps if self.eps else 0.0
        direction = gradient / torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp(min=1e-12)
        moved = within_snr(change + share * radius * direction, start, self.snr)
        return (start + moved).clamp(-1, 1) - start

    def kept(self, moved: Tensor, start: Tensor) -> Tensor:
        """Return moved items [A, ...] as they are stored, still inside."""
        if self.medium == "picture":
            inside = quantize_move(moved, start, Ball(norm="linf", radius=self.eps))
        else:
            inside = round_to_16_bit(moved, start, self.snr)
        return as_stored(inside, self.medium)


def check_limit(owner: str, *, eps: float, snr: float, step: float, steps: int) -> None:
    """Refuse limits that make no sense.

    Raises:
        ConfigError: an eps outside 0..1, a step that is not positive, no steps, an snr that is no number of decibels.
    """
    if not 0 <= eps <= 1 or step <= 0 or steps < 1:
        raise ConfigError(
            f"move {owner!r}: eps = {eps:g}, step = {step:g}, steps = {steps} is refused; eps lies in 0..1 (write "
            "16/255), step is above 0, steps at least 1"
        )
    if not -60 <= snr <= 120:
        raise ConfigError(f"move {owner!r}: snr = {snr:g} is refused; it is in decibels, -60 to 120")


def check_attention(owner: str, attention: float | None, box: str) -> None:
    """Refuse a budget of attention that is none, or that nobody could keep.

    Raises:
        ConfigError: a share outside 0..1, or one in the near-black box, where there is no profiler.
    """
    if attention is not None and (not 0 <= attention <= 1 or box == "near-black"):
        raise ConfigError(
            f"move {owner!r}: attention = {attention:g} is refused; it lies in 0..1, and needs a profiler (box = white "
            "or gray)"
        )


def ascend(start: Tensor, there: Tensor, limit: Limit, loss: Loss, *, groups: Tensor, context: PivotContext) -> Tensor:
    """Return items that were moved uphill, on the CPU.

    Args:
        start: items [G, K, ...] of every group of movers, in a network's range.
        there: which of them every mover adds, bool [B, K].
        limit: how far they may be changed.
        loss: what shall grow, of some of the movers.
        groups: whose items a mover adds, int64 [B]; several movers may share theirs.
        context: for its device and meter.
    """
    shape = start.shape[2:]
    start = start.to(context.device)
    change = torch.zeros_like(start)
    some = max(1, AT_ONCE // max(1, start.shape[1]))
    for _ in range(limit.steps):
        gradient = torch.zeros_like(start)
        for movers in torch.arange(len(groups)).split(some):
            items = (start + change)[groups[movers]].requires_grad_(True)
            (found,) = torch.autograd.grad(loss(items, there[movers], movers).sum(), items)
            gradient.index_add_(0, groups[movers].to(gradient.device), found)
        flat = (-1, *shape)
        change = limit.climb(change.view(flat), gradient.view(flat), start.view(flat)).view_as(start)
        context.meter.samples += int(there.sum())
    return (start + change).cpu()


class BagLoss:
    """The loss of a profiler on extended profiles, with what is known of their own items computed once."""

    def __init__(
        self,
        data: Profiles,
        movers: Tensor,
        reader: Reader,
        *,
        sources: Tensor,
        place: str,
        attention: float | None,
        device: str,
    ) -> None:
        """Compute the movers' own features; sources [B, K]: the rows that additions keep their captions from, or -1."""
        place_on(reader, device)
        self.reader, self.device, self.attention, self.place = reader, device, attention, place
        rows, self.mask = own_items(data, movers)
        assert isinstance(reader.body, ItemNetwork), "a pivot sees items through the profiler's own extractor"
        features = extract(reader.body, data.items[rows[self.mask]], data.medium, device=device)
        features = data.described(features, rows[self.mask])
        self.own = torch.zeros(*rows.shape, features.shape[1]).masked_scatter(self.mask[..., None], features)
        self.written = data.written(sources)
        self.labels, self.lengths = data.labels[movers], data.lengths(movers)
        if attention is not None and reader.bag.attention(self.own[:1].to(device), self.mask[:1].to(device)) is None:
            raise ConfigError(f"attention = {attention} is a budget for profilers that weigh items; this one does not")

    def __call__(self, items: Tensor, there: Tensor, movers: Tensor) -> Tensor:
        """Return the loss of each extended profile; too much attention on additions counts against it."""
        device = self.device
        there = there.to(device)
        own, mask = self.own[movers].to(device), self.mask[movers].to(device)
        seen = torch.cat([self.reader.features(items, there), self.written[movers].to(device)], dim=2)
        features = torch.cat([own, seen], dim=1)
        mask, added = torch.cat([mask, there], dim=1), torch.cat([torch.zeros_like(mask), there], dim=1)
        if self.reader.bag.ordered:
            order = self._order(movers, there)
            features = features.gather(1, order[..., None].expand_as(features))
            mask, added = mask.gather(1, order), added.gather(1, order)
        loss = F.cross_entropy(self.reader.bag(features, mask), self.labels[movers].to(device), reduction="none")
        if self.attention is None:
            return loss
        weights = self.reader.bag.attention(features, mask)
        assert weights is not None, "checked when this was made"
        return loss - _PENALTY * F.relu((weights * added).sum(1) - self.attention)

    def _order(self, movers: Tensor, there: Tensor) -> Tensor:
        """Return the order of time, padding last, int64 [b, N + K]."""
        own = self.mask[movers]
        key = torch.full((len(movers), own.shape[1] + there.shape[1]), torch.inf, dtype=torch.float64)
        for row, mover in enumerate(movers.tolist()):
            length, count = self.lengths[mover], int(there[row].sum())
            key[row, :length] = torch.arange(length) + 0.5
            key[row, own.shape[1] : own.shape[1] + count] = torch.tensor(
                positions(length, count, self.place), dtype=torch.float64
            )
        return key.argsort(dim=1, stable=True).to(there.device)


class UnlikeLoss:
    """How unlike a profile its additions are: minus the mean cosine similarity of all pairs."""

    def __init__(self, data: Profiles, movers: Tensor, network: ItemNetwork, *, device: str) -> None:
        """Compute the movers' own mean directions."""
        place_on(network, device)
        self.network, self.device = network, device
        self.profile = mean_direction(data, movers, network, device=device).to(device)

    def __call__(self, items: Tensor, there: Tensor, movers: Tensor) -> Tensor:
        """Return the loss of each extended profile."""
        there = there.to(self.device)
        similar = torch.zeros(there.shape, device=self.device)
        own = self.profile[movers][:, None].expand(*there.shape, -1)[there]
        found = (F.normalize(self.network(items[there])) * own).sum(1)
        similar = similar.masked_scatter(there, found)
        return -similar.sum(1) / there.sum(1)


def mean_direction(data: Profiles, movers: Tensor, network: ItemNetwork, *, device: str) -> Tensor:
    """Return the mean of the unit features of each mover's items, [B, D]; a product with it averages over items."""
    rows, mask = own_items(data, movers)
    features = F.normalize(extract(network, data.items[rows[mask]], data.medium, device=device))
    whole = torch.zeros(*rows.shape, features.shape[1]).masked_scatter(mask[..., None], features)
    return whole.sum(1) / mask.sum(1, keepdim=True)


def steady(context: PivotContext):
    """Hold whatever the mover looks through still."""
    model = context.reader if context.reader is not None else context.network
    assert model is not None, "a pivot that is made has something to look through"
    return frozen(model)
