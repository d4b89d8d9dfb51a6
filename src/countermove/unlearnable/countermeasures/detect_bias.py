"""Detection by training on pictures of another brightness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, Tensor, nn

from countermove.errors import ConfigError
from countermove.nets.registry import build_network, check_network
from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.detection import (
    Then,
    check_detector,
    fingerprint_of,
    held_out,
    plain_recipe,
    react,
)


@dataclass(frozen=True, kw_only=True)
class DetectBias:
    """Detection by bias shift, Zhu et al. 2024, arXiv:2312.08898.

    A network is trained on pictures that are all made brighter (or darker) by the same amount, and judges unseen
    pictures as they are. What it learned of natural pictures suffers from the shift; a shortcut survives it.

    shift:      how much is added to every training value, in [0, 1] pixel units; nothing is clipped (paper: 0.5).
    sign:       "minus" or "plus" (paper: both).
    model:      the network, as spelled (paper: resnet-18).
    threshold:  the data set is held for moved when the accuracy on unseen pictures is above this (paper: 0.7).
    confidence: in a data set held for moved, a picture is flagged when its own label gets more probability than this.
    then:       "discard" flagged pictures, or "squeeze" them.
    treat:      the squeezes for "squeeze", as spelled. Also used where all pictures are flagged.
    folds:      every picture is judged by a model trained on the other folds (paper: one split of 80 to 20 %).
    epochs:     of each network (paper: 100).

    Differs from the paper as detect-linear does; the network is small and trained briefly.
    """

    version: ClassVar[int] = 1

    shift: float = 0.5
    sign: Literal["minus", "plus"] = "minus"
    model: str = "small-cnn"
    threshold: float = 0.7
    confidence: float = 0.5
    then: Then = "discard"
    treat: str = "gray+jpeg"
    folds: int = 5
    epochs: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.shift <= 1:
            raise ConfigError(f"detect-bias: shift = {self.shift} is refused: above 0 and at most 1; see sign, too")
        check_network(self.model)
        check_detector("detect-bias", self)

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the plan without the flagged pictures, or with these squeezed."""
        recipe = plain_recipe(self.epochs, lr=0.05)
        found = held_out(
            plan.received, self._network, recipe, folds=self.folds, seed=context.seed, device=context.device
        )
        return react(plan, found, self, context=context)

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return what the spelled treatment is, so that a new version of it is a new reply."""
        return fingerprint_of(self.treat)

    def _network(self, classes: int, size: tuple[int, int], source: Generator) -> nn.Module:
        shift = self.shift if self.sign == "plus" else -self.shift
        return ShiftedInTraining(build_network(self.model, classes, size[1], source), shift)


class ShiftedInTraining(nn.Module):
    """A network that sees brighter or darker pictures while it is trained, and pictures as they are afterwards."""

    def __init__(self, network: nn.Module, shift: float) -> None:
        """Wrap the network."""
        super().__init__()
        self.network, self.shift = network, shift

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the network's logits."""
        return self.network(pictures + self.shift if self.training else pictures)
