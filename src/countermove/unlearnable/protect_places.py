"""Which pictures of a folder `protect` changes, and where each of them goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, overload

from countermove.pixels.places import check_places, png_place
from countermove.unlearnable.data.folders import class_names, class_of


class Place(NamedTuple):
    """One picture's id, label, and where it comes from and goes to, both relative."""

    id: str
    label: int
    source: str
    out: str


class Places(Sequence[Place]):
    """The places of many pictures. Only their names are kept: a hundred bytes a picture."""

    def __init__(self, classes: Sequence[str], names: Sequence[str]) -> None:
        self._names = names
        self._number = {name: i for i, name in enumerate(classes)}

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, at: int) -> Place: ...
    @overload
    def __getitem__(self, at: slice) -> Places: ...
    def __getitem__(self, at: int | slice) -> Place | Places:
        if isinstance(at, slice):
            return Places(list(self._number), self._names[at])
        png = png_place(self._names[at])
        return Place(png.id, self._number[class_of(png.source)], png.source, png.out)


def find_places(source: Path) -> tuple[tuple[str, ...], Places]:
    """List the pictures of a tree of class folders and where each goes.

    Returns:
        The classes, sorted, and the places in the order of their sources.

    Raises:
        DataError: when a picture lies in no class folder, links lead outside, or two pictures would get one name.
    """
    classes, names = class_names(source)
    check_places(source, names)
    return tuple(classes), Places(classes, names)
