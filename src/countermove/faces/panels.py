"""This arena's parts of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from countermove.game.arena import Panel

if TYPE_CHECKING:
    from countermove.faces.arena import Faces
    from countermove.game.results import Results
    from countermove.game.store import RunFolder


def panels(arena: Faces, run: RunFolder, results: Results) -> Sequence[Panel]:
    """Return what the audit has something to show for."""
    return []
