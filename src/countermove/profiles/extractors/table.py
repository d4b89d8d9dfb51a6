"""Features that were made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from countermove.profiles.dataset import Medium, Profiles
from countermove.profiles.extractor import ItemNetwork, check_medium
from countermove.profiles.extractors.parts import Standardised


@dataclass(frozen=True, kw_only=True)
class Table:
    """The features of a table as they are, standardised by the items of training profiles."""

    version: ClassVar[int] = 1
    media: ClassVar[tuple[Medium, ...]] = ("table",)
    stored: ClassVar[bool] = True
    learned: ClassVar[bool] = False

    def blank(self, data: Profiles, *, seed: int) -> ItemNetwork:
        """Return the network whose standardisation is still to be read.

        Raises:
            ConfigError: when this is no table.
        """
        return self._network(data)

    def fit(self, data: Profiles, *, seed: int, device: str = "cpu") -> tuple[ItemNetwork, int]:
        """Return the network, standardised.

        Raises:
            ConfigError: when this is no table.
        """
        network = self._network(data)
        rows = torch.cat([data.bags[p] for p in data.train.tolist()]).unique()
        network.learn(data.items[rows], "table", device=device)
        return network.eval(), 0

    def _network(self, data: Profiles) -> Standardised:
        check_medium(self, data, "table")
        return Standardised(nn.Identity(), data.items.shape[1])
