"""Which pictures of a folder `protect` changes, and where each of them goes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import NamedTuple

from countermove.errors import DataError
from countermove.pixels.published import MANIFEST
from countermove.unlearnable.data.folders import class_entries


class Place(NamedTuple):
    """One picture's id, label, and where it comes from and goes to, both relative."""

    id: str
    label: int
    source: str
    out: str


def find_places(source: Path) -> tuple[tuple[str, ...], list[Place]]:
    """List the pictures of a tree of class folders and where each goes.

    Returns:
        The classes, sorted, and the places in the order of their sources.

    Raises:
        DataError: when a picture lies in no class folder, links lead outside, or two pictures would get one name.
    """
    classes, entries = class_entries(source)
    places = [
        Place(str(PurePosixPath(e.id).with_suffix("")), e.label, e.id, str(PurePosixPath(e.id).with_suffix(".png")))
        for e in entries
    ]
    if MANIFEST in classes:
        raise DataError(f"a class called {MANIFEST!r} would stand where the manifest is written; rename the folder")
    taken: dict[str, str] = {}
    for place in places:
        if place.out in taken:
            raise DataError(
                f"{taken[place.out]} and {place.source} in {source} would both be written as {place.out}; rename one"
            )
        taken[place.out] = place.source
    for place in places:
        for folder in PurePosixPath(place.out).parents:
            if str(folder) in taken:
                raise DataError(
                    f"{taken[str(folder)]} in {source} would be written as {folder}, where the folder of "
                    f"{place.source} stands; rename one"
                )
    return tuple(classes), places
