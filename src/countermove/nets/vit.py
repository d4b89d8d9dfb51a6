"""A small vision transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torchvision import models

from countermove.errors import ConfigError
from countermove.nets.parts import IMAGENET_STEM_FROM, check_fit, normalized, seeded


@dataclass(frozen=True, kw_only=True)
class VitSmall:
    """Vision transformer of 6 layers for small pictures, Dosovitskiy et al. 2020, arXiv:2010.11929.

    2.7 million parameters at 32 x 32: 192 channels, 3 heads, hidden layers of 768, a class token, learned positions.
    No dropout. The encoder is torchvision's. Differs from the paper: smaller than its smallest, and the last layer
    begins with small random numbers, not zeros, so that an untrained network has gradients.

    patch: side of a patch in pixels; must divide the picture's side. 0 means 4 below 64 pixels a side, else 16.
    """

    version: ClassVar[int] = 1
    patch: int = 0

    def __call__(self, classes: int, side: int, generator: torch.Generator) -> nn.Module:
        """Build the network. Pictures [N, 3, side, side] in [0, 1] give logits [N, classes].

        Raises:
            ConfigError: when the patch does not divide the side, or classes do not fit.
        """
        patch = self.patch or (4 if side < IMAGENET_STEM_FROM else 16)
        if patch < 1:
            raise ConfigError(f"patch={patch} is the side of a patch in pixels; take a positive number such as 4")
        check_fit("vit-small", classes=classes, side=side, least=patch)
        if side % patch:
            raise ConfigError(
                f"vit-small cuts pictures into patches of {patch} x {patch} pixels, which does not divide {side}; "
                f"resize the pictures to a side of {side - side % patch}, or set patch to a divisor of {side}"
            )
        with seeded(generator):
            net = models.VisionTransformer(
                image_size=side,
                patch_size=patch,
                num_layers=6,
                num_heads=3,
                hidden_dim=192,
                mlp_dim=768,
                num_classes=classes,
            )
            nn.init.trunc_normal_(net.get_parameter("heads.head.weight"), std=0.02)
            return normalized(net)
