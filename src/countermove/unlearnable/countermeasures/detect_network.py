"""Detection by a network of two layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.detection import (
    Then,
    check_detector,
    fingerprint_of,
    held_out,
    plain_recipe,
    react,
    two_layers,
)


@dataclass(frozen=True, kw_only=True)
class DetectNetwork:
    """Detection by a network of two layers, Zhu et al. 2024, arXiv:2312.08898.

    As detect-linear, with one hidden layer between pixels and classes: it also sees shortcuts that no linear model of
    the pixels does.

    hidden:     width of the hidden layer (paper: 3072 on CIFAR-10).
    threshold:  the data set is held for moved when the accuracy on unseen pictures is above this (paper: 0.7).
    confidence: in a data set held for moved, a picture is flagged when its own label gets more probability than this.
    then:       "discard" flagged pictures, or "squeeze" them.
    treat:      the squeezes for "squeeze", as spelled. Also used where all pictures are flagged.
    folds:      every picture is judged by a model trained on the other folds (paper: one split of 80 to 20 %).
    epochs:     of each network (paper: 100).

    Differs from the paper as detect-linear does. The hidden layer is narrower and there is no crop and flip in its
    training, which the released code has for this detector.
    """

    version: ClassVar[int] = 1

    hidden: int = 256
    threshold: float = 0.7
    confidence: float = 0.5
    then: Then = "discard"
    treat: str = "gray+jpeg"
    folds: int = 5
    epochs: int = 10

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ConfigError(f"detect-network: hidden = {self.hidden} is refused: at least one unit")
        check_detector("detect-network", self)

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the plan without the flagged pictures, or with these squeezed."""
        found = held_out(
            plan.received,
            two_layers(self.hidden),
            plain_recipe(self.epochs),
            folds=self.folds,
            seed=context.seed,
            device=context.device,
        )
        return react(plan, found, self, context=context)

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return what the spelled treatment is, so that a new version of it is a new reply."""
        return fingerprint_of(self.treat)
