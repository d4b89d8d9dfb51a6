"""How different two photos look, as a network sees it or as structural similarity has it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.faces.crafting import Dssim
from countermove.learning.scoring import place
from countermove.pixels.steps import frozen

Distance = Callable[[Tensor], Tensor]
"""From changed photos [N, 3, H, W] to one number each; differentiable."""

_EPS = 1e-10


def perceptual_distance(name: str, *, device: str = "cpu") -> Callable[[Tensor], Distance]:
    """Return what makes a distance to given photos.

    dssim: (1 - SSIM) / 2. Anything else names a network with weights from elsewhere, as `nets.load` spells it, whose
    maps after every ReLU are compared as LPIPS does (Zhang et al. 2018, arXiv:1801.03924), with equal weights: each
    position's vector is brought to length one, squared differences are summed over channels and averaged over
    positions, layers are added up.

    Raises:
        WeightsError: when a network's weights are absent.
        ConfigError: when a network has no ReLU.
    """
    if name == "dssim":
        return Dssim
    from countermove.nets.load import load

    network = place(load(name), device)
    if not any(isinstance(module, nn.ReLU) for module in network.modules()):
        raise ConfigError(f"{name} has no ReLU whose maps could be compared; take torchvision:alexnet")

    def to(clean: Tensor) -> Distance:
        with torch.no_grad():
            reference = _maps(network, clean)

        def distance(photos: Tensor) -> Tensor:
            pairs = zip(_maps(network, photos), reference, strict=True)
            return torch.stack([(a - b).square().sum(1).flatten(1).mean(1) for a, b in pairs]).sum(0)

        return distance

    return to


def _maps(network: nn.Module, photos: Tensor) -> list[Tensor]:
    """Return the maps [N, C, h, w] after every ReLU, each position's vector of length one."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        if output.ndim == 4:
            # a copy: a layer that works in place may overwrite what is kept
            found.append(output / (output.square().sum(1, keepdim=True) + _EPS).sqrt())

    handles = [m.register_forward_hook(keep) for m in network.modules() if isinstance(m, nn.ReLU)]
    try:
        with frozen(network):
            network(photos)
    finally:
        for handle in handles:
            handle.remove()
    return found
