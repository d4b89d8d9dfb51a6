"""Inception-ResNet-v1, the network of FaceNet's public weights. Names and shapes are those of facenet-pytorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-3
"""Of every batch normalisation, as in the TensorFlow weights that the public ones were ported from."""


class InceptionResnetV1(nn.Module):
    """Inception-ResNet-v1 with an embedding of 512, Szegedy et al. 2016, arXiv:1602.07261; Sandberg's FaceNet weights.

    23.5 million parameters. The public files hold the linear layer `logits` of the people it was trained on as well;
    it is no part of the embedding and is left out here.

    Differs from facenet-pytorch: no dropout, which is inactive where the weights are only used; the embedding is not
    yet of unit length.
    """

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.conv2d_1a = _Conv(3, 32, 3, stride=2)
        self.conv2d_2a = _Conv(32, 32, 3)
        self.conv2d_2b = _Conv(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, stride=2)
        self.conv2d_3b = _Conv(64, 80, 1)
        self.conv2d_4a = _Conv(80, 192, 3)
        self.conv2d_4b = _Conv(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _Reduction(
            _Conv(256, 384, 3, stride=2),
            nn.Sequential(_Conv(256, 192, 1), _Conv(192, 192, 3, padding=1), _Conv(192, 256, 3, stride=2)),
            nn.MaxPool2d(3, stride=2),
        )
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = _Reduction(
            nn.Sequential(_Conv(896, 256, 1), _Conv(256, 384, 3, stride=2)),
            nn.Sequential(_Conv(896, 256, 1), _Conv(256, 256, 3, stride=2)),
            nn.Sequential(_Conv(896, 256, 1), _Conv(256, 256, 3, padding=1), _Conv(256, 256, 3, stride=2)),
            nn.MaxPool2d(3, stride=2),
        )
        self.repeat_3 = nn.Sequential(*(_block8(scale=0.2) for _ in range(5)))
        self.block8 = _block8(scale=1.0, last=True)
        self.avgpool_1a = nn.AdaptiveAvgPool2d(1)
        self.last_linear = nn.Linear(1792, 512, bias=False)
        self.last_bn = nn.BatchNorm1d(512, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Embed normalised pictures [N, 3, 160, 160] as [N, 512], of any length."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_3b(self.maxpool_3a(x))
        x = self.conv2d_4b(self.conv2d_4a(x))
        x = self.mixed_6a(self.repeat_1(x))
        x = self.mixed_7a(self.repeat_2(x))
        x = self.block8(self.repeat_3(x))
        return self.last_bn(self.last_linear(self.avgpool_1a(x).flatten(1)))


class _Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class _Branches(nn.Module):
    """Branches side by side, under the names branch0, branch1 and so on; their channels are put together."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.places = tuple(f"branch{i}" for i in range(len(branches)))
        for place, branch in zip(self.places, branches, strict=True):
            self.add_module(place, branch)

    def joined(self, x: Tensor) -> Tensor:
        return torch.cat([self.get_submodule(place)(x) for place in self.places], dim=1)


class _Reduction(_Branches):
    def forward(self, x: Tensor) -> Tensor:
        return self.joined(x)


class _Residual(_Branches):
    """x + scale * (the branches, brought back to x's channels), then ReLU unless it is the last block."""

    def __init__(self, *branches: nn.Module, width: int, channels: int, scale: float, last: bool = False) -> None:
        super().__init__(*branches)
        self.conv2d = nn.Conv2d(width, channels, 1)
        self.scale = scale
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale * self.conv2d(self.joined(x))
        return x if self.last else torch.relu(x)


def _block35() -> _Residual:
    return _Residual(
        _Conv(256, 32, 1),
        nn.Sequential(_Conv(256, 32, 1), _Conv(32, 32, 3, padding=1)),
        nn.Sequential(_Conv(256, 32, 1), _Conv(32, 32, 3, padding=1), _Conv(32, 32, 3, padding=1)),
        width=96,
        channels=256,
        scale=0.17,
    )


def _block17() -> _Residual:
    return _Residual(
        _Conv(896, 128, 1),
        nn.Sequential(
            _Conv(896, 128, 1), _Conv(128, 128, (1, 7), padding=(0, 3)), _Conv(128, 128, (7, 1), padding=(3, 0))
        ),
        width=256,
        channels=896,
        scale=0.1,
    )


def _block8(*, scale: float, last: bool = False) -> _Residual:
    return _Residual(
        _Conv(1792, 192, 1),
        nn.Sequential(
            _Conv(1792, 192, 1), _Conv(192, 192, (1, 3), padding=(0, 1)), _Conv(192, 192, (3, 1), padding=(1, 0))
        ),
        width=384,
        channels=1792,
        scale=scale,
        last=last,
    )
