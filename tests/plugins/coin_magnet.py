"""A move that a third party adds to the toy arena through an entry point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Magnet:
    """A magnet under the table, Doe et al. 2031, arXiv:3101.00001.

    pull: share of the guesses that it turns.
    """

    version: ClassVar[int] = 1
    hidden_in: ClassVar[str] = "shape"

    pull: float = 0.5

    @property
    def strength(self) -> float:
        """Return the share of the guesses that are turned."""
        return self.pull
