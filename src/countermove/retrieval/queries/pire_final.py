"""PIRE-final: away from the picture's own descriptor, on the picture as it is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from countermove.pixels.steps import frozen
from countermove.retrieval.crafting import Aim, Descent, descend, random_signs
from countermove.retrieval.query import TARGET, Limit, QueryContext, read_surrogates


@dataclass(frozen=True, kw_only=True)
class PireFinal:
    """PIRE's aim, a descriptor far from the picture's own, on the very picture that is sent.

    PIRE optimises a change of two levels and sends eight to ten times as much. Here the gradient is taken at the 8-bit
    picture (rounding is passed straight through), with sign steps and momentum.

    backbones: whose descriptors are moved away, all at once.
    eps:       radius (L-infinity), in [0, 1] pixel units; about the largest change that refined PIRE sends.
    floor:     SSIM that every picture keeps: whenever its change would go below, all of it is made smaller. Where a
               picture is busy eps is the limit, where it is flat the floor. 0: no floor. Pictures with a side under 11
               pixels have no SSIM and keep eps alone.
    step:      length of a step, likewise; the first one goes to random signs, as a picture's distance to itself has no
               gradient.
    steps:     how many, at most.
    momentum:  share of the former direction that is kept (Dong et al. 2018, arXiv:1710.06081).
    scales:    sizes at which the picture is shown, one step after the other; 1 is its own.
    jitter:    every size but 1 is varied at random by up to this share.
    centred:   likeness is seen from the mean descriptor of the public pictures (where there are any), not from zero.
    enough:    likeness to itself at which a picture is done: 1 is the clean picture's, 0 the average public picture's
               (uncentred: of a descriptor at a right angle).
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Limit] = "linf"
    backbones: tuple[str, ...] = (TARGET,)
    eps: float = 20 / 255
    floor: float = 0.8
    step: float = 2 / 255
    steps: int = 40
    momentum: float = 0.5
    scales: tuple[float, ...] = (1.0, 0.7)
    jitter: float = 0.1
    centred: bool = True
    enough: float = -0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbones", read_surrogates(self.backbones, "pire-final"))
        self._descent.check("pire-final")

    @property
    def _descent(self) -> Descent:
        return Descent.of(self)

    def surrogates(self) -> tuple[str, ...]:
        """Return the backbones it is made on."""
        return self.backbones

    def __call__(self, pictures: Tensor, ids: Sequence[str], *, context: QueryContext) -> Tensor:
        """Return the changed pictures."""
        network, clean = context.together(), pictures.to(context.device)
        with frozen(network), torch.no_grad():
            own = network(clean)
        aim = Aim(own, context.centre() if self.centred else own.new_zeros(1))
        start = random_signs(clean, ids, context.seed, "pire-final")
        moved = descend(self._descent, clean, start, aim, toward=False, network=network, context=context)
        return moved.to(pictures)
