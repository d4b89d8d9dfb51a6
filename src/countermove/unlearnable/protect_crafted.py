"""The part of `protect` for poisons that must see all pictures at once, most of which need a network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError, RunError, did_you_mean
from countermove.game.cell import digest
from countermove.game.methods import Composition
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import train
from countermove.learning.scoring import Examples
from countermove.nets.registry import build_network
from countermove.pixels.batch import Batch
from countermove.pixels.decode import words
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_uint8
from countermove.unlearnable.data.sources import MODIFIERS
from countermove.unlearnable.dataset import DataSet
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.play import move_and_round
from countermove.unlearnable.poison import Context, Surrogate, surrogates_of

Watch = Callable[[str, int, int], None]
"""Told what is being done, and how many pictures of how many are through with it."""

_SCORED = 500


@dataclass(frozen=True)
class Crafting:
    """Moves all pictures; what is finished is kept in a folder, so that a killed call does not begin again.

    poison: the method.
    known:  the data set that a trained surrogate learns from; None: the pictures themselves.
    work:   the folder; it must be of the same pictures, settings and seed.
    """

    poison: Any
    known: Composition | None
    seed: int
    device: str
    work: Path
    watch: Watch

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        """Return the moved pictures as uint8 [N, 3, H, W], and facts for the manifest (none when taken up).

        Raises:
            DataError: when the known data do not fit the pictures.
            RunError: when the folder cannot be written.
        """
        done = self.work / "moved.safetensors"
        try:
            self.work.mkdir(exist_ok=True)
            if done.exists():
                return load_file(done)["pictures"], {}
        except SafetensorError:
            done.unlink()
        except OSError as error:
            raise RunError(f"{self.work} cannot be used: {words(error)}; make its folder writable") from None
        data = self._fitting(batch) if self.known is not None else None
        context = Context(
            seed=self.seed,
            device=self.device,
            folder=self.work,
            networks=(lambda asked: self._networks(asked, batch, data)) if surrogates_of(self.poison) else None,
        )
        self.watch("crafting", 0, len(batch))
        stored, _ = move_and_round(self.poison, batch if data is None else _renamed(batch, data.classes), context)
        self.watch("crafting", len(batch), len(batch))
        self._keep(stored, done)
        return stored, {**context.meter.facts, "samples": context.meter.samples}

    def _keep(self, stored: Tensor, done: Path) -> None:
        temporary = done.with_suffix(".tmp")
        try:
            save_file({"pictures": stored.contiguous()}, temporary)
            temporary.replace(done)
        except (SafetensorError, OSError) as error:
            raise RunError(
                f"{done} cannot be written: {words(error)}. Make room and run the same command again"
            ) from None

    def _networks(self, asked: Surrogate, batch: Batch, data: DataSet | None) -> list[nn.Module]:
        """Train a network that the poison asked for, on the pictures or on the known data; return its stages."""
        if data is not None:
            received = Examples(pictures=data.train.pictures, labels=data.train.labels)
            test, classes = Examples(pictures=data.test.pictures, labels=data.test.labels), data.classes
        else:
            received, classes = Examples(pictures=to_uint8(batch.pictures), labels=batch.labels), batch.classes
            # No test pictures are needed here, but the loop scores some; a few of those it trains on will do.
            few = slice(None, None, -(-len(batch) // _SCORED))
            test = Examples(pictures=received.pictures[few], labels=received.labels[few])
        self.watch("training the surrogate", 0, len(received))
        side = received.pictures.shape[-1]
        network = build_network(asked.model, len(classes), side, generator(self.seed, "surrogate"))
        log = train(
            network,
            received,
            test,
            recipe=asked.recipe,
            seed=self.seed,
            classes=len(classes),
            model_steps=() if asked.adversary is None else (asked.adversary,),
            stages=asked.checkpoints,
            device=self.device,
            checkpoint=Checkpoint(self.work / f"training-{_name(asked)}.safetensors"),
        )
        self.watch("training the surrogate", len(received), len(received))
        stages = [copy.deepcopy(network) for _ in log.stages]
        for stage, weights in zip(stages, log.stages, strict=True):
            stage.load_state_dict(weights)
        return stages or [network]

    def _fitting(self, batch: Batch) -> DataSet:
        """Read the known data and check that they fit."""
        assert self.known is not None, "only called where there are some"
        data: DataSet = self.known.method()
        spelled = self.known.spelling
        for name in batch.classes:
            if name not in data.classes:
                hint = did_you_mean(name, data.classes)
                raise DataError(f"the pictures have a class {name!r} that data {spelled!r} do not have: {hint}")
        sizes = [tuple(x.shape[2:]) for x in (batch.pictures, data.train.pictures)]
        if sizes[0] != sizes[1]:
            raise DataError(f"the pictures are {sizes[0]}, those of {spelled!r} {sizes[1]} (H, W); they must agree")
        return data


def with_model(composition: Composition, model: str | None) -> Composition:
    """Put another surrogate into a poison.

    Raises:
        ConfigError: when the poison uses no network, names another one itself, or the network is unknown.
    """
    poison = composition.method
    if model is None:
        return composition
    (part,) = composition.parts
    if not hasattr(poison, "surrogate"):
        raise ConfigError(f"{part.name!r} uses no network; leave --model out")
    if part.spoken.settings.get("surrogate", model) != model:
        raise ConfigError(f"the surrogate is given twice: as {poison.surrogate!r} and as --model {model!r}; keep one")
    return Composition((replace(part, method=replace(poison, surrogate=model)),))


def known_data(composition: Composition, data: str | None) -> Composition | None:
    """Return the data set that the poison's surrogate is to learn from; nothing is read.

    Raises:
        ConfigError: when the poison trains no surrogate beforehand, or there is no such data set.
    """
    if data is None:
        return None
    if not surrogates_of(composition.method):
        raise ConfigError(f"{composition.parts[0].name!r} trains no surrogate beforehand; leave --data out")
    known = METHODS.compose("data", data)
    if len(known.parts) != 1 or known.parts[0].name in MODIFIERS:
        raise ConfigError(f"data {data!r} is refused: name one whole data set")
    return known


def _name(asked: Surrogate) -> str:
    return digest({"model": asked.model, **asked.identity()})[:16]


def _renamed(batch: Batch, classes: tuple[str, ...]) -> Batch:
    """Number the labels as other data do, by name."""
    numbers = torch.tensor([classes.index(name) for name in batch.classes])
    return replace(batch, labels=numbers[batch.labels], classes=classes)
