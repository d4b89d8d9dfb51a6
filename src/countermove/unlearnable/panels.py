"""This arena's parts of the page: pictures before and after, and where in the spectrum the noise lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from countermove.game.arena import Panel

if TYPE_CHECKING:
    from countermove.game.results import Results
    from countermove.game.store import RunFolder
    from countermove.unlearnable.arena import Unlearnable


def panels(arena: Unlearnable, run: RunFolder, results: Results) -> Sequence[Panel]:
    """Return the arena's panels."""
    return ()
