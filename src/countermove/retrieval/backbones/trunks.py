"""From a classifier to a network that describes: its feature map is pooled, or its penultimate features are taken."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from countermove.nets.features import logits_and_features
from countermove.retrieval.backbone import Describer, GeM


class Pooled(Describer):
    """A feature map, pooled as a generalised mean.

    trunk:     from pictures in [0, 1] to a feature map [N, C, h, w]; it normalises by itself.
    projected: a linear layer behind the pooled and normalised features, as the newer public networks have it.
    """

    def __init__(self, trunk: nn.Module, dim: int, pool: GeM, projected: nn.Linear | None = None) -> None:
        """Put the pooling behind the trunk."""
        super().__init__()
        self.trunk, self.pool, self.projected = trunk, pool, projected
        self._dim = dim if projected is None else projected.out_features

    @property
    def dim(self) -> int:
        """Return how many features there are."""
        return self._dim

    @property
    def exponent(self) -> Tensor | float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return p: descriptors of several scales are joined as positions are. Projected ones may be negative: 1."""
        return self.pool.p.detach() if self.projected is None else 1.0

    def raw(self, pictures: Tensor) -> Tensor:
        """Return the pooled features."""
        pooled = self.pool(self.trunk(pictures))
        return pooled if self.projected is None else self.projected(F.normalize(pooled, eps=1e-6))


class Vectors(Describer):
    """A network without a feature map.

    network:     normalises by itself.
    dim:         features.
    penultimate: take what enters its last linear layer instead of what comes out.
    side:        the only side of pictures that it takes; all are resized to it. 0: it takes any.
    """

    def __init__(self, network: nn.Module, dim: int, *, penultimate: bool, side: int = 0) -> None:
        """Keep the network."""
        super().__init__()
        self.network, self._dim, self.penultimate, self.side = network, dim, penultimate, side

    @property
    def dim(self) -> int:
        """Return how many features there are."""
        return self._dim

    def raw(self, pictures: Tensor) -> Tensor:
        """Return the features."""
        if self.side and tuple(pictures.shape[2:]) != (self.side, self.side):
            size = (self.side, self.side)
            pictures = F.interpolate(pictures, size=size, mode="bilinear", antialias=True, align_corners=False)
        return logits_and_features(self.network, pictures)[1] if self.penultimate else self.network(pictures)


def trunk_of(network: nn.Module) -> nn.Module | None:
    """Return a classifier up to its feature map [N, C, h, w]; None where it has none.

    Known are our own networks, torchvision's with `features`, ResNets and RegNets, and timm's.
    """
    if isinstance(network, nn.Sequential):
        parts = list(network.named_children())
        if [name for name, _ in parts] == ["normalize", "net"]:
            inner = trunk_of(parts[1][1])
            return None if inner is None else nn.Sequential(parts[0][1], inner)
        cut = next((i for i, (_, part) in enumerate(parts) if isinstance(part, nn.AdaptiveAvgPool2d)), None)
        return None if not cut else nn.Sequential(*(part for _, part in parts[:cut]))
    if hasattr(network, "forward_features") and getattr(network, "num_features", 0):
        return _TimmMap(network) if _is_timm_map(network) else None
    if isinstance(network, (models.ResNet, models.RegNet)):
        children = dict(network.named_children())
        return nn.Sequential(*(child for name, child in children.items() if name not in ("avgpool", "fc")))
    features = getattr(network, "features", None)
    return features if isinstance(features, nn.Module) else None


class _TimmMap(nn.Module):
    """The feature map of one of timm's networks."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        return self.network.forward_features(pictures)  # pyright: ignore[reportCallIssue]


def _is_timm_map(network: Any) -> bool:
    """Whether the features are positions of a grid with channels first, not tokens."""
    stages = getattr(network, "feature_info", None)
    return bool(stages) and not hasattr(network, "patch_embed")
