"""The usual convolutional networks, with a stem for 32 x 32 pictures; blocks and initialisation are torchvision's.

Pictures of 64 x 64 and more get the original stem for ImageNet. None has dropout, so that training draws no random
numbers of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torchvision import models
from torchvision.models import vgg

from countermove.errors import ConfigError
from countermove.nets.parts import IMAGENET_STEM_FROM, check_fit, kaiming_, normalized, seeded


@dataclass(frozen=True, kw_only=True)
class ResNet18:
    """Residual network of 18 layers, He et al. 2015, arXiv:1512.03385.

    11.2 million parameters. Below 64 pixels a side (at least 8) the stem is a 3 x 3 convolution of stride 1 without
    pooling, as in the released code of most poisoning papers; from 64 on it is the paper's 7 x 7 with pooling.
    """

    version: ClassVar[int] = 1

    def __call__(self, classes: int, side: int, generator: torch.Generator) -> nn.Module:
        """Build the network. Pictures [N, 3, side, side] in [0, 1] give logits [N, classes].

        Raises:
            ConfigError: when classes or side do not fit.
        """
        return _resnet("resnet-18", models.resnet18, classes, side, generator)


@dataclass(frozen=True, kw_only=True)
class ResNet34:
    """Residual network of 34 layers, He et al. 2015, arXiv:1512.03385.

    21.3 million parameters. Stem as in ResNet-18.
    """

    version: ClassVar[int] = 1

    def __call__(self, classes: int, side: int, generator: torch.Generator) -> nn.Module:
        """Build the network. Pictures [N, 3, side, side] in [0, 1] give logits [N, classes].

        Raises:
            ConfigError: when classes or side do not fit.
        """
        return _resnet("resnet-34", models.resnet34, classes, side, generator)


@dataclass(frozen=True, kw_only=True)
class ResNet50:
    """Residual network of 50 layers with bottleneck blocks, He et al. 2015, arXiv:1512.03385.

    23.5 million parameters. Stem as in ResNet-18. Differs from the paper, as torchvision does: a block strides in its
    3 x 3 convolution, not in its first 1 x 1.
    """

    version: ClassVar[int] = 1

    def __call__(self, classes: int, side: int, generator: torch.Generator) -> nn.Module:
        """Build the network. Pictures [N, 3, side, side] in [0, 1] give logits [N, classes].

        Raises:
            ConfigError: when classes or side do not fit.
        """
        return _resnet("resnet-50", models.resnet50, classes, side, generator)


@dataclass(frozen=True, kw_only=True)
class Vgg11:
    """Plain network of 11 layers with batch normalisation, Simonyan et al. 2014, arXiv:1409.1556.

    9.2 million parameters; at least 32 pixels a side. Differs from the paper at every side, as is usual for CIFAR:
    batch normalisation, global average pooling, and one linear layer in place of three with dropout.
    """

    version: ClassVar[int] = 1

    def __call__(self, classes: int, side: int, generator: torch.Generator) -> nn.Module:
        """Build the network. Pictures [N, 3, side, side] in [0, 1] give logits [N, classes].

        Raises:
            ConfigError: when classes or side do not fit.
        """
        return _vgg("vgg-11", "A", classes, side, generator)


@dataclass(frozen=True, kw_only=True)
class Vgg19:
    """Plain network of 19 layers with batch normalisation, Simonyan et al. 2014, arXiv:1409.1556.

    20.0 million parameters; at least 32 pixels a side. Differs from the paper as VGG-11 does.
    """

    version: ClassVar[int] = 1

    def __call__(self, classes: int, side: int, generator: torch.Generator) -> nn.Module:
        """Build the network. Pictures [N, 3, side, side] in [0, 1] give logits [N, classes].

        Raises:
            ConfigError: when classes or side do not fit.
        """
        return _vgg("vgg-19", "E", classes, side, generator)


@dataclass(frozen=True, kw_only=True)
class DenseNet121:
    """Densely connected network of 121 layers, Huang et al. 2016, arXiv:1608.06993.

    7.0 million parameters with the growth of 32 that the name stands for; the paper's own CIFAR networks are others,
    with a growth of 12. Below 64 pixels a side (at least 8) the stem is a 3 x 3 convolution of stride 1 without
    pooling.

    growth: channels every layer adds.
    """

    version: ClassVar[int] = 1
    growth: int = 32

    def __call__(self, classes: int, side: int, generator: torch.Generator) -> nn.Module:
        """Build the network. Pictures [N, 3, side, side] in [0, 1] give logits [N, classes].

        Raises:
            ConfigError: when the growth is not positive, or classes or side do not fit.
        """
        check_fit("densenet-121", classes=classes, side=side, least=8)
        if self.growth < 1:
            raise ConfigError(f"growth={self.growth} is the channels a layer adds; take a positive number such as 32")
        width = 2 * self.growth
        with seeded(generator):
            net = models.DenseNet(self.growth, (6, 12, 24, 16), num_init_features=width, num_classes=classes)
            if side < IMAGENET_STEM_FROM:
                net.features.conv0 = kaiming_(nn.Conv2d(3, width, 3, padding=1, bias=False))
                net.features.pool0 = nn.Identity()
            return normalized(net)


@dataclass(frozen=True, kw_only=True)
class MobileNetV2:
    """Inverted residuals with linear bottlenecks, Sandler et al. 2018, arXiv:1801.04381.

    2.2 million parameters. Below 64 pixels a side (at least 8) the first two strides of 2 are 1. Differs from the
    paper: no dropout before the linear layer.
    """

    version: ClassVar[int] = 1

    def __call__(self, classes: int, side: int, generator: torch.Generator) -> nn.Module:
        """Build the network. Pictures [N, 3, side, side] in [0, 1] give logits [N, classes].

        Raises:
            ConfigError: when classes or side do not fit.
        """
        check_fit("mobilenet-v2", classes=classes, side=side, least=8)
        stride = 1 if side < IMAGENET_STEM_FROM else 2
        # Rows of the paper's table 2: expansion, channels, blocks, stride of the first block.
        stages = [
            [1, 16, 1, 1],
            [6, 24, 2, stride],
            [6, 32, 3, 2],
            [6, 64, 4, 2],
            [6, 96, 3, 1],
            [6, 160, 3, 2],
            [6, 320, 1, 1],
        ]
        with seeded(generator):
            net = models.MobileNetV2(num_classes=classes, inverted_residual_setting=stages, dropout=0.0)
            stem = net.get_submodule("features.0.0")
            if not isinstance(stem, nn.Conv2d):
                raise TypeError(f"torchvision's MobileNetV2 no longer begins with a convolution but with {stem}")
            stem.stride = (stride, stride)
            return normalized(net)


def _resnet(
    name: str, build: Callable[..., models.ResNet], classes: int, side: int, generator: torch.Generator
) -> nn.Module:
    check_fit(name, classes=classes, side=side, least=8)
    with seeded(generator):
        net = build(num_classes=classes)
        if side < IMAGENET_STEM_FROM:
            net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            kaiming_(net.conv1)
            net.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        return normalized(net)


def _vgg(name: str, layers: str, classes: int, side: int, generator: torch.Generator) -> nn.Module:
    check_fit(name, classes=classes, side=side, least=32)
    with seeded(generator):
        features = kaiming_(vgg.make_layers(vgg.cfgs[layers], batch_norm=True))
        return normalized(nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes)))
