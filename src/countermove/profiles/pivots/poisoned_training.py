"""Profiles that spoil the profiler that is trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from countermove.errors import ConfigError
from countermove.game.cell import digest
from countermove.pixels.selection import pick
from countermove.profiles.dataset import Profiles
from countermove.profiles.pivot import Additions, Knowledge, Pivot, PivotContext, all_methods


@dataclass(frozen=True, kw_only=True)
class PoisonedTraining:
    """Owners of training profiles pivot, and those who are read later do nothing.

    The thesis names data poisoning by profiles in its outlook. A pivoted profile keeps its label, so what was added
    comes to stand for the wrong value.

    pivot: what they do, spelled as a move; it is made on a profiler of clean profiles.
    share: of the training profiles whose owners take part.
    """

    version: ClassVar[int] = 1
    pivot: str = "nat-i"
    share: float = 1.0

    def __post_init__(self) -> None:
        composition = all_methods().compose("move", self.pivot)
        object.__setattr__(self, "pivot", composition.spelling)
        inner = composition.method
        if isinstance(inner, PoisonedTraining) or type(inner).__name__ == "NoPivot":
            raise ConfigError(f"move 'poisoned-training': pivot = {self.pivot!r} is refused; name a pivot, nat-i say")
        if not 0 < self.share <= 1:
            raise ConfigError(f"move 'poisoned-training': share = {self.share:g} is refused; it lies in 0..1")

    @property
    def changes(self) -> bool:
        """Return whether items are made."""
        return self._inner().changes

    def knows(self) -> Knowledge | None:
        """Return what the pivot must know."""
        return self._inner().knows()

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return SHA-256 over all that the pivot is: its settings and its version."""
        return digest(all_methods().compose("move", self.pivot).identity())

    def takes_part(self, data: Profiles) -> Tensor:
        """Return the rows of the training profiles whose owners pivot."""
        rows = data.train
        taken = pick([data.profile_ids[row] for row in rows.tolist()], self.share, seed=0, purpose="takes part")
        return rows[taken.nonzero()[0]]

    def __call__(self, data: Profiles, movers: Tensor, *, context: PivotContext) -> Additions:
        """Return what the pivot adds."""
        return self._inner()(data, movers, context=context)

    def _inner(self) -> Pivot:
        return all_methods().compose("move", self.pivot).method
