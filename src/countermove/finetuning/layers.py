"""What a layer is: a name for every parameter's block and module."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError, did_you_mean


def block_of(name: str) -> str:
    """Return the block of a parameter: its name up to the last number in it, else the module that holds it.

    `bert.encoder.layer.3.output.dense.weight` is in `bert.encoder.layer.3`, `bert.pooler.dense.bias` in
    `bert.pooler.dense`, a bare `weight` in `weight`.
    """
    parts = name.split(".")
    last = max((i for i, part in enumerate(parts) if part.isdigit()), default=-1)
    return ".".join(parts[: last + 1]) if last >= 0 else ".".join(parts[:-1]) or name


def blocks(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the parameters of every block, in the order in which they come."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(block_of(name), []).append(name)
    return found


def inside(name: str, layers: Collection[str]) -> bool:
    """Whether a parameter or module lies in one of the layers, which are prefixes of names on whole words."""
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)


def check_layers(layers: Iterable[str], names: Collection[str]) -> None:
    """Refuse layers that hold none of the parameters.

    Raises:
        ConfigError: with the nearest known blocks.
    """
    for layer in layers:
        if not any(inside(name, (layer,)) for name in names):
            raise ConfigError(f"there is no layer {layer!r} in this network: {did_you_mean(layer, blocks(names))}")


def tied(network: nn.Module) -> dict[str, str]:
    """Return the parameters that are another one under a second name, with the first name of each."""
    first: dict[int, str] = {}
    again: dict[str, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        known = first.setdefault(id(parameter), name)
        if known != name:
            again[name] = known
    return again


def put(own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy tensors into those of a network's state, in place."""
    with torch.no_grad():
        for name, tensor in values.items():
            own[name].copy_(tensor)
