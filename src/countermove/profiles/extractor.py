"""What turns an item into features: how it is named, trained and stored.

Legend: N items, D features.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict, fields
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError, did_you_mean
from countermove.game import spelling
from countermove.game.methods import build, load
from countermove.game.spelling import Named
from countermove.learning.scoring import place
from countermove.pixels.steps import frozen
from countermove.profiles.dataset import Medium, Profiles, as_float

AT_ONCE = 256


class ItemNetwork(nn.Module):
    """A network from items to features, differentiable: [N, 3, S, S], [N, T] or [N, D'] to [N, dim]."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Return how many features there are."""


class Extractor(Protocol):
    """How items' features are made. Extractors are frozen dataclasses, like methods.

    media:   what it can read.
    stored:  whether its weights are kept in the run folder; not where there are none, or they are a file of the user's.
    learned: whether it is trained within the profiler, on the profiles' own labels, instead of beforehand.
    """

    version: ClassVar[int]
    media: ClassVar[tuple[Medium, ...]]
    stored: ClassVar[bool]
    learned: ClassVar[bool]

    def blank(self, data: Profiles, *, seed: int) -> ItemNetwork:
        """Return the network whose weights are still to be read; with weights from elsewhere, the whole one.

        Raises:
            ConfigError: when it cannot read these items.
        """
        ...

    def fit(self, data: Profiles, *, seed: int, device: str) -> tuple[ItemNetwork, int]:
        """Return the network ready for use, in evaluation mode, and the samples its training took.

        Raises:
            DataError: when there are no public items to learn from, where it needs them.
        """
        ...


EXTRACTORS = {
    "small": "countermove.profiles.extractors.small:Small",
    "learned": "countermove.profiles.extractors.learned:Learned",
    "public": "countermove.profiles.extractors.public:Public",
    "log-mel": "countermove.profiles.extractors.log_mel:LogMel",
    "x-vector": "countermove.profiles.extractors.x_vector:XVector",
    "speech": "countermove.profiles.extractors.speech:Speech",
    "table": "countermove.profiles.extractors.table:Table",
}


def read_extractor(spelled: str, owner: str) -> tuple[str, Extractor]:
    """Return an extractor's canonical spelling and itself.

    Raises:
        ConfigError: when it is unknown, or has settings that are refused.
    """
    named, *others = spelling.parse(spelled)
    if others:
        raise ConfigError(f"{owner}: one extractor is needed, not {spelled!r}")
    if named.name not in EXTRACTORS:
        raise ConfigError(f"{owner}: no extractor is called {named.name!r}; {did_you_mean(named.name, EXTRACTORS)}")
    method = build(load(EXTRACTORS[named.name]), named.settings, what=f"{owner}: extractor {named.name!r}")
    spoken = {f.name: getattr(method, f.name) for f in fields(method) if getattr(method, f.name) != f.default}
    return spelling.spell([Named(named.name, spoken)]), method


def identity(spelled: str, *, rehash: bool = False) -> dict[str, Any]:
    """Return what of an extractor enters a key: every setting, its version, the content of its weights' file."""
    spelled, method = read_extractor(spelled, "extractor")
    fingerprint = getattr(method, "fingerprint", None)
    content = {"content": fingerprint(rehash=rehash)} if callable(fingerprint) else {}
    return {"spelling": spelled, "settings": asdict(method), "version": method.version, **content}  # pyright: ignore


def check_medium(extractor: Extractor, data: Profiles, name: str) -> None:
    """Refuse items that an extractor cannot read.

    Raises:
        ConfigError: when it is made for another medium.
    """
    if data.medium not in extractor.media:
        raise ConfigError(f"extractor {name!r} reads {' or '.join(extractor.media)}; {data.name} holds {data.medium}")


@torch.no_grad()
def extract(network: ItemNetwork, items: Tensor, medium: Medium, *, device: str = "cpu") -> Tensor:
    """Return the features [N, D] of stored items on the CPU."""
    with frozen(place(network, device)):
        parts = [network(as_float(part, medium).to(device)).float().cpu() for part in items.split(AT_ONCE)]
    return torch.cat(parts) if parts else torch.zeros(0, network.dim)
