"""IR, the network of the public AdaFace weights. Names and shapes are those of AdaFace's code, after TFace's IR."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from countermove.errors import ConfigError, did_you_mean
from countermove.faces.extractors.iresnet import BLOCKS

DEPTHS: dict[str, tuple[int, int, int, int]] = {
    "ir-18": BLOCKS["iresnet-18"],
    "ir-34": BLOCKS["iresnet-34"],
    "ir-50": BLOCKS["iresnet-50"],
    "ir-101": BLOCKS["iresnet-100"],
}
"""Blocks in each of the four stages."""


class IR(nn.Module):
    """Residual network with pre-activated blocks and PReLU, Kim et al. 2022, arXiv:2204.00964 (AdaFace).

    As `IResNet`, but for its names, the first block, whose shortcut skips pixels instead of convolving, and the last
    normalisation, which has no scale and shift. 24.0, 34.1, 43.6 and 65.2 million parameters.

    depth: ir-18, -34, -50 or -101.
    width: numbers in an embedding.

    Differs from the released code: no dropout, which is inactive where the weights are only used; the embedding is
    returned as it is, not as a direction and a length.
    """

    def __init__(self, depth: str = "ir-101", *, width: int = 512) -> None:
        """Build the layers.

        Raises:
            ConfigError: when there is no such depth.
        """
        super().__init__()
        if depth not in DEPTHS:
            raise ConfigError(f"there is no {depth!r}; {did_you_mean(depth, DEPTHS)}")
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        self.body = nn.Sequential(
            *(
                _Block(before if first else after, after, stride=2 if first else 1)
                for (before, after), blocks in zip(pairwise((64, 64, 128, 256, 512)), DEPTHS[depth], strict=True)
                for first in (True, *[False] * (blocks - 1))
            )
        )
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Identity(),  # where the released code has its dropout: the layers after it are counted on
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, width),
            nn.BatchNorm1d(width, affine=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Embed normalised pictures [N, 3, 112, 112] as [N, width], of any length."""
        return self.output_layer(self.body(self.input_layer(x)))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        if before == after:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.PReLU(after),
            nn.Conv2d(after, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)
