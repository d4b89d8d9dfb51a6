"""Which pictures of a folder `protect` changes, and where each of them goes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from countermove.pixels.places import png_places
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
        Place(png.id, entry.label, png.source, png.out)
        for png, entry in zip(png_places(source, [entry.id for entry in entries]), entries, strict=True)
    ]
    return tuple(classes), places
