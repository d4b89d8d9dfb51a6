"""Where the pictures of a folder go when they are written to another one as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from countermove.errors import DataError
from countermove.pixels.published import MANIFEST


class PngPlace(NamedTuple):
    """A picture's id (its path without the suffix), and where it comes from and goes to; all relative."""

    id: str
    source: str
    out: str


def png_places(root: Path, names: Sequence[str]) -> list[PngPlace]:
    """Return where each picture goes: to the same path, its suffix replaced by .png.

    Args:
        root: the folder they lie in, for messages.
        names: relative paths with slashes.

    Raises:
        DataError: when two pictures would get one name, or one a name that is needed for something else.
    """
    places = [
        PngPlace(str(PurePosixPath(n).with_suffix("")), n, str(PurePosixPath(n).with_suffix(".png"))) for n in names
    ]
    taken: dict[str, str] = {}
    for place in places:
        if PurePosixPath(place.out).parts[0] == MANIFEST:
            raise DataError(
                f"a folder called {MANIFEST!r} in {root} would stand where the manifest is written; rename it"
            )
        if place.out in taken:
            raise DataError(
                f"{taken[place.out]} and {place.source} in {root} would both be written as {place.out}; rename one"
            )
        taken[place.out] = place.source
    for place in places:
        for folder in PurePosixPath(place.out).parents:
            if str(folder) in taken:
                raise DataError(
                    f"{taken[str(folder)]} in {root} would be written as {folder}, where the folder of "
                    f"{place.source} stands; rename one"
                )
    return places
