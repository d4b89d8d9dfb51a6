"""The layers that matter most."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from countermove.errors import ConfigError
from countermove.finetuning.adaptation import Adapting, told_whole, weights_of
from countermove.finetuning.critical_layers import (
    Loss,
    choose,
    first_or_last,
    gradient_sensitivity,
    train_only,
    trained_and_rewound,
    within,
)
from countermove.finetuning.layers import blocks, check_layers, inside

Sensitivity = Literal["gradients", "rewinding"]


@dataclass(frozen=True, kw_only=True)
class CriticalLayers:
    """Some layers are trained, all others frozen; the backward pass ends at the first that is trained.

    layers:  names of blocks or modules, or beginnings of such names.
    first, last: instead: so many of the numbered blocks.
    share:   instead: the most sensitive blocks that hold at most this share of all numbers, on the task's own data.
    by:      what sensitivity is. "gradients": how much a small step of a block's numbers lowers the loss, a number,
             before anything is trained. "rewinding": a copy is trained in full for a few steps; how much its loss
             rises when a block alone goes back to the published weights.
    steps:   of that training, by AdamW at this lr.
    without: blocks that are not chosen, such as embeddings.
    lr:      of AdamW.

    What measuring takes is part of the price. Gradients choose badly in small networks: blocks whose numbers have the
    largest gradients need not be those that can carry a task.
    """

    version: ClassVar[int] = 1
    keyed_when_set: ClassVar[tuple[str, ...]] = ("by", "steps")
    layers: tuple[str, ...] = ()
    first: int = 0
    last: int = 0
    share: float = 0.0
    by: Sensitivity = "gradients"
    steps: int = 64
    without: tuple[str, ...] = ()
    lr: float = 5e-4

    def __post_init__(self) -> None:
        ways = [bool(self.layers), bool(self.first or self.last), self.share > 0]
        if sum(ways) > 1 or min(self.first, self.last) < 0 or not 0 <= self.share <= 1:
            raise ConfigError("critical-layers: give layers, or first and last, or a share in (0, 1]; only one of them")
        if self.by == "rewinding" and sum(ways[:2]):
            raise ConfigError("critical-layers: named layers are not measured; give by a share, or leave it out")
        if self.steps < 1:
            raise ConfigError(f"critical-layers: steps = {self.steps} is refused; a copy is trained for at least 1")

    def begin(self, network: nn.Module, *, new: Sequence[str] = (), losses: Loss | None = None, seed: int) -> Adapting:
        """Freeze all but the chosen layers. With no setting at all, half of all numbers may change."""
        every = [name for name, _ in network.named_parameters()]
        published = [name for name in every if not inside(name, new)]
        check_layers(self.without, published)
        names = [name for name in published if not inside(name, self.without)]
        held, facts = blocks(names), dict[str, Any]()
        if self.layers:
            trained = within(every, self.layers, without=self.without)
        elif self.first or self.last:
            trained = [name for block in first_or_last(names, first=self.first, last=self.last) for name in held[block]]
        else:
            if losses is None:
                raise ConfigError("critical-layers: there are no data to measure sensitivity on; name layers")
            network.requires_grad_(True)
            found = self._measured(network, losses, names)
            own = dict(network.named_parameters())
            numbers = {block: sum(own[name].numel() for name in inner) for block, inner in held.items()}
            most = (self.share or 0.5) * sum(own[name].numel() for name in published)
            allowed = {block: found[block] for block in held}
            trained = [name for block in choose(allowed, numbers, most=most) for name in held[block]]
            facts["sensitivity"] = allowed
        before = weights_of(network)
        train_only(network, {*trained, *(name for name in every if inside(name, new))})
        return Adapting(network, told_whole(network, new, {**facts, "layers": list(blocks(trained))}, before))

    def _measured(self, network: nn.Module, losses: Loss, names: Collection[str]) -> dict[str, float]:
        if self.by == "rewinding":
            return trained_and_rewound(network, losses, steps=self.steps, lr=self.lr, names=names)
        return gradient_sensitivity(network, losses)
