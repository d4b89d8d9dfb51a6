"""Training on poisons that the trainer can make."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.learning.loop import train
from countermove.learning.scoring import Examples
from countermove.nets.registry import build_network
from countermove.pixels.batch import Batch
from countermove.pixels.mapped import joined
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_uint8
from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.data.sources import digest_of, read_source
from countermove.unlearnable.own_pictures import own_pictures
from countermove.unlearnable.parts import kept_within, read_part
from countermove.unlearnable.poison import Context, Surrogate, promised_ball


@dataclass(frozen=True, kw_only=True)
class RobustTraining:
    """Robust training on known poisons, Radiya-Dixit et al. 2022, arXiv:2106.14851.

    The trainer has clean pictures of the same classes, makes a poison that is public (A) of them, and trains on both
    beside what was received, which may hold another poison (B). Thesis, table 3.15: robustness against A does not carry
    over to B.

    known: poison A, spelled like a move. Networks that it needs are trained on the trainer's own clean pictures.
    data:  where the trainer's own pictures come from, spelled like data. Classes are matched by their names.
    skip:  so many of its train pictures are passed over. They must not be the received ones: the first 4,000 of
           cifar10-lossless are those of cifar10-mini.
    take:  so many of the following ones are used; they count as clean examples.

    Differs from the paper: its trainers adapt a face recogniser; here the own pictures and their poisoned versions are
    added to the received ones. The trainer knows how poison A is made, and not the mover's random draw: theirs comes
    from another seed.
    """

    version: ClassVar[int] = 1

    known: str = "error-minimizing"
    data: str = "cifar10-lossless"
    skip: int = 4000
    take: int = 4000

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", read_part(self.known, owner="robust-training: known").spelling)
        object.__setattr__(self, "data", read_source(self.data, owner="robust-training").spelling)
        if self.skip < 0 or self.take < 2:
            raise ConfigError(
                f"robust-training: skip = {self.skip}, take = {self.take} is refused: skip none or more, take at "
                "least 2 pictures"
            )

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return SHA-256 over poison A's settings and version and the own data's content."""
        known, data = read_part(self.known, owner="robust-training"), read_source(self.data, owner="robust-training")
        return digest_of(known, data, rehash=rehash)

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the plan with the own pictures, clean and with poison A, behind the received ones."""
        own = own_pictures(plan, self.data, skip=self.skip, take=self.take, owner="robust-training")
        poison = read_part(self.known, owner="robust-training").method
        seed = int(torch.randint(2**31, (), generator=generator(context.seed, "robust-training")))
        trainer = OwnSurrogates(own, seed, context.device)
        making = Context(seed=seed, device=context.device, networks=trainer)
        moved = poison(own, context=making).pictures
        moved = to_uint8(kept_within(moved, own.pictures, promised_ball(poison)))
        received = Examples(
            pictures=joined(plan.received.pictures, to_uint8(own.pictures), moved),
            labels=torch.cat([plan.received.labels, own.labels, own.labels]),
        )
        return replace(
            plan,
            received=received,
            moved=torch.cat([plan.moved, torch.zeros(2 * len(own), dtype=torch.bool)]),
            samples=plan.samples + making.meter.samples + trainer.samples,
            clean_examples=plan.clean_examples + len(own),
        )


class OwnSurrogates:
    """Trains the networks that poison A asks for on the trainer's own clean pictures, each once, and counts."""

    def __init__(self, own: Batch, seed: int, device: str) -> None:
        """Keep what they are trained on."""
        self.own, self.seed, self.device = own, seed, device
        self.samples = 0
        self._stages: dict[Surrogate, list[nn.Module]] = {}

    def __call__(self, asked: Surrogate) -> Sequence[nn.Module]:
        """Return the stages of a network, the last one the end."""
        if asked not in self._stages:
            self._stages[asked] = self._train(asked)
        return self._stages[asked]

    def _train(self, asked: Surrogate) -> list[nn.Module]:
        own = Examples(pictures=to_uint8(self.own.pictures), labels=self.own.labels)
        classes = len(self.own.classes)
        network = build_network(asked.model, classes, _side(own.pictures), generator(self.seed, "surrogate"))
        log = train(
            network,
            own,
            Examples(pictures=own.pictures[:1], labels=own.labels[:1]),
            recipe=asked.recipe,
            seed=self.seed,
            classes=classes,
            model_steps=() if asked.adversary is None else (asked.adversary,),
            stages=asked.checkpoints,
            device=self.device,
        )
        self.samples += log.samples
        stages = [deepcopy(network) for _ in log.stages]
        for stage, weights in zip(stages, log.stages, strict=True):
            stage.load_state_dict(weights)
        return stages or [network]


def _side(pictures: Tensor) -> int:
    return pictures.shape[-1]
