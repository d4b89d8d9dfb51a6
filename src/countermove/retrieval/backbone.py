"""What turns a picture into a descriptor: how it is named, trained, stored and used.

Legend: N pictures, D features, C channels of a feature map.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError, did_you_mean
from countermove.game import spelling
from countermove.game.methods import build, load
from countermove.game.spelling import Named
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import Training
from countermove.learning.scoring import place, to_model
from countermove.pixels.steps import frozen
from countermove.retrieval.collection import Collection, Pictures
from countermove.retrieval.indexes.stored import by_shape

TARGET = "target"
"""In a move's list of backbones: the one of the engine that it meets."""

PRESETS = {
    "plain": "small",
    "other": "small(augment=strong, build=1, network=small-cnn)",
    "robust": "small(adversary=4/255, build=2)",
}
"""Small backbones that differ in network, augmentation, draw and robustness, by name: for studies of transfer."""

LEAST = 1e-6
"""Smallest activation that is pooled, and smallest length that a descriptor is divided by."""


class Describer(nn.Module):
    """A network with descriptors of length one: pictures [N, 3, H, W] in [0, 1] to [N, dim].

    exponent: of the generalised mean that joins the descriptors of several scales; 1 is the plain mean.
    whitening: found with the weights, by "ss" (one scale) and "ms" (several); None where there is none.
    """

    exponent: float | Tensor = 1.0
    whitening: Any = None

    @property
    @abstractmethod
    def dim(self) -> int:
        """Return how many features there are."""

    @abstractmethod
    def raw(self, pictures: Tensor) -> Tensor:
        """Return features before they are normalised in length."""

    def forward(self, pictures: Tensor) -> Tensor:
        """Return unit vectors."""
        return F.normalize(self.raw(pictures), eps=LEAST)


class GeM(nn.Module):
    """Generalised-mean pooling, Radenovic et al. 2018, arXiv:1711.02512: [N, C, h, w] to [N, C].

    The p-th root of the mean of the p-th powers; p = 1 is the average and a large p the maximum. Activations below 1e-6
    count as 1e-6.

    p: to begin with; learned unless it is fixed.
    """

    def __init__(self, p: float = 3.0, *, learned: bool = True) -> None:
        """Keep p as a parameter, or as a buffer where it is fixed."""
        super().__init__()
        if learned:
            self.p = nn.Parameter(torch.tensor([p]))
        else:
            self.register_buffer("p", torch.tensor([p]))

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return the pooled features."""
        # in float32 at least: third powers of small activations are lost in half precision
        if feature_map.dtype in (torch.float16, torch.bfloat16):
            feature_map = feature_map.float()
        p = self.p.to(feature_map.dtype)
        return feature_map.clamp(min=LEAST).pow(p).mean((2, 3)).pow(1 / p)


class Backbone(Protocol):
    """How descriptors are made. Backbones are frozen dataclasses, like methods.

    stored: whether its weights are kept in the run folder; not where they are a file of the user's.
    """

    version: ClassVar[int]
    stored: ClassVar[bool]

    def blank(self, collection: Collection, *, seed: int) -> Describer:
        """Return the network whose weights are still to be read; with weights from elsewhere, the whole one."""
        ...

    def fit(
        self, collection: Collection, *, seed: int, device: str, checkpoint: Checkpoint | None
    ) -> tuple[Describer, Training]:
        """Return the network ready for use, with the log of its training (empty where it was not trained)."""
        ...


BACKBONES = {
    "small": "countermove.retrieval.backbones.small:Small",
    "public": "countermove.retrieval.backbones.public:Public",
    "stolen": "countermove.retrieval.backbones.stolen:Stolen",
}


def read_backbone(spelled: str, owner: str) -> tuple[str, Backbone]:
    """Return a backbone's canonical spelling and itself; what is a preset is spelled as that.

    Raises:
        ConfigError: when it is unknown, or has settings that are refused.
    """
    text, method = _read(spelled, owner)
    return next((name for name, preset in PRESETS.items() if _read(preset, name) == (text, method)), text), method


def _read(spelled: str, owner: str) -> tuple[str, Backbone]:
    named, *others = spelling.parse(PRESETS.get(spelled, spelled))
    if others:
        raise ConfigError(f"{owner}: one backbone is needed, not {spelled!r}")
    if named.name not in BACKBONES:
        known = did_you_mean(named.name, [*BACKBONES, *PRESETS])
        raise ConfigError(f"{owner}: no backbone is called {named.name!r}; {known}")
    method = build(load(BACKBONES[named.name]), named.settings, what=f"{owner}: backbone {named.name!r}")
    spoken = {f.name: getattr(method, f.name) for f in fields(method) if getattr(method, f.name) != f.default}
    return spelling.spell([Named(named.name, spoken)]), method


def stolen(spelled: str) -> bool:
    """Return whether a backbone is made from the lists that an engine returns."""
    return hasattr(read_backbone(spelled, "backbone")[1], "steal") if spelled and spelled != TARGET else False


def identity(spelled: str, *, rehash: bool = False) -> dict[str, Any]:
    """Return what of a backbone enters a key: every setting, its version, the content of its weights' file."""
    spelled, method = read_backbone(spelled, "backbone")
    fingerprint = getattr(method, "fingerprint", None)
    content = {"content": fingerprint(rehash=rehash)} if callable(fingerprint) else {}
    return {"spelling": spelled, "settings": asdict(method), "version": method.version, **content}  # pyright: ignore


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return SHA-256 over names, shapes and values, names in order."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        found.update(f"{name} {plain.dtype} {list(plain.shape)}".encode())
        found.update(plain.numpy().tobytes())
    return found.hexdigest()


@torch.no_grad()
def describe(
    network: nn.Module, pictures: Pictures | Sequence[Tensor], *, device: str = "cpu", at_once: int = 32
) -> Tensor:
    """Return the descriptors of 8-bit pictures [3, H, W], float [N, D] on the CPU; those of one shape go together.

    Raises:
        DataError: when there are none, or one is no such picture.
    """
    with frozen(place(network, device)):
        return by_shape(pictures, lambda alike: network(to_model(alike, device)).float().cpu(), at_once=at_once)
