"""Detection by a linear model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.detection import (
    Then,
    check_detector,
    fingerprint_of,
    held_out,
    linear,
    plain_recipe,
    react,
)


@dataclass(frozen=True, kw_only=True)
class DetectLinear:
    """Detection by a linear model, Zhu et al. 2024, arXiv:2312.08898.

    A linear model of the pixels learns little of natural pictures. Where it names unseen pictures well, a shortcut was
    planted. The pictures whose own label it is sure of without having seen them are flagged, and discarded or squeezed.

    threshold:  the data set is held for moved when the accuracy on unseen pictures is above this (paper: 0.7).
    confidence: in a data set held for moved, a picture is flagged when its own label gets more probability than this.
    then:       "discard" flagged pictures, or "squeeze" them.
    treat:      the squeezes for "squeeze", as spelled. Also used where all pictures are flagged: discarding all is
                impossible.
    folds:      every picture is judged by a model trained on the other folds (paper: one split of 80 to 20 %).
    epochs:     of each model (paper: 100).

    Differs from the paper: it judges data sets only, by one split; here every picture gets a suspicion and there is a
    reply. Its linear model is not normalised and is trained ten times as long; the learning rate (0.01), momentum and
    weight decay are its own, the schedule is a cosine. Two pictures of every class are always kept.
    """

    version: ClassVar[int] = 1

    threshold: float = 0.7
    confidence: float = 0.5
    then: Then = "discard"
    treat: str = "gray+jpeg"
    folds: int = 5
    epochs: int = 10

    def __post_init__(self) -> None:
        check_detector("detect-linear", self)

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the plan without the flagged pictures, or with these squeezed."""
        recipe = plain_recipe(self.epochs)
        found = held_out(plan.received, linear, recipe, folds=self.folds, seed=context.seed, device=context.device)
        return react(plan, found, self, context=context)

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return what the spelled treatment is, so that a new version of it is a new reply."""
        return fingerprint_of(self.treat)
