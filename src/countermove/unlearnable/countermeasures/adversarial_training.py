"""Adversarial training."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from countermove.errors import ConfigError
from countermove.learning.adversary import Adversary
from countermove.unlearnable.countermeasure import Plan, ReplyContext


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining:
    """Adversarial training (AT), Madry et al. 2018, arXiv:1706.06083.

    The model is trained on pictures that were changed, batch for batch, so that it gets them wrong. A move smaller than
    the change can then hardly steer it.

    variant: "pgd", many steps; or "fast", one of 1.25 eps from a random start (Wong et al. 2020, arXiv:2001.03994).
    norm:    "linf" or "l2".
    eps:     radius, in [0, 1] pixel units; unset: 8/255 for linf, 0.5 for l2.
    step:    length of one step; unset: 2/255 for linf, a quarter of eps for l2; 1.25 eps if fast.
    steps:   how many, if pgd (papers: 10). Fast takes one.

    Every picture costs as many more passes as there are steps.

    Differs from Madry et al., whose seven steps on CIFAR-10 see the network in training mode: here it is in evaluation
    mode while the change is looked for. Huang et al. 2021 take PGD-10 with steps of 2/255 and state no radius; the code
    of Liu et al. 2023 has 0.031 and steps of 0.007. The "free" variant (Shafahi et al. 2019) is left out: it replays
    batches inside the training step.
    """

    version: ClassVar[int] = 1

    variant: Literal["pgd", "fast"] = "pgd"
    norm: Literal["linf", "l2"] = "linf"
    eps: float | None = None
    step: float | None = None
    steps: int = 10

    def __post_init__(self) -> None:
        if self.variant not in {"pgd", "fast"} or self.norm not in {"linf", "l2"}:
            raise ConfigError(
                f"adversarial-training: variant = {self.variant!r} with norm = {self.norm!r} is refused; variants are "
                "'pgd' and 'fast', norms 'linf' and 'l2'"
            )
        if self.step is not None and not (math.isfinite(self.step) and self.step > 0):
            raise ConfigError(
                f"adversarial-training: step = {self.step:g} is refused; it must be above 0 and finite, such as 2/255"
            )
        if self.steps < 1:
            raise ConfigError(f"adversarial-training: steps = {self.steps} is refused; at least one is needed")
        self._adversary()

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the changed plan."""
        return replace(plan, model_steps=(*plan.model_steps, self._adversary()))

    def _adversary(self) -> Adversary:
        """Return what looks for the changes."""
        linf = self.norm == "linf"
        eps = (8 / 255 if linf else 0.5) if self.eps is None else self.eps
        usual = 1.25 * eps if self.variant == "fast" else 2 / 255 if linf else eps / 4
        step = usual if self.step is None else self.step
        return Adversary(norm=self.norm, eps=eps, step=step, steps=1 if self.variant == "fast" else self.steps)
