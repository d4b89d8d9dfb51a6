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
    check_places(root, names)
    return [png_place(name) for name in names]


def png_place(name: str) -> PngPlace:
    """Return where one picture goes, a relative path with slashes."""
    path = PurePosixPath(name)
    return PngPlace(str(path.with_suffix("")), name, str(path.with_suffix(".png")))


def check_places(root: Path, names: Sequence[str]) -> None:
    """Refuse names that cannot all be written as PNG; see png_places."""
    taken: dict[str, str] = {}
    for place in map(png_place, names):
        if PurePosixPath(place.out).parts[0] == MANIFEST:
            raise DataError(
                f"a folder called {MANIFEST!r} in {root} would stand where the manifest is written; rename it"
            )
        if place.out in taken:
            raise DataError(
                f"{taken[place.out]} and {place.source} in {root} would both be written as {place.out}; rename one"
            )
        taken[place.out] = place.source
    for out, name in taken.items():
        for folder in PurePosixPath(out).parents:
            if str(folder) in taken:
                raise DataError(
                    f"{taken[str(folder)]} in {root} would be written as {folder}, where the folder of "
                    f"{name} stands; rename one"
                )
