"""The first stage: which items a user's visual list is made from. Legend: U users, I items, N candidates, F factors.

Bayesian personalised ranking (BPR, Rendle et al. 2009) by stochastic gradient descent with hand-written gradients on
whole batches of triples. The libraries that were weighed (docs/decisions.md) draw negatives by popularity, or are
reproducible on one thread only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.randomness import generator
from countermove.recommender.judges import Judges
from countermove.recommender.shop import Shop
from countermove.recommender.triples import epoch_of_triples

USERS_AT_ONCE = 1024
JUDGED_EVERY = 5


@dataclass(frozen=True, kw_only=True)
class FirstStage:
    """The arena's ``[training]`` table: the candidate stage, and how lists are counted.

    candidates: items a user's list is made from, besides the tested item and the promoted one (paper: 1000).
    factors:    length of BPR's embeddings (paper: 64).
    epochs:     passes over the train interactions; the best of every fifth by validation is kept.
    lr, reg:    learning rate and weight decay of the drawn rows (paper: 0.01 or 0.5, and 0.001).
    batch_size: triples a step.
    together:   promoted items that stand in one list at once; more than one: merchants who do it together.
    pictures:   as if an item had so many: one is promoted, the others look like its cooperative one, and the mean of
                their embeddings stands for it. Above 1 for shops with one picture an item only; the others' own count.
    """

    candidates: int = 1000
    factors: int = 64
    epochs: int = 40
    lr: float = 0.05
    reg: float = 0.01
    batch_size: int = 1024
    together: int = 1
    pictures: int = 1

    def __post_init__(self) -> None:
        for name in ("candidates", "factors", "epochs", "batch_size", "together", "pictures"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training: {name} = {getattr(self, name)} is refused: it must be at least 1")
        if self.lr <= 0 or self.reg < 0:
            raise ConfigError("training: lr must be above 0, and reg not negative")


@dataclass(frozen=True)
class Factors:
    """What BPR learned: float [U, F], [I, F], [I]."""

    users: Tensor
    items: Tensor
    bias: Tensor

    def scores(self, users: Tensor) -> Tensor:
        """Return scores [u, I]."""
        return self.users[users] @ self.items.t() + self.bias

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Return scores [u, n] of users [u] and items [u, n]."""
        return torch.einsum("uf,unf->un", self.users[users], self.items[items]) + self.bias[items]


def fit_bpr(shop: Shop, stage: FirstStage, *, seed: int) -> tuple[Factors, int]:
    """Learn factors; returns them with the number of triples seen. The same seed gives the same result.

    Raises:
        DataError: when they grow without bound.
    """
    source = generator(seed, "bpr")
    users = 0.1 * torch.randn(len(shop.users), stage.factors, generator=source)
    items = 0.1 * torch.randn(len(shop.items), stage.factors, generator=source)
    bias = torch.zeros(len(shop.items))
    judges = Judges(shop, seed)
    best, kept, seen = -1.0, Factors(users, items, bias), 0
    for epoch in range(stage.epochs):
        for triples in epoch_of_triples(shop, stage.batch_size, source):
            _step(users, items, bias, triples.users, triples.liked, triples.other, stage)
            seen += len(triples.users)
        if (epoch + 1) % JUDGED_EVERY == 0 or epoch + 1 == stage.epochs:
            now = Factors(users.clone(), items.clone(), bias.clone())
            if not (users.isfinite().all() and items.isfinite().all()):
                raise DataError(f"BPR diverged at lr = {stage.lr} with batches of {stage.batch_size}; lower either")
            quality = judges.quality(now.pairs)
            if quality > best or judges.absent:
                best, kept = quality, now
    return kept, seen


def _step(users: Tensor, items: Tensor, bias: Tensor, u: Tensor, i: Tensor, j: Tensor, stage: FirstStage) -> None:
    """Descend -ln sigmoid(p_ui - p_uj) + reg / 2 ||drawn rows||^2 on a batch of triples, in place."""
    pu, qi, qj, bi, bj = users[u], items[i], items[j], bias[i], bias[j]
    pull = torch.sigmoid(-((pu * (qi - qj)).sum(1) + bi - bj))[:, None]
    users.index_add_(0, u, stage.lr * (pull * (qi - qj) - stage.reg * pu))
    items.index_add_(0, i, stage.lr * (pull * pu - stage.reg * qi))
    items.index_add_(0, j, stage.lr * (-pull * pu - stage.reg * qj))
    bias.index_add_(0, i, stage.lr * (pull[:, 0] - stage.reg * bi))
    bias.index_add_(0, j, stage.lr * (-pull[:, 0] - stage.reg * bj))


def check_pictures(shop: Shop, pictures: int) -> None:
    """Refuse to suppose several pictures of items that have several.

    Raises:
        ConfigError: when the shop has its own.
    """
    if pictures > 1 and len(shop.further):
        raise ConfigError(
            f"pictures = {pictures} is refused: items of {shop.name} have up to {int(shop.shown.max())} of their own"
        )


def check_candidates(shop: Shop, n: int) -> None:
    """Refuse more candidates than there are items.

    Raises:
        ConfigError: when the shop has fewer warm items.
    """
    if n > len(shop.warm):
        raise ConfigError(f"candidates = {n} is refused: {shop.name} has {len(shop.warm)} items that are not cold")


def choose_candidates(shop: Shop, factors: Factors, n: int) -> Tensor:
    """Return each user's n items with the highest scores as a set, int32 [U, n], sorted by number.

    Train items, the test item (it is put in by itself) and cold items are not among them. A user who touched almost
    everything has fewer; the rest is -1.

    Raises:
        ConfigError: when the shop has fewer warm items than candidates were asked for.
    """
    check_candidates(shop, n)
    chosen = torch.full((len(shop.users), n), -1, dtype=torch.int32)
    first = torch.searchsorted(shop.train[:, 0].contiguous(), torch.arange(len(shop.users) + 1))
    for start in range(0, len(shop.users), USERS_AT_ONCE):
        users = torch.arange(start, min(start + USERS_AT_ONCE, len(shop.users)))
        scores = factors.scores(users)
        rows = shop.train[first[users[0]] : first[users[-1] + 1]]
        scores[rows[:, 0] - start, rows[:, 1]] = -torch.inf
        tested = (shop.test[users] >= 0).nonzero().flatten()
        scores[tested, shop.test[users][tested]] = -torch.inf
        scores[:, shop.cold] = -torch.inf
        top = scores.topk(n, dim=1)
        picked = torch.where(top.values.isfinite(), top.indices, len(shop.items))
        picked = picked.sort(dim=1).values
        chosen[users] = torch.where(picked == len(shop.items), -1, picked).to(torch.int32)
    return chosen
