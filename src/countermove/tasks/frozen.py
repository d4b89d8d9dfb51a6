"""Nothing of a published network changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from countermove.errors import ConfigError
from countermove.finetuning.adaptation import Adapting
from countermove.finetuning.critical_layers import Loss
from countermove.finetuning.ways.critical_layers import CriticalLayers


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """Linear probing: only the task's own output layers are trained, the published network stays as it was.

    lr: of AdamW.
    """

    version: ClassVar[int] = 1
    lr: float = 2e-3

    def begin(self, network: nn.Module, *, new: Sequence[str] = (), losses: Loss | None = None, seed: int) -> Adapting:
        """Freeze everything but what is new."""
        if not new:
            raise ConfigError("this network has an output layer already; frozen, nothing of it would be trained")
        return CriticalLayers(layers=tuple(new), lr=self.lr).begin(network, new=new, seed=seed)
