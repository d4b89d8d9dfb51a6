"""All of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from countermove.finetuning.adaptation import Adapting, told_whole
from countermove.finetuning.critical_layers import Loss


@dataclass(frozen=True, kw_only=True)
class Full:
    """Everything is trained.

    lr: of AdamW.
    """

    version: ClassVar[int] = 1
    lr: float = 5e-4

    def begin(self, network: nn.Module, *, new: Sequence[str] = (), losses: Loss | None = None, seed: int) -> Adapting:
        """Train everything."""
        network.requires_grad_(True)
        return Adapting(network, told_whole(network, new, {}))
