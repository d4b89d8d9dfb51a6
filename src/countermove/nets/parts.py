"""What all networks share: normalisation inside the model, reproducible construction, checks of what was asked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError

IMAGENET_STEM_FROM = 64
"""Pictures of this side or more get a network's original stem, smaller ones the stem for 32 x 32."""


class Normalize(nn.Module):
    """Take the mean from every channel and divide by the deviation. Pictures [N, C, H, W] in [0, 1] in and out.

    mean, std: one number a channel, in [0, 1] pixel units. They are saved with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] = (0.5, 0.5, 0.5), std: Sequence[float] = (0.25, 0.25, 0.25)) -> None:
        """Keep mean and deviation as buffers of shape [C, 1, 1]."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the normalised pictures."""
        return (pictures - self.mean) / self.std


def normalized(net: nn.Module, normalize: Normalize | None = None) -> nn.Module:
    """Return a network that takes pictures in [0, 1] and normalises them itself (mean .5, std .25 unless given)."""
    return nn.Sequential(OrderedDict(normalize=normalize or Normalize(), net=net))


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Let torch's own initialisers, which know only the global state, draw from this generator.

    The global random state is put back afterwards. Construction happens on the CPU, so that the same generator gives
    the same weights on every machine.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    # devices=[]: only the CPU's generator is used and restored; torch.manual_seed would seed the GPUs' as well.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield


def check_fit(name: str, *, classes: int, side: int, least: int) -> None:
    """Refuse numbers the network cannot be built for.

    Raises:
        ConfigError: when there are fewer than two classes or the pictures are smaller than `least` pixels a side.
    """
    if classes < 2:
        raise ConfigError(f"{name} was asked for {classes} classes; a classifier needs at least 2")
    if side < least:
        raise ConfigError(
            f"{name} needs pictures of at least {least} x {least} pixels, these are {side} x {side}; "
            "enlarge the pictures or take a network that halves them less often, such as small-cnn"
        )


def kaiming_(net: nn.Module) -> nn.Module:
    """Draw the weights of all convolutions anew, Kaiming normal by fan-out, and set their biases to zero."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net
