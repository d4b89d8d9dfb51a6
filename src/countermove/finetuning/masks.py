"""Binary masks on frozen weights: sparsification fine-tuning. Legend: W a weight, V its logits, M its mask.

A task is learned by choosing which pre-trained weights to set to zero, and nothing else: W stays, V is trained,
M is 0 or 1 and multiplies W (Radiya-Dixit and Wang 2020, arXiv:2004.14129; Mallya et al. 2018, arXiv:1801.06519).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from countermove.errors import ConfigError
from countermove.finetuning.layers import tied
from countermove.pixels.randomness import generator

Sampler = Literal["bernoulli", "threshold"]
MaskInit = Literal["magnitude", "random", "ones"]
MASKED_MODULES = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True, kw_only=True)
class MaskStart:
    """The mask that a training starts from; anyone who has the weights can compute it again.

    init:     "magnitude" zeroes the smallest entries, "random" any, "ones" none.
    sparsity: share of entries that are zeroed at the start, of every matrix; nothing is for "ones".
    seed:     of "random".
    """

    init: MaskInit = "magnitude"
    sparsity: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.init not in ("magnitude", "random", "ones"):
            raise ConfigError(f"mask init = {self.init!r} is refused; it is magnitude, random or ones")
        if not 0 <= self.sparsity < 1:
            raise ConfigError(f"mask sparsity = {self.sparsity} is refused: it is a share in [0, 1)")

    def mask(self, name: str, weight: Tensor) -> Tensor:
        """Return the mask of a weight, bool in its shape, on the CPU.

        Of n entries, floor(sparsity n) are zeroed. Equal magnitudes go by position.
        """
        n = weight.numel()
        zeros = 0 if self.init == "ones" else int(self.sparsity * n)
        if self.init == "random":
            order = torch.randperm(n, generator=generator(self.seed, "mask", name))
        else:
            order = weight.detach().cpu().float().abs().flatten().argsort(stable=True)
        mask = torch.ones(n, dtype=torch.bool)
        mask[order[:zeros]] = False
        return mask.view(weight.shape)


class Mask(nn.Module):
    """The mask of one weight, as a parametrization of it.

    In training, "bernoulli" draws M with probability sigmoid(V), "threshold" takes V > 0; gradients pass straight
    through to V. In evaluation M is V > 0 for both, which is where sigmoid(V) is above a half.
    """

    def __init__(self, start: Tensor, *, scale: float, sampler: Sampler) -> None:
        """Begin with logits of +scale where the mask is one and -scale where it is zero."""
        super().__init__()
        self.logits = nn.Parameter(torch.where(start, scale, -scale).float())
        self.sampler, self.enabled = sampler, True

    @property
    def mask(self) -> Tensor:
        """Return the mask of evaluation, bool."""
        return self.logits.detach() > 0

    def forward(self, weight: Tensor) -> Tensor:
        """Return the masked weight."""
        if not self.enabled:
            return weight
        if not self.training:
            return torch.where(self.mask, weight, 0)
        if self.sampler == "bernoulli":
            smooth = torch.sigmoid(self.logits)
            hard = torch.bernoulli(smooth.detach())
        else:
            smooth, hard = self.logits, self.mask.float()
        return weight * (hard + smooth - smooth.detach()).to(weight.dtype)


def put_masks(network: nn.Module, start: MaskStart, modules: list[str], *, scale: float, sampler: Sampler) -> None:
    """Freeze a network and put a trainable mask on the weight of each named module, in place.

    Raises:
        ConfigError: when there is no such module, it has no weight to mask, the weight is tied to another one or
            already masked, or the scale is not above zero.
    """
    if scale <= 0 or sampler not in ("bernoulli", "threshold"):
        raise ConfigError(f"masks: scale = {scale}, sampler = {sampler!r} is refused; above 0, bernoulli or threshold")
    again = tied(network)
    shared = {*again, *again.values()}
    found = dict(network.named_modules())
    if len(set(modules)) != len(modules):
        raise ConfigError("masks: a module is named twice")
    for name in modules:
        if not isinstance(found.get(name), MASKED_MODULES):
            raise ConfigError(f"{name!r} cannot be masked: only linear, embedding and convolution layers can")
        if parametrize.is_parametrized(found[name]):
            raise ConfigError(f"{name!r} has a parametrization already; finish that first")
        if f"{name}.weight" in shared:
            other = again.get(f"{name}.weight") or next(k for k, v in again.items() if v == f"{name}.weight")
            raise ConfigError(f"{name}.weight is tied to {other}; a mask on one would change both: leave it out")
    network.requires_grad_(False)
    for name in modules:
        module = found[name]
        weight = network.get_parameter(f"{name}.weight")
        mask = Mask(start.mask(f"{name}.weight", weight).to(weight.device), scale=scale, sampler=sampler)
        parametrize.register_parametrization(module, "weight", mask.train(module.training))


def masks(network: nn.Module) -> dict[str, Mask]:
    """Return all masks by the name of the weight that each is on."""
    suffix = ".parametrizations.weight.0"
    named = ((name, module) for name, module in network.named_modules() if isinstance(module, Mask))
    return {f"{name.removesuffix(suffix)}.weight": module for name, module in named}


def take_masks_off(network: nn.Module, *, leave: Literal["masked", "original"]) -> None:
    """Take all masks off in place; weights are left masked as in evaluation, or as they were before."""
    found = dict(network.named_modules())
    for name, mask in masks(network).items():
        module = found[name.removesuffix(".weight")]
        original = network.get_parameter(f"{name.removesuffix('weight')}parametrizations.weight.original")
        weight = torch.where(mask.mask, original.detach(), 0) if leave == "masked" else original.detach().clone()
        # not torch's own removal: it takes the property off a class that a copy of the network may share
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
        module.register_parameter("weight", nn.Parameter(weight))


@contextmanager
def masks_off(network: nn.Module) -> Iterator[None]:
    """Let a network answer as it did before it was masked."""
    found = masks(network).values()
    for mask in found:
        mask.enabled = False
    try:
        yield
    finally:
        for mask in found:
            mask.enabled = True


def sparsity(masked: Mapping[str, Tensor]) -> float:
    """Return the share of zeros over all masks."""
    total = sum(mask.numel() for mask in masked.values())
    return 1 - sum(int(mask.sum()) for mask in masked.values()) / max(1, total)


def overlap(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Return how much the zeros of two sets of masks have in common: shared zeros over zeros of either (Jaccard).

    Two independent masks of sparsity s have s / (2 - s). Without any zero it is 1.
    """
    both = sum(int((~first[name] & ~second[name]).sum()) for name in first)
    either = sum(int((~first[name] | ~second[name]).sum()) for name in first)
    return both / either if either else 1.0
