"""What a trainer intends to do with the data they received, and how a countermeasure changes it.

A countermeasure is a frozen, keyword-only dataclass, called with the plan so far::

    __call__(plan: Plan, *, context: ReplyContext) -> Plan

Compositions apply in order: gray+jpeg squeezes to gray first. None is told which poison it faces.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

from torch import Tensor

from countermove.errors import ConfigError
from countermove.learning.augment import BatchStep, ModelStep
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples
from countermove.learning.stopping import Stopping
from countermove.pixels.squeezes import Squeeze, squeeze_uint8


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """What comes after a training: going on with some examples.

    examples:   8-bit pictures and labels.
    adaptation: which part of the model may change, spelled.
    epochs:     over the examples.
    adversary:  what changes them, where there is one.
    clean:      how many of the examples nobody had touched.
    """

    examples: Examples
    adaptation: str
    epochs: int
    adversary: ModelStep | None
    clean: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A training that is about to start.

    received:      8-bit pictures and labels as they came.
    moved:         bool [N], which of them a mover owned. Only diagnostics may look at it.
    classes:       the names of the classes.
    recipe:        how the model will be trained.
    test_squeezes: what is done to a picture before the trained model judges it.
    steps:         what is done to every training batch after crop and flip.
    model_steps:   what is done to it after that with the model's help.
    stop:          when training stops early; None: never.
    suspicion:     float [N as received], how likely each picture was moved in the eyes of a detector; higher is more.
    flagged:       bool [N as received], which pictures it holds for moved.
    fine_tuning:   what comes after the training; None: nothing.
    samples:       forward-backward passes spent so far.
    clean_examples: untouched examples that were needed.
    """

    received: Examples
    moved: Tensor
    recipe: Recipe
    classes: tuple[str, ...] = ()
    test_squeezes: tuple[Squeeze, ...] = ()
    steps: tuple[BatchStep, ...] = ()
    model_steps: tuple[ModelStep, ...] = ()
    stop: Stopping | None = None
    suspicion: Tensor | None = None
    flagged: Tensor | None = None
    fine_tuning: FineTuning | None = None
    samples: int = 0
    clean_examples: int = 0

    def squeezed(self, squeeze: Squeeze, *, train: bool = True, test: bool = False) -> Plan:
        """Return the plan with every received picture squeezed once, test pictures too, or only these, as asked."""
        tests = (*self.test_squeezes, squeeze) if test else self.test_squeezes
        if not train:
            return replace(self, test_squeezes=tests)
        pictures = squeeze_uint8(self.received.pictures, squeeze)
        return replace(self, received=replace(self.received, pictures=pictures), test_squeezes=tests)

    def with_step(self, step: BatchStep) -> Plan:
        """Return the plan with one more batch step."""
        return replace(self, steps=(*self.steps, step))


@dataclass(frozen=True, kw_only=True)
class ReplyContext:
    """What a countermeasure may use besides the plan."""

    seed: int
    device: str = "cpu"
    facts: dict[str, float] = field(default_factory=dict)


class Countermeasure(Protocol):
    """A reply of this arena."""

    version: ClassVar[int]

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        ...


def check_halves(train: bool, test: bool) -> None:
    """Refuse a squeeze of neither the received pictures nor those that the trained model judges.

    Raises:
        ConfigError: when both are false.
    """
    if not train and not test:
        raise ConfigError("train = false and test = false together squeeze nothing; leave one of them true")
