"""Our own networks for a machine without a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.nets.parts import check_fit, normalized, seeded


@dataclass(frozen=True, kw_only=True)
class SmallCnn:
    """Four convolutions after a stride-2 stem, for two CPU cores.

    Channels 32, 64, 96, 128; batch normalisation and ReLU after each convolution; max pooling after the second and
    the third; global average pooling; one linear layer; torch's own initialisation (Kaiming uniform, which learned
    faster here than Kaiming normal by fan-out). No dropout. Any side of at least 8 pixels.

    width: factor on all channels.
    """

    version: ClassVar[int] = 1
    width: float = 1.0

    def __call__(self, classes: int, side: int, generator: torch.Generator) -> nn.Module:
        """Build the network. Pictures [N, 3, side, side] in [0, 1] give logits [N, classes].

        Raises:
            ConfigError: when the width is not positive, or classes or side do not fit.
        """
        check_fit("small-cnn", classes=classes, side=side, least=8)
        a, b, c, d = _channels((32, 64, 96, 128), self.width)
        with seeded(generator):
            net = nn.Sequential(
                _conv(3, a, stride=2),
                _conv(a, b),
                nn.MaxPool2d(2),
                _conv(b, c),
                nn.MaxPool2d(2),
                _conv(c, d),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(d, classes),
            )
            return normalized(net)


@dataclass(frozen=True, kw_only=True)
class SmallResidual:
    """Four convolutions after a stride-2 stem and a residual block between them, for two CPU cores.

    Channels 24, 48, 96, 128; the block adds two convolutions of 96 channels; batch normalisation and ReLU after each
    convolution; max pooling between the stages; global average pooling; one linear layer; initialisation as in
    small-cnn. No dropout. Any side of at least 16 pixels.

    width: factor on all channels.
    """

    version: ClassVar[int] = 1
    width: float = 1.0

    def __call__(self, classes: int, side: int, generator: torch.Generator) -> nn.Module:
        """Build the network. Pictures [N, 3, side, side] in [0, 1] give logits [N, classes].

        Raises:
            ConfigError: when the width is not positive, or classes or side do not fit.
        """
        check_fit("small-residual", classes=classes, side=side, least=16)
        a, b, c, d = _channels((24, 48, 96, 128), self.width)
        with seeded(generator):
            net = nn.Sequential(
                _conv(3, a, stride=2),
                _conv(a, b),
                nn.MaxPool2d(2),
                _conv(b, c),
                _Residual(c),
                nn.MaxPool2d(2),
                _conv(c, d),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(d, classes),
            )
            return normalized(net)


class _Residual(nn.Module):
    """x + f(x), where f is two convolutions that keep the shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(channels, channels), _conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _conv(channels: int, out: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def _channels(channels: tuple[int, ...], width: float) -> list[int]:
    if not 0 < width < 100:
        raise ConfigError(f"width={width} scales the channels of the network; take a number above 0, such as 0.5 or 2")
    return [max(1, round(width * n)) for n in channels]
