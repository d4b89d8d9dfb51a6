"""How good a ranker is while it learns, on the items that were held out for choosing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from countermove.pixels.randomness import generator
from countermove.recommender.shop import Shop

NEGATIVES = 100
USERS_AT_ONCE = 1024


class Judges:
    """How often the validation item beats fixed random warm ones; the same for every ranker of a seed."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self.users = (shop.validation >= 0).nonzero().flatten()
        self.held = shop.validation[self.users][:, None]
        at = torch.randint(len(shop.warm), (len(self.users), NEGATIVES), generator=generator(seed, "judges"))
        self.others = shop.warm[at]

    @property
    def absent(self) -> bool:
        """Whether there is nobody to judge by; then the last epoch is kept."""
        return not len(self.users)

    def quality(self, pair_scores: Callable[[Tensor, Tensor], Tensor]) -> float:
        """Return the share of won comparisons; `pair_scores` takes users [u] and items [u, n] and returns [u, n]."""
        if not len(self.users):
            return 0.0
        won = 0
        for at in torch.arange(len(self.users)).split(USERS_AT_ONCE):
            users = self.users[at]
            won += int((pair_scores(users, self.held[at]) > pair_scores(users, self.others[at])).sum())
        return won / (len(self.users) * NEGATIVES)
