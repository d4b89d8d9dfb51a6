"""What enters a network's last linear layer: its penultimate features."""

from __future__ import annotations

from torch import Tensor, nn

from countermove.errors import ConfigError


def last_linear(network: nn.Module) -> nn.Linear:
    """Return the linear layer that was registered last; see `logits_and_features`, which checks that it gives logits.

    Raises:
        ConfigError: when the network has no linear layer.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ConfigError("the network has no linear layer, so it has no features before one; take another network")
    return layers[-1]


def logits_and_features(network: nn.Module, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits [N, K] and what the last linear layer made them of, [N, D], in one forward pass; differentiable.

    Raises:
        ConfigError: when the network's output does not come straight from a linear layer.
    """
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((inputs[0], output))

    handle = last_linear(network).register_forward_hook(keep)
    try:
        logits = network(pictures)
    finally:
        handle.remove()
    if len(seen) != 1 or seen[0][1] is not logits:
        raise ConfigError("the network does not end with a linear layer, so its features are unknown; take another one")
    return logits, seen[0][0]
