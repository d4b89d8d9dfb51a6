"""A mixture of two noise sets, or of one and random noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.balls import Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator, per_sample
from countermove.unlearnable.data.sources import digest_of
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context, Meter, Surrogate, on_new_pictures, surrogates_of


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Mixed noise, Huang et al. 2021, arXiv:2101.04898.

    Two owners use the same method apart from each other, or one adds random noise to theirs (appendix F, table 5).

    eps:     L-infinity radius of the mixture and of everything in it (paper: 8/255).
    poison:  the method that makes the noise, spelled without eps; one with an L-infinity radius (paper:
             error-minimizing(form=class)).
    partner: "set": a second set of the same poison from another seed; every picture gets one of the two, by the toss of
             a coin that follows its id. "random": uniform random noise in [-eps, eps], new for every picture, is added.

    Differs from the paper: it does not say whether the sum with random noise stays inside eps; here it is cut to eps,
    so that the mixtures are compared at one budget.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "linf"
    streams: ClassVar[bool] = False

    eps: float = 8 / 255
    poison: str = "error-minimizing(form=class)"
    partner: Literal["set", "random"] = "set"

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        part = METHODS.compose("move", self.poison)
        if part.method.norm != "linf":
            raise ConfigError(
                f"mixture: poison = {self.poison!r} is refused: it has no L-infinity radius; take one that has, like "
                "error-minimizing(form=class)"
            )
        if "eps" in part.parts[0].spoken.settings:
            raise ConfigError(
                f"mixture: poison = {self.poison!r} is refused: eps is a setting of the mixture; write it there"
            )

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return SHA-256 over settings, version and files of the poison."""
        return digest_of(METHODS.compose("move", self.poison), rehash=rehash)

    def surrogates(self) -> tuple[Surrogate, ...]:
        """Return the networks that the poison needs."""
        return surrogates_of(self._poison())

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones."""
        contexts = self._contexts(context)
        sets = [self._poison()(batch, context=own) for own in contexts]
        context.kept[self._name(context)] = sets
        context.meter.samples += sum(own.meter.samples for own in contexts)
        context.meter.facts |= {"sets": [own.meter.facts for own in contexts]}
        return self._mixed(batch, sets, context)

    @property
    def on_new(self) -> bool:
        """Return whether the poison makes sense on new pictures."""
        return getattr(self._poison(), "on_new", True)

    def on_test(self, test: Batch, *, clean: Batch, moved: Batch, context: Context) -> Batch | None:
        """Return new pictures with each set's noise, mixed in the same way; None where that is not defined.

        What was published does not show the single sets: a context that did not make them makes them first.
        """
        del moved
        if self._name(context) not in context.kept:
            self(clean, context=context)
        sets = []
        for made, own in zip(context.kept[self._name(context)], self._contexts(context), strict=True):
            sets.append(on_new_pictures(self._poison(), test, clean=clean, moved=made, context=own))
            context.meter.samples += own.meter.samples
        return None if any(found is None for found in sets) else self._mixed(test, sets, context)

    def _mixed(self, batch: Batch, sets: Sequence[Batch], context: Context) -> Batch:
        first = sets[0].pictures
        if self.partner == "set":
            heads = per_sample(context.seed, "mixture", batch.ids, _coin)
            return batch.with_pictures(torch.where(heads, first, sets[1].pictures))

        def draw(source: torch.Generator) -> Tensor:
            return (torch.rand(first.shape[1:], generator=source) * 2 - 1) * self.eps

        noise = first - batch.pictures + per_sample(context.seed, "mixture", batch.ids, draw)
        return batch.with_pictures((batch.pictures + noise.clamp(-self.eps, self.eps)).clamp(0, 1))

    def _poison(self) -> Any:
        return replace(METHODS.compose("move", self.poison).method, eps=self.eps)

    def _contexts(self, context: Context) -> list[Context]:
        """Return what each set is made with: the first as if it were alone, the second from another seed."""
        seeds = [context.seed]
        if self.partner == "set":
            seeds.append(generator(context.seed, "mixture", "second set").initial_seed())
        places = [None if context.folder is None else context.folder / f"set-{i}" for i in range(len(seeds))]
        return [
            replace(context, seed=seed, folder=place, meter=Meter()) for seed, place in zip(seeds, places, strict=True)
        ]

    def _name(self, context: Context) -> str:
        return f"{self!r} with seed {context.seed}"


def _coin(source: torch.Generator) -> Tensor:
    return torch.rand(1, 1, 1, generator=source) < 0.5
