"""Several pivots in one profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from countermove.errors import ConfigError
from countermove.game.cell import digest
from countermove.profiles.dataset import Profiles
from countermove.profiles.pivot import Additions, Knowledge, PivotContext, all_methods


@dataclass(frozen=True, kw_only=True)
class Several:
    """Several pivots by the same people, each made for the profile as it was.

    The thesis names more than one pivot, and going back and forth, in its outlook: back-off then has no one time to go
    back to.

    pivots: spelled as moves, two or more; where they stand is each one's own `place`. Those that know something must
            know the same.
    """

    version: ClassVar[int] = 1
    pivots: tuple[str, ...] = ("nat-i(additions=0.5, place=start)", "nat-i(additions=0.5)")

    def __post_init__(self) -> None:
        read = [all_methods().compose("move", pivot) for pivot in self.pivots]
        methods = [composition.method for composition in read]
        refused = [one.spelling for one in read if one.is_none or isinstance(one.method, Several)]
        refused += [one.spelling for one in read if hasattr(one.method, "takes_part")]
        if len(read) < 2 or refused:
            raise ConfigError(f"move 'several': pivots = {list(self.pivots)} is refused; name two or more plain pivots")
        if len({method.knows() for method in methods if method.knows() is not None}) > 1:
            raise ConfigError("move 'several': its pivots know different things; give them one box, model and features")
        object.__setattr__(self, "pivots", tuple(composition.spelling for composition in read))

    @property
    def changes(self) -> bool:
        """Return whether items are made."""
        return any(method.changes for method in self._methods())

    def knows(self) -> Knowledge | None:
        """Return what they must know."""
        return next((known for method in self._methods() if (known := method.knows()) is not None), None)

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return SHA-256 over all that the pivots are: their settings and their versions."""
        return digest([all_methods().compose("move", pivot).identity() for pivot in self.pivots])

    def __call__(self, data: Profiles, movers: Tensor, *, context: PivotContext) -> Additions:
        """Return what all of them add."""
        made = [method(data, movers, context=context) for method in self._methods()]
        mover = torch.cat([one.mover for one in made])
        order = mover.argsort(stable=True)
        parts = {name: torch.cat([getattr(one, name) for one in made])[order] for name in ("items", "source", "when")}
        return Additions(mover=mover[order], **parts)

    def _methods(self) -> list[Any]:
        return [all_methods().compose("move", pivot).method for pivot in self.pivots]
