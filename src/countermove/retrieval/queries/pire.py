"""PIRE: away from the picture's own descriptor, as published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.randomness import per_sample
from countermove.pixels.steps import frozen
from countermove.retrieval.query import TARGET, Limit, QueryContext, read_surrogates

Output = Literal["refined", "plain"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEVEL = 0.004 * 8
"""One level of the refined output, in units of the normalised picture: about 1.8 levels of an 8-bit one."""


@dataclass(frozen=True, kw_only=True)
class Pire:
    """Perturbations for Image Retrieval Error (PIRE), Liu et al. 2019, arXiv:1901.10332.

    Adam raises the squared distance between the descriptors of x + v and x. What is sent is x with a much larger
    change than the one that was optimised, so that it survives rounding. Everything happens in the space of pictures
    normalised with ImageNet's means and deviations (about .225), whatever network is attacked; the deviation makes a
    change of eps one of about 2.2 levels, and what is sent one of up to 23 ("plain") or 21 ("refined").

    backbones: whose descriptors are moved away, all at once.
    steps:     T, rounds of Adam (paper: 200 and 500). Adam moves an entry by about lr a round, so after 200 rounds most
               of them still carry the random start: T sets the strength.
    eps:       largest |v|, in normalised units.
    lr:        of Adam.
    output:    "refined" sends x + p(v), p(v) = sign(v) ceil(256 |v|) .032; "plain" sends x + factor v.
    factor:    of the plain output.

    Differs from the released code: queries of one shape are changed together; the picture is saved with its own colours
    (the released code stretches the normalised picture's range to the whole of 0 to 255, and saves a JPEG of
    quality 75); values are clipped to [0, 1] at the end, as saving does.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Limit] = None
    backbones: tuple[str, ...] = (TARGET,)
    steps: int = 500
    eps: float = 10 / 255
    lr: float = 1e-4
    output: Output = "refined"
    factor: float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbones", read_surrogates(self.backbones, "pire"))
        if self.output not in ("refined", "plain"):
            raise ConfigError(f"move 'pire': output = {self.output!r} is refused; it is refined or plain")
        if self.steps < 1 or self.eps < 0 or self.lr <= 0 or self.factor <= 0:
            raise ConfigError(
                "move 'pire': steps are at least 1, eps is not below 0, lr and factor are above it; "
                f"got steps = {self.steps}, eps = {self.eps:g}, lr = {self.lr:g}, factor = {self.factor:g}"
            )

    def surrogates(self) -> tuple[str, ...]:
        """Return the backbones it is made on."""
        return self.backbones

    def __call__(self, pictures: Tensor, ids: Sequence[str], *, context: QueryContext) -> Tensor:
        """Return the changed pictures."""
        network = context.together()
        clean = pictures.to(context.device)
        shape = clean.shape[1:]
        draws = per_sample(context.seed, "pire", ids, lambda source: 2 * torch.rand(shape, generator=source) - 1)
        change = (self.eps * draws).to(clean).requires_grad_()
        optimizer = torch.optim.Adam([change], lr=self.lr)
        std = clean.new_tensor(STD)[:, None, None]
        with frozen(network):
            with torch.no_grad():
                own = network(clean)
            for _ in range(self.steps):
                with torch.no_grad():
                    change.clamp_(-self.eps, self.eps)
                with torch.enable_grad():
                    distance = (network(clean + std * change) - own).square().sum()
                    (change.grad,) = torch.autograd.grad(-distance, change)
                optimizer.step()
        context.meter.samples += self.steps * len(clean) * len(context.networks)
        final = change.detach().clamp(-self.eps, self.eps)
        return (clean + std * self.sent(final)).clamp(0, 1).to(pictures)

    def sent(self, change: Tensor) -> Tensor:
        """Return what is added to the normalised picture."""
        if self.output == "plain":
            return self.factor * change
        return change.sign() * (256 * change.abs()).ceil() * LEVEL
