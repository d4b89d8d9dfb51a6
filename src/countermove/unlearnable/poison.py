"""What a poison is given and what it gives back.

A poison is a frozen, keyword-only dataclass, called with the pictures that its owner may change::

    __call__(batch: Batch, *, context: Context) -> Batch

It returns moved pictures with the same ids and labels. Class variables say what it is:

    version:  raised when its output changes.
    norm:     "linf", "l2", "l0", or None where no radius describes the change.
    streams:  whether it can be given the pictures in portions, in any order, with the same result. A poison that
              needs a network must see all pictures at once.
    on_new:   False where the poison makes no sense on pictures that were not there when it was made.

A poison that needs networks trained on the clean pictures names them in `surrogates()`. One that can be put on new
pictures of the same classes, but not by simply calling it on them, has a method::

    on_test(test: Batch, *, clean: Batch, moved: Batch, context: Context) -> Batch
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.learning.adversary import Adversary
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import place
from countermove.nets.registry import build_network
from countermove.pixels.balls import Ball, Norm
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator


@dataclass
class Meter:
    """What a poison tells about its own making: samples passed, and facts for the manifest."""

    samples: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """A network that is trained on the clean pictures once and shared by every poison that names the same.

    adversary:   trained on such adversarial pictures instead of the clean ones; None: on clean ones.
    checkpoints: how many stages of its training are kept, at equidistant epochs, the last one the end; 0: the end only.
    """

    model: str
    recipe: Recipe
    adversary: Adversary | None = None
    checkpoints: int = 0

    def identity(self) -> dict[str, Any]:
        """Return everything that it is, as plain data."""
        return {
            "training": self.recipe.identity(),
            **({} if self.adversary is None else {"adversary": asdict(self.adversary)}),
            **({} if self.checkpoints == 0 else {"checkpoints": self.checkpoints}),
        }


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything a poison may use besides the pictures.

    seed:    the cell's seed.
    device:  where networks run.
    folder:  where checkpoints of long work may be kept; None: nowhere.
    networks: gives the networks that were trained as a surrogate asks, stage by stage, the last one the end; None where
             nobody trains any.
    meter:   what the poison counts.
    kept:    what a poison keeps of its making for `on_test`; lives as long as the context.
    """

    seed: int
    device: str = "cpu"
    folder: Path | None = None
    networks: Callable[[Surrogate], Sequence[nn.Module]] | None = None
    meter: Meter = field(default_factory=Meter)
    kept: dict[str, Any] = field(default_factory=dict)

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Return the generator of one purpose."""
        return generator(self.seed, *purpose)

    def fresh_network(self, spelled: str, batch: Batch) -> nn.Module:
        """Build an untrained network for the pictures of a batch, from the context's seed."""
        network = build_network(spelled, len(batch.classes), batch.pictures.shape[-1], self.generator("surrogate"))
        return place(network, self.device)

    def trained(self, asked: Surrogate) -> nn.Module:
        """Return a network trained as asked."""
        return self.checkpoints(asked)[-1]

    def checkpoints(self, asked: Surrogate) -> list[nn.Module]:
        """Return the stages of a training, all in memory; the end only, where no stages were asked for."""
        if self.networks is None:
            raise ConfigError("this poison needs a trained surrogate: name --data and --model, or play it in an audit")
        return [place(network, self.device) for network in self.networks(asked)]

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


def ball_of(poison: Any) -> Ball | None:
    """Return the ball that a poison promises to stay in, None where it has no radius."""
    if poison.norm is None:
        return None
    return Ball(norm=poison.norm, radius=poison.eps)


def promised_ball(poison: Any) -> Ball | None:
    """Return the ball that stored pictures are measured against: the poison's own, or what its authors promise."""
    return poison.promise() if hasattr(poison, "promise") else ball_of(poison)


def surrogates_of(poison: Any) -> tuple[Surrogate, ...]:
    """Return the trained networks that a poison needs."""
    return tuple(poison.surrogates()) if hasattr(poison, "surrogates") else ()


def in_portions(poison: Any) -> bool:
    """Return whether a poison can be given pictures in portions, and put on new ones by calling it on them."""
    return poison.streams and not hasattr(poison, "on_test") and not hasattr(poison, "parts_on_test")


def on_new_pictures(poison: Any, test: Batch, *, clean: Batch, moved: Batch, context: Context) -> Batch | None:
    """Put a poison on pictures that were not there when it was made; None where that is not defined.

    Args:
        poison: the method.
        test: the new pictures, with their labels.
        clean: the pictures that it was made for.
        moved: what it made of them, as published.
        context: the one that it was made with.
    """
    if not getattr(poison, "on_new", True):
        return None
    if hasattr(poison, "on_test"):
        return poison.on_test(test, clean=clean, moved=moved, context=context)
    if poison.streams or surrogates_of(poison):
        return poison(test, context=context)
    return None


def by_class(noise: Tensor, labels: Tensor) -> Tensor:
    """Give every picture its class's noise: [K, 3, H, W] and int64 [N] to [N, 3, H, W]."""
    return noise[labels]
