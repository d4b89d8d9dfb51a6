"""Drawing training triples (user, touched item, untouched item), Rendle et al. 2009 (LearnBPR)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from countermove.recommender.shop import Shop

REDRAWS = 20


@dataclass(frozen=True)
class Triples:
    """Users, touched items and untouched items: int64 [n] each."""

    users: Tensor
    liked: Tensor
    other: Tensor


def draw_triples(shop: Shop, n: int, generator: Generator, *, among: Tensor | None = None) -> Triples:
    """Draw n triples: an interaction uniformly, and an item uniformly among the warm ones its user did not touch.

    Interactions come from all of the shop's train pairs, or from those in `among`, int64 [m, 2].
    A touched one is drawn again, up to REDRAWS times; triples that still have one (users who touched almost
    everything) are left out, so fewer than n may come back.
    """
    train = shop.train if among is None else among
    rows = train[torch.randint(len(train), (n,), generator=generator)]
    users, liked = rows[:, 0], rows[:, 1]
    other = _warm(shop, n, generator)
    for _ in range(REDRAWS):
        wrong = shop.touched(users, other).nonzero().flatten()
        if not len(wrong):
            return Triples(users, liked, other)
        other[wrong] = _warm(shop, len(wrong), generator)
    good = ~shop.touched(users, other)
    return Triples(users[good], liked[good], other[good])


def epoch_of_triples(shop: Shop, batch: int, generator: Generator, *, among: Tensor | None = None) -> Iterator[Triples]:
    """Yield as many triples as there are train interactions (or as `among` has), batch by batch."""
    pairs = len(shop.train if among is None else among)
    for start in range(0, pairs, batch):
        yield draw_triples(shop, min(batch, pairs - start), generator, among=among)


def _warm(shop: Shop, n: int, generator: Generator) -> Tensor:
    return shop.warm[torch.randint(len(shop.warm), (n,), generator=generator)]
