"""Who changes tools."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from countermove.errors import ConfigError
from countermove.faces.cloak import CloakContext, Sees
from countermove.game.cell import digest
from countermove.pixels.batch import Batch

if TYPE_CHECKING:
    from countermove.game.methods import Composition


@dataclass(frozen=True, kw_only=True)
class InTurn:
    """Photos of earlier times wear an earlier cloak, Radiya-Dixit et al. 2022, arXiv:2106.14851.

    Each mover's photos, ordered by id, are divided into as many equal parts as there are cloaks, and nothing that was
    published is ever changed again: switching to a better tool late leaves the first part as it is.

    cloaks: spelled as moves, the earliest first; none stands for photos published before there was any.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[None] = None
    cloaks: tuple[str | None, ...] = ("none", "pgd")

    def __post_init__(self) -> None:
        if len(self.cloaks) < 2:
            raise ConfigError("move 'in-turn': name two cloaks or more, the earliest first")
        read = self._read()
        if any(isinstance(composition.method, InTurn) for composition in read):
            raise ConfigError("move 'in-turn' cannot stand inside itself; name all cloaks in one list")
        object.__setattr__(self, "cloaks", tuple(composition.spelling for composition in read))

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return SHA-256 over settings, versions and files of all cloaks."""
        return digest([composition.identity(rehash=rehash) for composition in self._read()])

    @property
    def sees(self) -> Sees:
        """Return what the cloaks depend on, at least on which of the owner's photos come before."""
        return "others" if any(method.sees == "others" for method in self._methods()) else "person"

    def surrogates(self) -> tuple[str, ...]:
        """Return the extractors of all cloaks, those of the first one first."""
        return tuple(name for cloak in self._methods() for name in cloak.surrogates())

    def __call__(self, batch: Batch, *, context: CloakContext) -> Batch:
        """Return the cloaked photos."""
        methods = self._methods()
        moved, part, first = batch.pictures.clone(), self._parts(batch), 0
        for number, method in enumerate(methods):
            its = slice(first, first + len(method.surrogates()))
            first = its.stop
            rows = (part == number).nonzero().flatten()
            if len(rows):
                own = replace(context, embedders=context.embedders[its], names=context.names[its])
                moved[rows] = method(batch.select(rows), context=own).pictures
        return batch.with_pictures(moved)

    def _parts(self, batch: Batch) -> torch.Tensor:
        """Return which cloak every photo wears, int64 [N]."""
        part = torch.empty(len(batch), dtype=torch.int64)
        for person in batch.labels.unique().tolist():
            rows = (batch.labels == person).nonzero().flatten().tolist()
            rows.sort(key=lambda i: batch.ids[i])
            part[rows] = torch.arange(len(rows)) * len(self.cloaks) // len(rows)
        return part

    def _read(self) -> tuple[Composition, ...]:
        from countermove.faces.methods import METHODS  # it lists this one, too

        # none in a list that is not quoted is read as nothing at all
        return tuple(METHODS.compose("move", spelled or "none") for spelled in self.cloaks)

    def _methods(self) -> list:
        return [composition.method for composition in self._read()]
