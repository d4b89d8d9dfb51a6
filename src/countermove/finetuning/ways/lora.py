"""Low-rank updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import safetensors.torch
import torch
from torch import nn

from countermove.errors import ConfigError
from countermove.finetuning.adaptation import Adapted, Adapting, mask_targets, new_names
from countermove.finetuning.critical_layers import Loss
from countermove.finetuning.layers import inside
from countermove.nets.parts import seeded
from countermove.pixels.randomness import generator


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank updates of linear and convolution layers, Hu et al. 2021, arXiv:2106.09685, by the package peft.

    rank, alpha: of the updates; they are scaled by alpha / rank.
    embeddings:  whether tables of embeddings get updates, too.
    lr:          of AdamW.
    """

    version: ClassVar[int] = 1
    rank: int = 8
    alpha: float = 16.0
    embeddings: bool = False
    lr: float = 2e-3

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ConfigError("lora: rank is at least 1 and alpha above 0")

    def begin(self, network: nn.Module, *, new: Sequence[str] = (), losses: Loss | None = None, seed: int) -> Adapting:
        """Put low-rank updates beside all linear and convolution layers."""
        peft = needs_peft()
        targets = [
            name
            for name in mask_targets(network, layers=(), without=new, embeddings=self.embeddings)
            if getattr(network.get_submodule(name), "groups", 1) == 1
        ]
        config = peft.LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=targets, lora_dropout=0.0)
        with seeded(generator(seed, "lora")):
            wrapped = peft.LoraModel(network, config, "default")
        for name, parameter in network.named_parameters():
            if inside(name, new):
                parameter.requires_grad_(True)

        def finish() -> Adapted:
            factors = {
                n: p.detach().cpu().clone(memory_format=torch.contiguous_format)
                for n, p in network.named_parameters()
                if ".lora_" in n
            }
            wrapped.merge_and_unload()
            network.requires_grad_(True)
            own = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
            stored = {**factors, **{name: own[name] for name in new_names(network, new)}}
            return Adapted(
                network=network,
                parameters_changed=sum(tensor.numel() for tensor in stored.values()),
                bytes_stored=len(safetensors.torch.save(stored)),
                facts={"modules": len(targets)},
            )

        return Adapting(network, finish)


def needs_peft() -> Any:
    """Return the package peft; importing it takes seconds, which are no part of a price.

    Raises:
        ConfigError: when it is not installed.
    """
    try:
        import peft
    except ImportError:
        raise ConfigError("lora is made with the package peft: countermove[finetuning]") from None
    return peft
