"""Which items of the background a mover may add, and random ones among them."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.pixels.randomness import generator
from countermove.profiles.dataset import Profiles

Like = Literal["any", "same"]


def check_like(owner: str, like: str) -> None:
    """Refuse an unknown restriction.

    Raises:
        ConfigError: when it is neither "any" nor "same".
    """
    if like not in get_args(Like):
        raise ConfigError(f"move {owner!r}: like = {like!r} is refused; {did_you_mean(like, get_args(Like))}")


def candidates(data: Profiles, mover: int, like: Like) -> Tensor:
    """Return the rows that a mover may add, int64.

    Raises:
        DataError: when only those of the mover's own value are asked for, and nobody knows whose an item is.
    """
    if like == "any":
        return data.background
    if not bool((data.kinds >= 0).any()):
        raise DataError(f"like = 'same' is refused: {data.name} does not say whose its background items are")
    return data.background[data.kinds == data.labels[mover]]


def drawn(rows: Tensor, count: int, name: str, seed: int) -> Tensor:
    """Return so many of the rows at random, by the name of whom they are for."""
    return rows[torch.randperm(len(rows), generator=generator(seed, "items for", name))[:count]]
