"""What `protect` sees in a folder: which photos there are, whose they are, and the faces in each.

Legend: F faces of a photo, S side of a crop.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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


class Seen(NamedTuple):
    """The faces of a photo: boxes and angles, matrices for crops of a side that is still to be known, and notes."""

    faces: list[tuple[Box, float]]
    matrices: list[Callable[[int], Tensor]]
    notes: list[str]


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


def look(picture: np.ndarray, finder: Detector | None, *, name: str, source: str, several: Several) -> Seen:
    """Find the faces of a photo, uint8 [H, W, 3], that are to be cloaked.

    Args:
        picture: the photo.
        finder: None where the photo itself is the crop.
        name: what an error message calls it.
        source: what the notes call it.
        several: which faces are taken.

    Raises:
        DataError: on a photo that is too small or too long.
    """
    height, width = picture.shape[:2]
    if max(height, width) > LONGEST_JPEG:
        raise DataError(
            f"{name} has {width} x {height} pixels; a JPEG, in which cloaks are measured, has at most "
            f"{LONGEST_JPEG:,} on a side. Cut it"
        )
    if finder is not None:
        faces, notes = choose_faces(finder(picture), name=source, several=several)
        return Seen([(_rounded(face.box), float(face.angle)) for face in faces], [f.matrix for f in faces], notes)
    if min(height, width) < LEAST_SIDE:
        raise DataError(f"{name} has {width} x {height} pixels; a face needs at least {LEAST_SIDE} x {LEAST_SIDE}")
    return Seen([((0.0, 0.0, float(width), float(height)), 0.0)], [partial(whole, height, width)], [])


def cut_out(picture: np.ndarray, seen: Seen, place: PngPlace, *, sha256: str, side: int, todo: bool) -> Photo:
    """Return the photo with the crops of the faces that were seen."""
    matrices = torch.stack([matrix(side) for matrix in seen.matrices])
    crops = torch.stack([cut(picture, matrix, side) for matrix in matrices])
    return Photo(place, sha256, seen.faces, matrices, crops, is_gray(picture), seen.notes, todo)


def _rounded(box: Box) -> Box:
    x, y, width, height = (round(number, 1) for number in box)
    return x, y, width, height
