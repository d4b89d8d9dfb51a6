"""Biases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from countermove.finetuning.adaptation import Adapting, told_whole, weights_of
from countermove.finetuning.critical_layers import Loss
from countermove.finetuning.layers import inside


@dataclass(frozen=True, kw_only=True)
class BitFit:
    """Only biases are trained, Ben Zaken et al. 2021, arXiv:2106.10199.

    lr: of AdamW.
    """

    version: ClassVar[int] = 1
    lr: float = 2e-3

    def begin(self, network: nn.Module, *, new: Sequence[str] = (), losses: Loss | None = None, seed: int) -> Adapting:
        """Freeze everything but biases."""
        before = weights_of(network)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.rpartition(".")[2] == "bias" or inside(name, new))
        return Adapting(network, told_whole(network, new, {}, before))
