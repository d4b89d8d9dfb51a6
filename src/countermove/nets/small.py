"""Our own networks for a machine without a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.nets.parts import check_fit, normalized, seeded

GRID = 4


@dataclass(frozen=True, kw_only=True)
class SmallCnn:
    """Four convolutions, the first with stride 2, for two CPU cores.

    Channels 32, 64, 96, 128; batch normalisation and ReLU after each convolution; max pooling after the second and
    the third; average pooling to a grid of 4 x 4 (with a single average a network this shallow cannot tell where in
    the picture something is, so it learned less of pictures and of patchwork noise alike); one linear layer; torch's
    own initialisation (Kaiming uniform, which learned faster here than Kaiming normal by fan-out). No dropout. Any
    side of at least 8 pixels.

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
        with seeded(generator):
            features, channels = _trunk(self.width)
            return normalized(nn.Sequential(*features, *_head(channels, classes)))


@dataclass(frozen=True, kw_only=True)
class SmallPooled:
    """Four convolutions, the first with stride 2, and a single average, for two CPU cores.

    As small-cnn, but what is found is averaged over the whole picture, so the network is blind to where it was. As a
    surrogate it leaves noise of higher frequency, which depends less on the place. Any side of at least 8 pixels.

    width: factor on all channels.
    """

    version: ClassVar[int] = 1
    width: float = 1.0

    def __call__(self, classes: int, side: int, generator: torch.Generator) -> nn.Module:
        """Build the network. Pictures [N, 3, side, side] in [0, 1] give logits [N, classes].

        Raises:
            ConfigError: when the width is not positive, or classes or side do not fit.
        """
        check_fit("small-pooled", classes=classes, side=side, least=8)
        with seeded(generator):
            features, channels = _trunk(self.width)
            return normalized(nn.Sequential(*features, *_head(channels, classes, grid=1)))


@dataclass(frozen=True, kw_only=True)
class SmallResidual:
    """Four convolutions, the first with stride 2, and a residual block, for two CPU cores.

    As small-cnn, with a residual block of two convolutions of 128 channels before the pooling to 4 x 4. Any side of at
    least 8 pixels.

    width: factor on all channels.
    """

    version: ClassVar[int] = 1
    width: float = 1.0

    def __call__(self, classes: int, side: int, generator: torch.Generator) -> nn.Module:
        """Build the network. Pictures [N, 3, side, side] in [0, 1] give logits [N, classes].

        Raises:
            ConfigError: when the width is not positive, or classes or side do not fit.
        """
        check_fit("small-residual", classes=classes, side=side, least=8)
        with seeded(generator):
            features, channels = _trunk(self.width)
            return normalized(nn.Sequential(*features, _Residual(channels), *_head(channels, classes)))


class _Residual(nn.Module):
    """relu(x + f(x)), where f is two convolutions that keep the shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.body = nn.Sequential(_conv(channels, channels), second, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


def _trunk(width: float) -> tuple[list[nn.Module], int]:
    """Return the convolutions from pictures to an eighth of their side, and how many channels come out."""
    a, b, c, d = _channels((32, 64, 96, 128), width)
    return [_conv(3, a, stride=2), _conv(a, b), nn.MaxPool2d(2), _conv(b, c), nn.MaxPool2d(2), _conv(c, d)], d


def _head(channels: int, classes: int, grid: int = GRID) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(grid), nn.Flatten(), nn.Linear(channels * grid**2, classes)]


def _conv(channels: int, out: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def _channels(channels: tuple[int, ...], width: float) -> list[int]:
    if not 0 < width < 100:
        raise ConfigError(f"width={width} scales the channels of the network; take a number above 0, such as 0.5 or 2")
    return [max(1, round(width * n)) for n in channels]
