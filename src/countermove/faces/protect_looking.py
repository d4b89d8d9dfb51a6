"""What `protect` sees in a folder: which photos there are, whose they are, and the faces in each.

Legend: F faces of a photo, S side of a crop.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from countermove.errors import DataError
from countermove.faces.data.reading import LEAST_SIDE
from countermove.faces.detection import Detector, Several, choose_faces
from countermove.faces.protect_crops import cut, is_gray, whole
from countermove.pixels.files import walk_pictures
from countermove.pixels.places import PngPlace, png_places

LONGEST_JPEG = 65_500
Box = tuple[float, float, float, float]


class Photo(NamedTuple):
    """A photo with faces.

    faces:    their boxes and angles.
    matrices: [F, 2, 3]; crops: 8-bit, [F, 3, S, S].
    gray:     whether it has no colours.
    todo:     whether it is still to be written.
    """

    place: PngPlace
    sha256: str
    faces: list[tuple[Box, float]]
    matrices: Tensor
    crops: Tensor
    gray: bool
    notes: list[str]
    todo: bool


def find_photos(source: Path) -> list[PngPlace]:
    """List the photos of a tree and where each goes.

    Raises:
        DataError: when there is none, links lead outside, or two would get one name.
    """
    names = walk_pictures(source)
    if not names:
        raise DataError(f"{source} holds no photos; expected .jpg, .png, .webp or .bmp files, in folders or not")
    return png_places(source, names)


def person_of(place: PngPlace) -> str:
    """Return whose folder of the source a photo lies in; "." for the root's."""
    first, slash, _ = place.source.partition("/")
    return first if slash else "."


def look(
    picture: np.ndarray,
    place: PngPlace,
    finder: Detector | None,
    *,
    name: str,
    several: Several,
    side: Callable[[], int],
) -> Photo | str:
    """Return a photo's faces, or what is to be said where there is none.

    Args:
        picture: uint8 [H, W, 3].
        place: of the photo.
        finder: None where the photo itself is the crop.
        name: what an error message calls it.
        several: which faces are taken.
        side: of the crops; asked only where there is a face.

    Raises:
        DataError: on a photo that is too small or too long.
    """
    height, width = picture.shape[:2]
    if max(height, width) > LONGEST_JPEG:
        raise DataError(
            f"{name} has {width} x {height} pixels; a JPEG, in which cloaks are measured, has at most "
            f"{LONGEST_JPEG:,} on a side. Cut it"
        )
    notes: list[str] = []
    if finder is None:
        if min(height, width) < LEAST_SIDE:
            raise DataError(f"{name} has {width} x {height} pixels; a face needs at least {LEAST_SIDE} x {LEAST_SIDE}")
        found = [((0.0, 0.0, float(width), float(height)), 0.0)]
        matrices = whole(height, width, side())[None]
    else:
        chosen, notes = choose_faces(finder(picture), name=place.source, several=several)
        if not chosen:
            return "; ".join(notes)
        found = [(_rounded(face.box), float(face.angle)) for face in chosen]
        matrices = torch.stack([face.matrix(side()) for face in chosen])
    crops = torch.stack([cut(picture, matrix, side()) for matrix in matrices])
    return Photo(place, "", found, matrices, crops, is_gray(picture), notes, True)


def _rounded(box: Box) -> Box:
    x, y, width, height = (round(number, 1) for number in box)
    return x, y, width, height
