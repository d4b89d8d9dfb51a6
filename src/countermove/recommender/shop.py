"""A shop as the arena holds it: who touched what, the items' pictures, and what was held out.

Legend: U users, I items, C cold items, M train interactions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.pixels.randomness import generator

ColdFrom = Literal["untouched", "any"]
Split = Literal["last", "random"]
POPULAR = "popular"
MOST_NAMED = 5000
"""A shop with more items is not searched for ids that look like a wrong one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shop:
    """Interactions split by user, and the items' pictures.

    users, items: their ids.
    pictures:     uint8 [I, 3, H, W], each item's own, which a merchant may change.
    further:      uint8 [E, 3, H, W], other pictures of items, sorted by item; none in most shops.
    further_of:   int64 [E], whose they are.
    train:        int64 [M, 2], distinct (user, item) pairs, sorted; no cold item.
    validation:   int64 [U], the item held out for choosing models, -1 where a user has too few.
    test:         int64 [U], the item held out for testing, -1 where a user has too few.
    cold:         int64 [C], items that no user touched in any split.
    categories:   names of the items' categories; empty where the shop has none.
    category:     int64 [I], -1 where an item has none.
    statistics:   what was counted while the data were read.
    """

    name: str
    users: tuple[str, ...]
    items: tuple[str, ...]
    pictures: Tensor
    train: Tensor
    validation: Tensor
    test: Tensor
    cold: Tensor
    categories: tuple[str, ...] = ()
    category: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    statistics: Mapping[str, int] = field(default_factory=dict)
    further: Tensor = field(default_factory=lambda: torch.zeros(0, 3, 1, 1, dtype=torch.uint8))
    further_of: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        if self.pictures.dtype != torch.uint8 or self.pictures.ndim != 4 or self.pictures.shape[1] != 3:
            found = f"{self.pictures.dtype} {list(self.pictures.shape)}"
            raise DataError(f"{self.name}: pictures must be uint8 [I, 3, H, W]; got {found}")
        if not len(self.category):
            object.__setattr__(self, "category", torch.full((len(self.items),), -1))
        if len(self.pictures) != len(self.items):
            raise DataError(f"{self.name}: {len(self.items)} items come with {len(self.pictures)} pictures")
        if len(self.further) != len(self.further_of) or (self.further_of.diff() < 0).any():
            raise DataError(f"{self.name}: further pictures must come with their items' numbers, in order")
        if len(self.further) and self.further.shape[1:] != self.pictures.shape[1:]:
            raise DataError(f"{self.name}: further pictures must have the size of the items' own")

    @property
    def side(self) -> int:
        """Return the height of the pictures."""
        return int(self.pictures.shape[2])

    @cached_property
    def shown(self) -> Tensor:
        """Return how many pictures each item has, int64 [I]."""
        return 1 + torch.bincount(self.further_of, minlength=len(self.items))

    def averaged(self, describe: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what stands for each item: the mean over its pictures of what a function makes of pictures, [I, D]."""
        own = describe(self.pictures)
        if not len(self.further):
            return own
        total = own.index_add(0, self.further_of.to(own.device), describe(self.further))
        return total / self.shown[:, None].to(own)

    def drawn(self, items: Tensor, source: Generator) -> Tensor:
        """Return one picture of each item [n], uint8 [n, 3, H, W]: any of its several with the same chance."""
        own = self.pictures[items]
        if not len(self.further):
            return own
        which = (torch.rand(len(items), generator=source) * self.shown[items]).long()
        others = which > 0
        own[others] = self.further[torch.searchsorted(self.further_of, items[others]) + which[others] - 1]
        return own

    @cached_property
    def is_cold(self) -> Tensor:
        """Return which items are cold, bool [I]."""
        mask = torch.zeros(len(self.items), dtype=torch.bool)
        mask[self.cold] = True
        return mask

    @cached_property
    def warm(self) -> Tensor:
        """Return the items that are not cold, int64 [I - C]."""
        return (~self.is_cold).nonzero().flatten()

    @cached_property
    def popularity(self) -> Tensor:
        """Return how many train interactions each item has, int64 [I]."""
        return torch.bincount(self.train[:, 1], minlength=len(self.items))

    @cached_property
    def keys(self) -> Tensor:
        """Return one sorted number for each train pair, for membership tests: int64 [M]."""
        return (self.train[:, 0] * len(self.items) + self.train[:, 1]).sort().values

    def touched(self, users: Tensor, items: Tensor) -> Tensor:
        """Return which (user, item) pairs are train interactions; any shape."""
        wanted = users * len(self.items) + items
        at = torch.searchsorted(self.keys, wanted).clamp_max(len(self.keys) - 1)
        return self.keys[at] == wanted

    @cached_property
    def profiles(self) -> Tensor:
        """Return who touched what, every user's row summing to one: sparse float [U, I]."""
        touched = torch.bincount(self.train[:, 0], minlength=len(self.users))[self.train[:, 0]]
        shape = (len(self.users), len(self.items))
        return torch.sparse_coo_tensor(self.train.t(), 1 / touched.float(), shape, check_invariants=True).coalesce()


@dataclass(frozen=True, kw_only=True)
class Log:
    """Interactions as they were recorded: one row each, ids as texts, times or None."""

    users: Sequence[str]
    items: Sequence[str]
    times: Sequence[float] | None = None


def open_shop(
    name: str,
    log: Log,
    items: Sequence[str],
    pictures: Tensor,
    *,
    cold: int,
    cold_from: ColdFrom,
    split: Split,
    split_seed: int,
    categories: Sequence[str] = (),
    category: Tensor | None = None,
    statistics: Mapping[str, int] | None = None,
    further: tuple[Tensor, Tensor] | None = None,
) -> Shop:
    """Split interactions by user and set cold items apart.

    A pair that was recorded twice counts once, at its last time. Cold items lose all their interactions, also those
    that would have been tested. A user's last (or a random) item is tested and the one before it validates; who has
    two items has no validation item, who has one is only trained on; who has none left is dropped.

    Args:
        name: of the data, for messages.
        log: the interactions; every item must be among `items`.
        items: ids of all items, distinct.
        pictures: uint8 [I, 3, H, W], in the order of items.
        cold: how many items to set apart.
        cold_from: "untouched" takes only items that nobody touched, "any" takes any.
        split: "last" by time, or "random".
        split_seed: of the choice of cold items and of a random split.
        categories: names of categories.
        category: int64 [I], each item's, -1 for none.
        statistics: counts from reading, passed on.
        further: other pictures of items, uint8 [E, 3, H, W], and whose they are, int64 [E], sorted.

    Raises:
        DataError: an item that is not there, too few cold items, a split by time without times, nothing left.
    """
    number = {item: i for i, item in enumerate(items)}
    if len(number) != len(items):
        raise DataError(f"{name}: two items have the same id; ids must be distinct")
    absent = sorted({item for item in log.items if item not in number})
    if absent:
        raise DataError(f"{name}: {len(absent)} items were touched but have no picture, such as {absent[0]!r}")
    if split == "last" and log.times is None:
        raise DataError(f"{name}: the interactions have no times, so none is the last; give split=random")
    if log.times is not None and not np.isfinite(np.asarray(log.times, dtype=np.float64)).all():
        raise DataError(f"{name}: a time is not a finite number; leave the times out or repair them")
    names, of_user = np.unique(np.asarray(log.users, dtype=str), return_inverse=True)
    of_item = np.array([number[item] for item in log.items], dtype=np.int64)
    when = np.zeros(len(of_item)) if log.times is None else np.asarray(log.times, dtype=np.float64)
    last_first = np.lexsort((-when, of_item, of_user))
    of_user, of_item, when = of_user[last_first], of_item[last_first], when[last_first]
    again = np.zeros(len(of_user), dtype=bool)
    again[1:] = (of_user[1:] == of_user[:-1]) & (of_item[1:] == of_item[:-1])
    hint = "; cold_from=any takes touched items, too" if cold_from == "untouched" else ""
    touched = np.bincount(of_item[~again], minlength=len(items))
    set_apart = choose_cold(name, touched, cold, cold_from, split_seed, hint=hint)
    kept = ~again & ~np.isin(of_item, set_apart)
    if not kept.any():
        raise DataError(f"{name}: no interaction is left once {cold} cold items are set apart")
    remaining, of_user = np.unique(of_user[kept], return_inverse=True)
    of_item, when = of_item[kept], when[kept]
    if split == "random":
        when = torch.rand(len(of_user), generator=generator(split_seed, "split"), dtype=torch.float64).numpy()
    train, validation, test = _leave_out(of_user, of_item, when, len(remaining))
    counted = {
        "users": len(remaining),
        "items": len(items),
        "interactions": int(kept.sum()),
        "duplicate rows": int(again.sum()),
        "interactions of cold items": int((~again).sum() - kept.sum()),
        "users left without an interaction": len(names) - len(remaining),
        "users without a test item": int((test < 0).sum()),
    }
    more = {} if further is None else {"further": further[0], "further_of": further[1]}
    return Shop(
        name=name,
        users=tuple(names[remaining].tolist()),
        items=tuple(items),
        pictures=pictures,
        train=torch.from_numpy(train),
        validation=torch.from_numpy(validation),
        test=torch.from_numpy(test),
        cold=torch.from_numpy(set_apart),
        categories=tuple(categories),
        category=torch.full((len(items),), -1) if category is None else category,
        statistics={**counted, **(statistics or {})},
        **more,
    )


def choose_cold(
    name: str, touched: np.ndarray, cold: int, cold_from: ColdFrom, seed: int, *, hint: str = ""
) -> np.ndarray:
    """Choose items to set apart from how often each was touched, int [I]; returns their sorted numbers, int64 [C].

    Raises:
        DataError: when there are fewer than were asked for.
    """
    free = np.flatnonzero(touched == 0) if cold_from == "untouched" else np.arange(len(touched))
    if cold < 1:
        raise DataError(f"{name}: cold = {cold} is refused; at least one cold item is needed to promote")
    if len(free) < cold:
        there = f"{len(free)} were touched by nobody" if cold_from == "untouched" else f"there are {len(free)}"
        raise DataError(f"{name}: {cold} cold items were asked for; {there}{hint}")
    order = torch.randperm(len(free), generator=generator(seed, "cold")).numpy()
    return np.sort(free[order[:cold]]).astype(np.int64)


def _leave_out(
    of_user: np.ndarray, of_item: np.ndarray, when: np.ndarray, users: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return train pairs [M, 2], validation [U] and test [U] items."""
    order = np.lexsort((of_item, when, of_user))  # equal times: the larger item number counts as later
    of_user, of_item = of_user[order], of_item[order]
    counts = np.bincount(of_user, minlength=users)
    from_the_end = np.repeat(np.cumsum(counts), counts) - np.arange(len(of_user)) - 1
    is_test = (from_the_end == 0) & (counts[of_user] >= 2)
    is_validation = (from_the_end == 1) & (counts[of_user] >= 3)
    held = {}
    for part, mask in (("test", is_test), ("validation", is_validation)):
        held[part] = np.full(users, -1, dtype=np.int64)
        held[part][of_user[mask]] = of_item[mask]
    train = np.stack([of_user, of_item], axis=1)[~is_test & ~is_validation]
    train = train[np.lexsort((train[:, 1], train[:, 0]))].astype(np.int64)
    return train, held["validation"], held["test"]


def public(shop: Shop) -> Shop:
    """Return what everybody sees of a shop: items, pictures, how often each was bought.

    Not by whom (all interactions are put down to one and the same user), and not what is held out.
    """
    nothing = torch.full_like(shop.test, -1)
    bought = torch.stack([torch.zeros_like(shop.train[:, 0]), shop.train[:, 1]], dim=1)
    return replace(shop, train=bought, validation=nothing, test=nothing)


def find_hook(shop: Shop, named: str) -> int:
    """Return the item that POPULAR or an id names: the one with most train interactions, the first of equals.

    Raises:
        ConfigError: when no item has that id.
    """
    if named == POPULAR:
        return int(shop.popularity.argmax())
    if named not in shop.items:
        hint = did_you_mean(named, shop.items) if len(shop.items) <= MOST_NAMED else "name one of its item ids"
        raise ConfigError(f"hook = {named!r} is no item of {shop.name}: {hint}")
    return shop.items.index(named)
