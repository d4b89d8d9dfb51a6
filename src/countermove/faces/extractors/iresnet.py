"""IResNet, the network of the public ArcFace, CosFace and MagFace weights. Names and shapes are insightface's."""

from __future__ import annotations

from torch import Tensor, nn

from countermove.errors import ConfigError, did_you_mean

BLOCKS: dict[str, tuple[int, int, int, int]] = {
    "iresnet-18": (2, 2, 2, 2),
    "iresnet-34": (3, 4, 6, 3),
    "iresnet-50": (3, 4, 14, 3),
    "iresnet-100": (3, 13, 30, 3),
}
"""Blocks in each of the four stages."""


class IResNet(nn.Module):
    """Residual network with pre-activated blocks and PReLU, Deng et al. 2018, arXiv:1801.07698 (ArcFace).

    24.0, 34.1, 43.6 and 65.2 million parameters, of which 12.8 are the linear layer at the end.

    depth: iresnet-18, -34, -50 or -100.
    width: numbers in an embedding.
    eps:   of every batch normalisation: 1e-5 in insightface's arcface_torch, 2e-5 in MagFace's code.

    Differs from the released code: no dropout, which is inactive where the weights are only used; no dilation.
    """

    def __init__(self, depth: str = "iresnet-50", *, width: int = 512, eps: float = 1e-5) -> None:
        """Build the layers.

        Raises:
            ConfigError: when there is no such depth.
        """
        super().__init__()
        if depth not in BLOCKS:
            raise ConfigError(f"there is no {depth!r}; {did_you_mean(depth, BLOCKS)}")
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64, eps=eps)
        self.prelu = nn.PReLU(64)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(
                _Block(before, after, stride=2, eps=eps), *(_Block(after, after, eps=eps) for _ in range(blocks - 1))
            )
            for before, after, blocks in zip((64, 64, 128, 256), (64, 128, 256, 512), BLOCKS[depth], strict=True)
        )
        self.bn2 = nn.BatchNorm2d(512, eps=eps)
        self.fc = nn.Linear(512 * 7 * 7, width)
        self.features = nn.BatchNorm1d(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Embed normalised pictures [N, 3, 112, 112] as [N, width], of any length."""
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(self.bn2(x).flatten(1)))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, *, stride: int = 1, eps: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before, eps=eps)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after, eps=eps)
        self.prelu = nn.PReLU(after)
        self.conv2 = nn.Conv2d(after, after, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(after, eps=eps)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after, eps=eps)
            )

    def forward(self, x: Tensor) -> Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        x = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(x)) + kept
