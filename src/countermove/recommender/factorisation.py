"""A fitted VBPR as a network with named parts, so that all or little of it can be trained further.

Legend: U users, I items, D features, K visual factors, F item factors, n triples.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from countermove.finetuning.critical_layers import CountedLosses
from countermove.finetuning.pictures import adamw, ready, some_rows
from countermove.game.cell import Cost
from countermove.pixels.randomness import generator
from countermove.recommender.fitting import Fitted, Material
from countermove.recommender.judges import Judges
from countermove.recommender.ranker import DotRanker
from countermove.recommender.shop import Shop
from countermove.recommender.triples import Triples, epoch_of_triples
from countermove.recommender.visual_bpr import JUDGED_EVERY, Settings, pairwise_loss


class Factorisation(nn.Module):
    """What VBPR learned.

    users [U, F], items [I, F], seekers [U, K]: tables.
    bias: [I], the items' own.
    projection, looks: linear, from features [D] to [K] and to one.
    """

    def __init__(self, ranker: DotRanker) -> None:
        """Copy what a ranker learned; its last visual factor is the visual bias, which every user looks for alike."""
        super().__init__()
        self.users, self.items = _table(ranker.user_factors), _table(ranker.item_factors)
        self.seekers, self.bias = _table(ranker.seekers[:, :-1]), nn.Parameter(ranker.item_bias.clone())
        self.projection, self.looks = _linear(ranker.projection[:, :-1]), _linear(ranker.projection[:, -1:])

    def preference(self, t: Triples, liked: Tensor, other: Tensor) -> Tensor:
        """Return p_ui - p_uj for triples [n], given the features [n, D] of both items."""
        difference = liked - other
        by_factors = (self.users(t.users) * (self.items(t.liked) - self.items(t.other))).sum(1)
        by_looks = (self.seekers(t.users) * self.projection(difference)).sum(1) + self.looks(difference)[:, 0]
        return by_factors + by_looks + self.bias[t.liked] - self.bias[t.other]

    def decay(self, t: Triples) -> Tensor:
        """Return the squared lengths of the drawn rows, a triple."""
        rows = self.users(t.users).square().sum() + self.seekers(t.users).square().sum()
        for item in (t.liked, t.other):
            rows = rows + self.items(item).square().sum() + self.bias[item].square().sum()
        return rows / len(t.users)

    @torch.no_grad()
    def ranker(self, before: DotRanker, features: Tensor, cold: Tensor) -> DotRanker:
        """Return the ranker that it is, on the CPU; cold items have no factors and no bias.

        Args:
            before: the ranker whose network and scale it shares.
            features: of all items, scaled, [I, D].
            cold: int64, items without a history.
        """
        known = (before.user_factors, before.item_factors)
        users, items = (torch.arange(len(rows), device=features.device) for rows in known)
        unit = torch.eye(features.shape[1], device=features.device)
        seekers = self.seekers(users)
        factors, bias = self.items(items).cpu().clone(), self.bias.detach().cpu().clone()
        factors[cold], bias[cold] = 0, 0
        return replace(
            before,
            projection=self._embed(unit).cpu(),
            seekers=torch.cat([seekers, torch.ones_like(seekers[:, :1])], dim=1).cpu(),
            catalogue=self._embed(features).cpu(),
            user_factors=self.users(users).cpu().clone(),
            item_factors=factors,
            item_bias=bias,
        )

    def _embed(self, features: Tensor) -> Tensor:
        return torch.cat([self.projection(features), self.looks(features)], dim=1)


def go_on(material: Material, settings: Settings, *, adaptation: str, examples: int) -> Fitted:
    """Train a fitted VBPR further by an adaptation, with AdamW; the epoch that validates best is kept.

    Args:
        material: with the ranker that was there before.
        settings: its epochs, batches, weight decay and adversary count; the rate is the adaptation's.
        adaptation: spelled.
        examples: train interactions that it has at most; 0: all.
    """
    shop, seed, device, before = material.shop, material.seed, material.device, material.before
    assert isinstance(before, DotRanker), "the arena brings the VBPR that was there before"
    assert before.scale is not None, "a VBPR scales features"
    features = ((material.features()[1] - before.scale[0]) / before.scale[1]).to(device)
    pairs, model = _chosen(shop, examples), Factorisation(before).to(device).eval()
    losses = _losses(shop, pairs, features, settings, seed=seed)
    way = ready(adaptation)
    adapting = way.begin(model, losses=losses, seed=seed)
    optimizer = adamw(way)([parameter for parameter in model.parameters() if parameter.requires_grad])
    source, seen = generator(seed, "goes on"), 0
    judges, best, kept = Judges(shop, seed), -1.0, None
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(generator(seed, "masks").initial_seed())
        for epoch in range(settings.epochs):
            model.train()
            for loss, samples in _batches(model, shop, pairs, features, settings, source):
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                seen += samples
            if (epoch + 1) % JUDGED_EVERY == 0 or epoch + 1 == settings.epochs:
                quality = judges.quality(model.eval().ranker(before, features, shop.cold).pairs)
                if quality > best or judges.absent:
                    best, kept = quality, deepcopy(model.state_dict())
    assert kept is not None, "at least one epoch was judged"
    model.load_state_dict(kept)
    adapted = adapting.finish()
    change = Cost(
        parameters_changed=adapted.parameters_changed, bytes_stored=adapted.bytes_stored, clean_examples=len(pairs)
    )
    return Fitted(model.eval().ranker(before, features, shop.cold), seen + losses.samples, change)


def _chosen(shop: Shop, examples: int) -> Tensor:
    """Return at most so many train pairs, chosen by their ids: int64 [m, 2]."""
    if not examples:
        return shop.train
    names = [f"{shop.users[user]} {shop.items[item]}" for user, item in shop.train.tolist()]
    return shop.train[some_rows(names, examples)]


def _batches(
    model: Any, shop: Shop, pairs: Tensor, features: Tensor, settings: Settings, source: torch.Generator
) -> Iterator[tuple[Tensor, int]]:
    """Yield the loss of one batch of triples after another, and how many passes it took, for one epoch."""
    device = features.device
    for drawn in epoch_of_triples(shop, settings.batch_size, source, among=pairs):
        t = Triples(drawn.users.to(device), drawn.liked.to(device), drawn.other.to(device))
        yield pairwise_loss(model, t, features, settings), len(t.users) * (2 if settings.weight else 1)


def _losses(shop: Shop, pairs: Tensor, features: Tensor, settings: Settings, *, seed: int) -> CountedLosses:
    """Return what yields losses of batches of triples, to measure sensitivity on."""

    def batches(model: nn.Module) -> Iterator[tuple[Tensor, int]]:
        return _batches(model, shop, pairs, features, settings, generator(seed, "sensitivity"))

    return CountedLosses(batches)


def _table(rows: Tensor) -> nn.Embedding:
    return nn.Embedding.from_pretrained(rows.clone(), freeze=False)


def _linear(projection: Tensor) -> nn.Linear:
    """Return the layer that multiplies by [D, K]."""
    layer = nn.Linear(*projection.shape, bias=False, device="meta")
    layer.weight = nn.Parameter(projection.t().contiguous().clone())
    return layer
