"""Data sets that other methods name in a setting: reading the spelling, the pictures, the identity. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import TYPE_CHECKING

from countermove.errors import ConfigError
from countermove.game.methods import Composition

if TYPE_CHECKING:
    from countermove.unlearnable.dataset import DataSet

MODIFIERS = ("moved", "extra-class")
"""What is joined to a data set by a plus, and is none itself."""


def read_source(spelled: str, *, owner: str) -> Composition:
    """Build the one data set that a setting spells; nothing is read.

    Raises:
        ConfigError: when it spells none, or more than a whole data set.
    """
    from countermove.unlearnable.methods import METHODS  # which lists this folder

    source = METHODS.compose("data", spelled)
    if len(source.parts) != 1 or source.parts[0].name in MODIFIERS:
        raise ConfigError(f"{owner}: source = {spelled!r} is refused: name one whole data set, such as cifar10-mini")
    return source


def load_source(source: Composition) -> DataSet:
    """Read a data set; one that was read lately is read again only when its files changed."""
    return _load(source.spelling, digest_of(source))


@lru_cache(maxsize=2)
def _load(spelled: str, _digest: str) -> DataSet:
    return read_source(spelled, owner="data").method()


def digest_of(*methods: Composition, rehash: bool = False) -> str:
    """Return SHA-256 over all that methods are: settings, versions, and the content of files that they read."""
    words = json.dumps([method.identity(rehash=rehash) for method in methods], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()
