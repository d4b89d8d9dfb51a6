"""Items with their features, as a profiler receives them. Legend: M items, A additions, D features."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from countermove.errors import DataError
from countermove.game.cell import Desk, Task
from countermove.profiles.dataset import Profiles
from countermove.profiles.extractor import ItemNetwork, extract
from countermove.profiles.pivot import Additions, extended
from countermove.profiles.plan import Squeezing

if TYPE_CHECKING:
    from countermove.profiles.arena import Profiles as Arena

FEATURES = "features.safetensors"
"""Of all items, in an extractor's artifact."""


class Source:
    """Items and what others added, through all squeezes, with their features; additions follow the set's items."""

    def __init__(
        self,
        arena: Arena,
        task: Task,
        desk: Desk,
        data: Profiles,
        squeezes: Sequence[Squeezing],
        network: ItemNetwork | None,
    ) -> None:
        """Look at the set's items in profiles; without a network there are no features.

        The features of an extractor that stays as it is were stored when `task`'s was made.
        """
        self.data, self.device, self.network = data, arena.rules.device, network
        for one in squeezes:
            if one.medium != data.medium:
                raise DataError(f"countermove {one.spelling!r} is for {one.medium}; {data.name} holds {data.medium}")
        self.squeezes, self.extracted = squeezes, 0
        used = torch.zeros(len(data.items), dtype=torch.bool)
        used[torch.cat(data.bags)] = True
        self.items, self.captions = data.items, data.captions
        if squeezes:
            self.items = data.items.clone()
            self.items[used] = self._squeezed(data.items[used])
        self.features = torch.zeros(0)
        if network is None:
            return
        need = next((need for need in task.needs if need.kind == "extractor"), None)
        if need is not None and not squeezes:
            self.features = self._described(load_file(desk.artifact(need) / FEATURES)["features"])
            return
        features = torch.zeros(len(data.items), network.dim)
        features[used] = extract(network, self.items[used], data.medium, device=self.device)
        self.features = self._described(features)
        self.extracted += int(used.sum())

    @property
    def dim(self) -> int:
        """Return how many features there are."""
        return self.features.shape[1]

    def bags(self, rows: Tensor, additions: Additions | None = None, movers: Tensor | None = None) -> list[Tensor]:
        """Return the profiles of some rows as rows of this source, with what movers among them added.

        Args:
            rows: of profiles.
            additions: of the movers.
            movers: rows of the profiles that the additions are numbered by.
        """
        if additions is None or movers is None or not len(additions):
            return [self.data.bags[row] for row in rows.tolist()]
        first, count = self._join(additions)
        moved = extended(self.data, movers, additions)
        # additions stand behind everything that joined before
        bags = [torch.where(bag >= count, bag - count + first, bag) for bag in moved]
        number = {row: at for at, row in enumerate(movers.tolist())}
        return [bags[number[row]] if row in number else self.data.bags[row] for row in rows.tolist()]

    def through(self, network: ItemNetwork) -> Source:
        """Return the same items with another network's features."""
        other = copy(self)
        other.network = network
        other.features = other._described(extract(network, self.items, self.data.medium, device=self.device))
        return other

    def is_added(self, bag: Tensor) -> Tensor:
        """Return which rows are additions."""
        return bag >= len(self.data.items)

    def _join(self, additions: Additions) -> tuple[int, int]:
        first = len(self.items)
        items = self._squeezed(additions.items)
        self.items = torch.cat([self.items, items])
        self.captions = torch.cat([self.captions, self.data.written(additions.source)])
        if self.network is not None:
            found = extract(self.network, items, self.data.medium, device=self.device)
            self.extracted += len(items)
            self.features = torch.cat([self.features, self.data.described(found, additions.source)])
        return first, len(self.data.items)

    def _described(self, features: Tensor) -> Tensor:
        return torch.cat([features, self.captions], dim=1) if self.captions.shape[1] else features

    def _squeezed(self, items: Tensor) -> Tensor:
        for one in self.squeezes:
            items = one.squeeze(items, self.data.rate)
        return items
