"""Which weights become zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from countermove.finetuning.adaptation import (
    Adapted,
    Adapting,
    mask_targets,
    new_names,
    numbers_of,
    told,
    weights_of,
)
from countermove.finetuning.critical_layers import Loss
from countermove.finetuning.delta import difference
from countermove.finetuning.layers import check_layers, inside
from countermove.finetuning.masks import MaskInit, MaskStart, Sampler, masks, put_masks, sparsity, take_masks_off


@dataclass(frozen=True, kw_only=True)
class Mask:
    """Weights stay; which of them become zero is learned, Radiya-Dixit and Wang 2020, arXiv:2004.14129.

    sparsity: share of zeros at the start, of every matrix.
    init:     the first zeros are the smallest entries ("magnitude"), any ("random"), or none ("ones").
    scale:    size of all logits at the start.
    sampler:  "threshold" (logits above 0 are ones) or "bernoulli" (drawn anew in every step of the training).
    layers:   blocks or modules whose matrices get masks; empty: all.
    without:  those that get none.
    embeddings: whether tables of embeddings get masks, too.
    lr:       of AdamW, for the logits.
    """

    version: ClassVar[int] = 1
    sparsity: float = 0.05
    init: MaskInit = "magnitude"
    scale: float = 0.02
    sampler: Sampler = "threshold"
    layers: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    embeddings: bool = False
    lr: float = 1e-2

    def __post_init__(self) -> None:
        MaskStart(init=self.init, sparsity=self.sparsity)

    def begin(self, network: nn.Module, *, new: Sequence[str] = (), losses: Loss | None = None, seed: int) -> Adapting:
        """Freeze the network under trainable masks."""
        names = [name for name, _ in network.named_parameters()]
        check_layers([*self.layers, *self.without], names)
        chosen = mask_targets(
            network, layers=self.layers, without=(*self.without, *new), embeddings=self.embeddings or bool(self.layers)
        )
        before, start = weights_of(network), MaskStart(init=self.init, sparsity=self.sparsity, seed=seed)
        put_masks(network, start, chosen, scale=self.scale, sampler=self.sampler)
        for name, parameter in network.named_parameters():
            if inside(name, new):
                parameter.requires_grad_(True)

        def finish() -> Adapted:
            final = {name: mask.mask.cpu() for name, mask in masks(network).items()}
            take_masks_off(network, leave="masked")
            starts, names = dict.fromkeys(final, start), new_names(network, new)
            delta = difference(before, network.state_dict(), starts=starts, new=names)
            zeros = sum(int((~mask).sum()) for mask in final.values())
            flipped = sum(entry.flips for entry in delta.entries.values())
            facts = {"sparsity": sparsity(final), "flipped": flipped / sum(mask.numel() for mask in final.values())}
            return told(network, delta, zeros + numbers_of(network, new), facts)

        return Adapting(network, finish)
