"""Finding faces in ordinary photos, before they are aligned. A file without one, or with several, is never silent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.faces.alignment import similarity, square, template

TINY = 30
"""Faces of fewer pixels a side are left out, as Fawkes does: nothing can be recognised in them."""

Several = Literal["largest", "all"]
"""Which faces of a photo with several are taken."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """Where a face is in a photo.

    box:        x, y, width, height in pixels, edge to edge, before the face is turned around the box's middle.
    points:     float [5, 2], eyes, nose and corners of the mouth, left before right; None where there are none.
    confidence: the detector's own, larger is surer; not comparable between detectors.
    angle:      how far the face is turned counterclockwise, in degrees, as far as the detector knows.
    """

    box: tuple[float, float, float, float]
    points: Tensor | None
    confidence: float
    angle: float = 0.0

    @property
    def length(self) -> float:
        """Return the longer side of the box."""
        return max(self.box[2:])

    def matrix(self, side: int) -> Tensor:
        """Return what brings the face into a crop of that side, float64 [2, 3]; without points a square crop."""
        if self.points is not None:
            return similarity(self.points.double()[None], template(side))[0]
        boxes, angles = torch.tensor([self.box], dtype=torch.float64), torch.tensor([self.angle])
        return square(boxes, side, angles=angles)[0]


class Detector(Protocol):
    """What finds the faces of a photo."""

    def __call__(self, picture: np.ndarray) -> list[Face]:
        """Find the faces in uint8 [H, W, 3], RGB, the largest first."""
        ...


@dataclass(frozen=True, kw_only=True)
class CascadeDetector:
    """OpenCV's boosted cascade of Haar features for frontal faces, Viola and Jones 2001; `alt2` by R. Lienhart.

    Boxes only, no points: alignment is a square crop. It comes with OpenCV 4 and needs no other file; the wheels of
    OpenCV 5 are without it. Profiles, masks and tilts beyond some 15 degrees are missed; tilted and lying faces are
    looked for where there is no upright one.

    200 photos of LFW (250 x 250, one thread): one face 96.5 %, several 3.5 %, none 0; the largest is the person meant
    in all; 50 ms each. LFW itself was collected with a Viola-Jones detector, so other photos will do worse. Turned by
    10, 15, 20 and 30 degrees, 94, 80, 38 and 1 % are found as upright. With the turns below (300 ms), of 100 photos
    turned by 30 degrees 94 are found so, at 45 78, at 60 few, at 90 all, at 180 93; the other 7 are taken for upright.
    Of 196 pictures of landmarks (Wikimedia), 3 have something that is taken for an upright face, and 1 to 3 at each
    turn.

    angles:    turns of the face, in degrees counterclockwise, that are tried where no upright one was found; the one
               with the surest face is taken.
    neighbors: windows that must agree on a face. 3 gives 5.5 % with several on LFW, 8 misses 1 %.
    smallest:  side of the smallest face that is looked for, in pixels.
    longest:   photos are shrunk to this many pixels on the longer side for the search; faces under 1.6 % of that side
               are lost.
    """

    angles: tuple[float, ...] = (30.0, -30.0, 90.0, -90.0, 180.0)
    neighbors: int = 5
    smallest: int = 20
    longest: int = 1280

    def __post_init__(self) -> None:
        if self.neighbors < 1 or self.smallest < 20 or self.longest < self.smallest:
            raise ConfigError(
                f"neighbors={self.neighbors}, smallest={self.smallest}, longest={self.longest}: "
                "give neighbors of at least 1, smallest of at least 20 (the cascade's own), a longest above it"
            )

    def __call__(self, picture: np.ndarray) -> list[Face]:
        """Find the faces in uint8 [H, W, 3], RGB, the largest first.

        Raises:
            DataError: when this is no such picture.
            ConfigError: when OpenCV is absent, or has no cascades.
        """
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise DataError(f"a photo must be uint8 [H, W, 3]; got {picture.dtype} {list(picture.shape)}")
        cv2 = _opencv()
        cascade = _cascade(cv2)
        gray = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
        shrunk = min(1.0, self.longest / max(gray.shape))
        if shrunk < 1:
            gray = cv2.resize(gray, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA)
        scale = np.array([picture.shape[1] / gray.shape[1], picture.shape[0] / gray.shape[0]])
        found = self._at(cv2, cascade, gray, scale, 0.0)
        if not found:
            turned = [self._at(cv2, cascade, gray, scale, angle) for angle in self.angles]
            found = max(turned, key=lambda faces: max((face.confidence for face in faces), default=0.0), default=[])
        return sorted(found, key=lambda face: (-face.length, -face.confidence, face.box))

    def _at(self, cv2: Any, cascade: Any, gray: np.ndarray, scale: np.ndarray, angle: float) -> list[Face]:
        turned, back = _turned(cv2, gray, angle)
        boxes, counts = cascade.detectMultiScale2(
            cv2.equalizeHist(turned), 1.1, self.neighbors, minSize=(self.smallest, self.smallest)
        )
        return [
            Face(box=_box(box, back, scale), points=None, confidence=float(count), angle=angle)
            for box, count in zip(boxes, counts, strict=True)
        ]


def find_faces(picture: np.ndarray, *, detector: Detector | None = None) -> list[Face]:
    """Find the faces in uint8 [H, W, 3], RGB, the largest first, with OpenCV's cascade unless another is given."""
    return (detector or CascadeDetector())(picture)


def choose_faces(faces: Sequence[Face], *, name: str, several: Several = "largest") -> tuple[list[Face], list[str]]:
    """Return the faces of a photo that are worked on, and what must be said of the photo.

    Said are: no face, a tiny one that is left out, several and which is taken, a tilted or lying one.

    Args:
        faces:   what a detector found.
        name:    of the photo, for the notes.
        several: take the largest, or all.
    """
    notes = []
    kept = sorted((face for face in faces if face.length >= TINY), key=lambda face: -face.length)
    if tiny := len(faces) - len(kept):
        notes.append(f"{name}: {_count(tiny)} under {TINY} pixels left out")
    if not kept:
        notes.append(f"{name}: no face found" if not faces else f"{name}: no face of at least {TINY} pixels")
    if len(kept) > 1:
        notes.append(f"{name}: {_count(len(kept))}, {'all' if several == 'all' else 'the largest'} taken")
        kept = kept if several == "all" else kept[:1]
    for angle in dict.fromkeys(face.angle for face in kept if face.angle):
        notes.append(f"{name}: found only after turning the photo by {-angle:+g} degrees; the crop is turned upright")
    return kept, notes


def _count(faces: int) -> str:
    return "1 face" if faces == 1 else f"{faces} faces"


def _opencv() -> Any:
    try:
        return import_module("cv2")
    except ImportError as error:
        raise ConfigError(
            f"finding faces needs OpenCV, which cannot be imported ({error}); run: pip install 'countermove[faces]', "
            "or bring photos that are already aligned"
        ) from error


def _cascade(cv2: Any) -> Any:
    path = Path(cv2.data.haarcascades) / "haarcascade_frontalface_alt2.xml"
    if not hasattr(cv2, "CascadeClassifier") or not path.is_file():
        raise ConfigError(
            f"OpenCV {cv2.__version__} comes without face cascades, as version 5 does; "
            "run: pip install 'opencv-python-headless>=4.9,<5', or bring photos that are already aligned"
        )
    return cv2.CascadeClassifier(str(path))


def _turned(cv2: Any, gray: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Turn a picture clockwise on a canvas that holds all of it; also the matrix [2, 3] that takes points back."""
    height, width = gray.shape
    # Quarter turns are exact, so that they do not blur.
    cos, sin = round(math.cos(math.radians(angle)), 12), round(math.sin(math.radians(angle)), 12)
    size = (round(width * abs(cos) + height * abs(sin)), round(width * abs(sin) + height * abs(cos)))
    turn = np.array([[cos, -sin], [sin, cos]])
    middle, aim = (np.array([width, height]) - 1) / 2, (np.array(size) - 1) / 2
    back = np.hstack([turn.T, (middle - turn.T @ aim)[:, None]])
    if angle == 0:
        return gray, back
    there = np.hstack([turn, (aim - turn @ middle)[:, None]])
    return cv2.warpAffine(gray, there, size), back


def _box(box: np.ndarray, back: np.ndarray, scale: np.ndarray) -> tuple[float, float, float, float]:
    """Return a box of the turned and shrunk picture around the same middle of the photo."""
    x, y, width, height = (float(number) for number in box)
    middle = back @ np.array([x + width / 2 - 0.5, y + height / 2 - 0.5, 1]) + 0.5
    size = np.array([width, height]) * scale
    left, top = middle * scale - size / 2
    return float(left), float(top), float(size[0]), float(size[1])
