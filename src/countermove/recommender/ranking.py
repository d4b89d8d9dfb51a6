"""Lists and hits without sorting. Legend: U users, n candidates, C cold items, N length of a list.

A user's list holds the n candidates, the tested item, and a promoted item that is put in from outside. Ties: an item
from outside stands behind every incumbent with the same score; the tested item stands before the candidates with its
score. A place that a list does not have scores minus infinity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from countermove.recommender.ranker import Ranker, check_scores
from countermove.recommender.shop import Shop

LENGTHS = (5, 10, 20)
USERS_AT_ONCE = 256


@dataclass(frozen=True)
class Lists:
    """All users' lists before anything is put in from outside.

    scores: float [U, n + 1], in descending order.
    tested: float [U], the tested item's score; NaN where a user has none.
    before: int64 [U], how many items stand before the tested one.
    level:  int64 [U], how many candidates have exactly its score.
    """

    scores: Tensor
    tested: Tensor
    before: Tensor
    level: Tensor

    @property
    def has_test(self) -> Tensor:
        """Return who has a tested item, bool [U]."""
        return ~self.tested.isnan()

    def threshold(self, length: int) -> Tensor:
        """Return the score that an item from outside must exceed to be among the first `length`: [U].

        Minus infinity where the list is shorter: then every item is in it.
        """
        if length > self.scores.shape[1]:
            return torch.full_like(self.tested, -torch.inf)
        return self.scores[:, length - 1]

    def hits(self, outside: Tensor, length: int) -> Tensor:
        """Return who has each item from outside, put in alone, among the first `length`: bool [U, C].

        outside: scores [U, C].
        """
        return outside > self.threshold(length)[:, None]

    def ranks(self, outside: Tensor) -> Tensor:
        """Return how many items of the list stand before each item from outside: int64 [U, C]."""
        return torch.searchsorted(-self.scores, -outside.contiguous(), right=True)

    def test_hits(self, length: int, outside: Tensor | None = None) -> Tensor:
        """Return who has the tested item among the first `length`, [U], or beside each item from outside: [U, C].

        Users without a tested item never have it.
        """
        mine = (self.before < length) & self.has_test
        if outside is None:
            return mine
        pushed = (self.before == length - 1)[:, None] & (outside > self.tested[:, None])
        return mine[:, None] & ~pushed


def make_lists(ranker: Ranker, shop: Shop, candidates: Tensor) -> Lists:
    """Score every user's candidates and tested item.

    Raises:
        DataError: when a score is no number.
    """
    scores = torch.empty(len(shop.users), candidates.shape[1] + 1)
    tested = torch.full((len(shop.users),), torch.nan)
    for start in range(0, len(shop.users), USERS_AT_ONCE):
        users = torch.arange(start, min(start + USERS_AT_ONCE, len(shop.users)))
        wanted = torch.cat([shop.test[users][:, None], candidates[users].long()], dim=1)
        found = ranker.pairs(users, wanted.clamp_min(0))
        check_scores(found)
        scores[users] = torch.where(wanted < 0, -torch.inf, found)
        tested[users] = torch.where(shop.test[users] < 0, torch.nan, scores[users, 0])
    before = (scores[:, 1:] > tested[:, None]).sum(1)
    level = (scores[:, 1:] == tested[:, None]).sum(1)
    return Lists(scores.sort(dim=1, descending=True).values, tested, before, level)


def hits_together(lists: Lists, outside: Tensor, length: int, together: int) -> Tensor:
    """Return who has each item from outside among the first `length` when groups of them are put in at once.

    Neighbours in the order of the columns form a group; of two with one score the earlier stands first. bool [U, C].
    """
    if together == 1:
        return lists.hits(outside, length)
    hit = torch.zeros(outside.shape, dtype=torch.bool)
    for columns in torch.arange(outside.shape[1]).split(together):
        group = outside[:, columns]
        order = group.argsort(dim=1, descending=True, stable=True)
        above = torch.empty_like(order).scatter_(1, order, torch.arange(len(columns)).expand_as(order))
        hit[:, columns] = (lists.ranks(group) + above < length) & (group > -torch.inf)
    return hit
