"""What a poison is given and what it gives back.

A poison is a frozen, keyword-only dataclass, called with the pictures that its owner may change::

    __call__(batch: Batch, *, context: Context) -> Batch

It returns moved pictures with the same ids and labels. Class variables say what it is:

    version:  raised when its output changes.
    norm:     "linf", "l2", "l0", or None where no radius describes the change.
    streams:  whether it can be given the pictures in portions, in any order, with the same result. A poison that
              needs a network must see all pictures at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.game.methods import build
from countermove.game.spelling import parse
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import place
from countermove.learning.recipe import Recipe
from countermove.nets.registry import find
from countermove.pixels.balls import Ball, Norm
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator


@dataclass
class Meter:
    """What a poison tells about its own making: samples passed, and facts for the manifest."""

    samples: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything a poison may use besides the pictures.

    seed:      the cell's seed.
    device:    where networks run.
    folder:    where checkpoints of long work may be kept; None: nowhere.
    surrogate: gives the trained network that a poison named by its `surrogate_recipe`; None where it asked for none.
    meter:     what the poison counts.
    """

    seed: int
    device: str = "cpu"
    folder: Path | None = None
    surrogate: Callable[[], nn.Module] | None = None
    meter: Meter = field(default_factory=Meter)

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Return the generator of one purpose."""
        return generator(self.seed, *purpose)

    def fresh_network(self, spelled: str, batch: Batch) -> nn.Module:
        """Build an untrained network for the pictures of a batch, from the context's seed."""
        network = build_network(spelled, len(batch.classes), batch.pictures.shape[-1], self.generator("surrogate"))
        return place(network, self.device)

    def trained_surrogate(self) -> nn.Module:
        """Return the trained surrogate that the poison asked for."""
        if self.surrogate is None:
            raise ConfigError("this poison needs a trained surrogate: name --data and --model, or play it in an audit")
        return place(self.surrogate(), self.device)

    def checkpoint(self, name: str) -> Checkpoint | None:
        """Return a checkpoint file of this work, None when none can be kept."""
        return None if self.folder is None else Checkpoint(self.folder / f"{name}.safetensors")


class Poison(Protocol):
    """A move of this arena."""

    version: ClassVar[int]
    norm: ClassVar[Norm | None]
    streams: ClassVar[bool]

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return the moved pictures."""
        ...


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """A network that is trained on the clean pictures once and shared by every poison that names it."""

    model: str
    recipe: Recipe


def build_network(spelled: str, classes: int, side: int, source: torch.Generator) -> nn.Module:
    """Build a registered network from its spelling, such as small-cnn(width=2)."""
    (named,) = parse(spelled) if "+" not in spelled else (None,)
    if named is None:
        raise ConfigError(f"a surrogate is one network, not {spelled!r}")
    model = build(find(named.name), named.settings, what=f"model {named.name!r}")
    return model(classes, side, source)


def check_network(spelled: str) -> None:
    """Refuse the spelling of a network that cannot be built, before anything is computed."""
    for named in parse(spelled):
        build(find(named.name), named.settings, what=f"model {named.name!r}")


def ball_of(poison: Any) -> Ball | None:
    """Return the ball that a poison promises to stay in, None where it has no radius."""
    if poison.norm is None:
        return None
    return Ball(norm=poison.norm, radius=poison.eps)


def promised_ball(poison: Any) -> Ball | None:
    """Return the ball that stored pictures are measured against: the poison's own, or what its authors promise."""
    return poison.promise() if hasattr(poison, "promise") else ball_of(poison)


def by_class(noise: Tensor, labels: Tensor) -> Tensor:
    """Give every picture its class's noise: [K, 3, H, W] and int64 [N] to [N, 3, H, W]."""
    return noise[labels]
