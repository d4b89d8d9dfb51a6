"""The squeeze that the received data themselves ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Generator, nn

from countermove.errors import ConfigError
from countermove.learning.scoring import Examples
from countermove.nets.registry import build_network, check_network
from countermove.pixels import squeezes
from countermove.pixels.jpeg import check_quality, jpeg
from countermove.pixels.randomness import generator
from countermove.pixels.squeezes import Squeeze, squeeze_uint8
from countermove.unlearnable.countermeasure import Plan, ReplyContext, check_halves
from countermove.unlearnable.detection import held_out, linear, plain_recipe

_LINEAR_EPOCHS = 10


@dataclass(frozen=True, kw_only=True)
class Automatic:
    """Gray, JPEG, both or nothing, as the received data ask for it.

    The outlook of Liu et al. 2023 (arXiv:2301.13838): a trainer who does not know the poison should find out which
    squeeze to use. A planted shortcut is learned quickly and simply, whatever its frequency: so two simple models, a
    linear one and a small network trained briefly, are trained on part of the data and name the rest, as received and
    under every squeeze. Squeezing natural pictures costs simple models little; a squeeze that removes the shortcut
    costs them much. Chosen is the first of none, gray, jpeg, gray+jpeg (in the order of what they cost on clean data)
    under which the better of the two models is at most `slack` above the lowest accuracy of the four. Clean data, where
    the four hardly differ, are left alone. Facts: `chose_none`, `chose_gray`, `chose_jpeg`, `chose_gray_jpeg` (one of
    them 1) and the accuracies `simple_none`, ...

    slack:    how much accuracy of the simple models a stronger squeeze must take away to be worth it. On clean
              CIFAR-10 the four differ by half of the default.
    quality:  of the JPEG squeeze.
    pictures: at most so many of the received pictures, drawn at random, are looked at.
    folds:    every picture is judged by models trained on the other folds.
    model:    the small network, as spelled.
    epochs:   of the small network.
    train:    squeeze what was received.
    test:     squeeze the pictures that the trained model judges, in the chosen way.

    What is told apart by its colours alone looks like a shortcut of low frequency. A shortcut that no squeeze removes
    is not answered; neither is one in fewer pictures than about twice the slack.
    """

    version: ClassVar[int] = 1

    slack: float = 0.1
    quality: int = 10
    pictures: int = 4000
    folds: int = 2
    model: str = "small-cnn(width=0.25)"
    epochs: int = 5
    train: bool = True
    test: bool = False

    def __post_init__(self) -> None:
        check_halves(self.train, self.test)
        if not 0 < self.slack < 1:
            raise ConfigError(f"automatic: slack = {self.slack} is refused: between 0 and 1, such as 0.1")
        if self.pictures < 2 or self.folds < 2 or self.epochs < 1:
            raise ConfigError(
                f"automatic: pictures = {self.pictures}, folds = {self.folds}, epochs = {self.epochs} is refused: at "
                "least 2 pictures, 2 folds and 1 epoch"
            )
        check_quality(self.quality)
        check_network(self.model)

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the plan with the squeeze that was chosen."""
        looked_at = _some(plan.received, self.pictures, context)
        candidates = self._squeezes()
        scores: dict[str, float] = {}
        for name, squeeze in candidates.items():
            scores[name], spent = self._simply_learned(looked_at, squeeze, context)
            plan = replace(plan, samples=plan.samples + spent)
        choice = mildest(scores, self.slack)
        context.facts.update({f"chose_{name}": float(name == choice) for name in candidates})
        context.facts.update({f"simple_{name}": score for name, score in scores.items()})
        chosen = candidates[choice]
        return plan if chosen is None else plan.squeezed(chosen, train=self.train, test=self.test)

    def _squeezes(self) -> dict[str, Squeeze | None]:
        compress = partial(jpeg, quality=self.quality)
        return {
            "none": None,
            "gray": squeezes.gray,
            "jpeg": compress,
            "gray_jpeg": partial(_both, first=squeezes.gray, second=compress),
        }

    def _simply_learned(self, examples: Examples, squeeze: Squeeze | None, context: ReplyContext) -> tuple[float, int]:
        """Return how well the better simple model names squeezed pictures that it has not seen, and what that cost."""
        if squeeze is not None:
            examples = replace(examples, pictures=squeeze_uint8(examples.pictures, squeeze))

        def network(classes: int, size: tuple[int, int], source: Generator) -> nn.Module:
            return build_network(self.model, classes, size[1], source)

        tries = ((linear, plain_recipe(_LINEAR_EPOCHS)), (network, plain_recipe(self.epochs, lr=0.05)))
        found = [
            held_out(examples, build, recipe, folds=self.folds, seed=context.seed, device=context.device)
            for build, recipe in tries
        ]
        return max(one.accuracy for one in found), sum(one.samples for one in found)


def mildest(scores: dict[str, float], slack: float) -> str:
    """Return the first name whose score is at most so much above the lowest one."""
    lowest = min(scores.values())
    return next(name for name, score in scores.items() if score <= lowest + slack)


def _both(pictures: torch.Tensor, *, first: Squeeze, second: Squeeze) -> torch.Tensor:
    return second(first(pictures))


def _some(received: Examples, most: int, context: ReplyContext) -> Examples:
    if len(received) <= most:
        return received
    rows = torch.randperm(len(received), generator=generator(context.seed, "automatic"))[:most]
    return Examples(pictures=received.pictures[rows], labels=received.labels[rows])
