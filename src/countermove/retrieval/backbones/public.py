"""Networks with public weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from countermove.errors import ConfigError, WeightsError
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import Training
from countermove.nets.features import last_linear
from countermove.nets.load import load
from countermove.retrieval.backbone import Describer, GeM, digest_of
from countermove.retrieval.backbones.gem import read_gem
from countermove.retrieval.backbones.trunks import Pooled, Vectors, trunk_of
from countermove.retrieval.collection import Collection

PROBE = 64


@dataclass(frozen=True, kw_only=True)
class Public:
    """A network with weights from elsewhere, which are never replaced by random ones. Nothing is downloaded.

    A network with a feature map is pooled as a generalised mean (Radenovic et al. 2018, arXiv:1711.02512); of a
    classifier without one, its penultimate features are taken; of one that embeds (DINOv2, CLIP, SigLIP), what comes
    out.

    weights: torchvision:resnet101, timm:resnet50.a1_in1k, open_clip:ViT-B-32/laion2b_s34b_b79k,
             transformers:facebook/dinov2-small, 'checkpoint:file.safetensors(model=resnet-18, classes=10)', or the path
             of a file that cnnimageretrieval-pytorch publishes (retrievalSfM120k-resnet101-gem-b80fb85.pth), which
             brings its pooling and whitening along.
    sha256:  of the file of weights.
    p:       exponent of the pooling; 1 is the average. A published file has its own.
    side:    all pictures are resized to such squares; 0: as they are, or the only size that the network takes.
    """

    version: ClassVar[int] = 1
    stored: ClassVar[bool] = False
    weights: str
    sha256: str | None = None
    p: float = 3.0
    side: int = 0

    def __post_init__(self) -> None:
        if self.p < 1 or self.side < 0:
            raise ConfigError(f"backbone public: p = {self.p:g} is at least 1, side = {self.side} not below 0")

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return SHA-256 over the weights."""
        return digest_of(self._read().state_dict())

    def blank(self, collection: Collection, *, seed: int) -> Describer:
        """Return the network with its weights."""
        return self._read()

    def fit(
        self, collection: Collection, *, seed: int, device: str = "cpu", checkpoint: Checkpoint | None = None
    ) -> tuple[Describer, Training]:
        """Return the network; there is nothing to train."""
        return self._read(), Training(predicted=torch.zeros(0, dtype=torch.int64))

    def _read(self) -> Describer:
        source = self.weights.partition(":")[0]
        if ":" not in self.weights or len(source) == 1:  # a path, or one that begins with a drive's letter
            if Path(self.weights).suffix not in (".pth", ".pt"):
                raise ConfigError(
                    f"backbone public: weights = {self.weights!r} is neither a source with a name, such as "
                    "torchvision:resnet101, nor the path of a .pth file"
                )
            return read_gem(Path(self.weights).expanduser(), sha256=self.sha256)
        spec = self.weights
        if self.sha256 is not None:
            if "(" in spec:
                raise ConfigError(f"backbone public: put sha256 into the brackets of {spec!r}")
            spec = f"{spec}(sha256={self.sha256})"
        return describer_of(load(spec), source=source, p=self.p, side=self.side)


def describer_of(network: nn.Module, *, source: str, p: float, side: int) -> Describer:
    """Return a classifier or an embedding network as one that describes.

    Raises:
        WeightsError: when it cannot be run on pictures.
    """
    trunk = trunk_of(network)
    if trunk is not None and not side:
        return Pooled(trunk, _width(trunk, PROBE), GeM(p, learned=False)).eval()
    if trunk is not None:
        return Pooled(_Resized(trunk, side), _width(trunk, side), GeM(p, learned=False)).eval()
    side = side or _only_side(network)
    classifies = source in ("torchvision", "timm", "checkpoint") or _names_classes(network)
    width = last_linear(network).in_features if classifies else _width(network, side or 224)
    return Vectors(network, width, penultimate=classifies, side=side).eval()


class _Resized(nn.Module):
    """A trunk that is shown squares of one size."""

    def __init__(self, trunk: nn.Module, side: int) -> None:
        super().__init__()
        self.trunk, self.side = trunk, side

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        size = (self.side, self.side)
        shown = nn.functional.interpolate(pictures, size=size, mode="bilinear", antialias=True, align_corners=False)
        return self.trunk(shown)


@torch.no_grad()
def _width(network: nn.Module, side: int) -> int:
    try:
        return network.eval()(torch.zeros(1, 3, side, side)).shape[1]
    except (RuntimeError, AssertionError, ValueError) as error:
        raise WeightsError(f"the network does not take pictures of {side} x {side} ({error}); set side") from error


def _only_side(network: nn.Module) -> int:
    """Return the side that a network was built for, 0 where it takes any."""
    for module in network.modules():
        config: Any = getattr(module, "config", None)
        sizes = (getattr(module, "image_size", 0), getattr(module, "img_size", 0), getattr(config, "image_size", 0))
        for size in sizes:
            first = size[0] if isinstance(size, (tuple, list)) and size else size
            if isinstance(first, int) and first:
                return first
    return 0


def _names_classes(network: nn.Module) -> bool:
    """Whether one of Hugging Face's models ends in a classifier."""
    return any(type(module).__name__.endswith("ForImageClassification") for module in network.modules())
