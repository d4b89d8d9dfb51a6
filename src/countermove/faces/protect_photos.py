"""The work of `protect` on photos: looking for faces, cloaking a few of them at a time, writing and measuring.

Legend: F faces of a photo, S side of a crop.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from countermove.errors import DataError
from countermove.faces.artifacts import cloak_and_round
from countermove.faces.cloak import Cloak
from countermove.faces.detection import Detector, Several
from countermove.faces.protect_crops import cut, largest_change, put_back
from countermove.faces.protect_looking import Photo, cut_out, look, person_of
from countermove.faces.protect_surrogates import Opened, Surrogates, Watch
from countermove.pixels.balls import Ball
from countermove.pixels.batch import Batch
from countermove.pixels.decode import decode_picture
from countermove.pixels.files import OnBroken, read_bytes
from countermove.pixels.places import PngPlace
from countermove.pixels.published import Published, sha256
from countermove.pixels.rounding import to_float

NoFace = Literal["report", "skip", "copy"]

CROPS_AT_ONCE = 4
"""Networks see exactly so many crops in a pass, the last ones repeated where there are fewer: kernels are chosen by a
batch's shape, and with one shape a photo's cloak does not depend on which photos come with it. One thread, 64 pixels:
LowKey takes as long a crop as with 16, PGD a fifth longer."""

PORTION = 2 * CROPS_AT_ONCE
"""Faces after which photos are written: what a kill can cost."""

QUALITY = 75


@dataclass(frozen=True, kw_only=True)
class Found:
    """A face of a photo in the manifest.

    box:     x, y, width, height in pixels; angle: in degrees, as the detector knows it.
    crafted, moved, moved_jpeg_75: see the manifest's header; None for a cloak without extractors.
    """

    box: tuple[float, float, float, float]
    angle: float = 0.0
    crafted: float | None = None
    moved: float | None = None
    moved_jpeg_75: float | None = None


@dataclass(kw_only=True)
class Cloaking:
    """One call: what does not change while it runs, and what it counts.

    finder:  None where photos are crops already.
    skipped, undone: messages by id, of photos that were left out as asked, and of those that should not have been.
    noted:   what else is to be said of photos.
    """

    source: Path
    places: list[PngPlace]
    method: Cloak
    surrogates: Surrogates
    folder: Published
    finder: Detector | None
    several: Several
    no_face: NoFace
    on_broken: OnBroken
    watch: Watch
    written: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    undone: dict[str, str] = field(default_factory=dict)
    noted: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Cloak and write what is not finished."""
        if self.method.sees == "photo":
            self._one_after_the_other()
        else:
            self._one_person_after_the_other()
        self.watch("protecting", len(self.places), len(self.places))

    def _one_after_the_other(self) -> None:
        waiting: list[Photo] = []
        for i, place in enumerate(self.places):
            self.watch("protecting", i, len(self.places))
            photo = self._look(place)
            waiting += [] if photo is None else [photo]
            if sum(len(one.crops) for one in waiting) >= PORTION:
                self._finish(waiting)
                waiting = []
        if waiting:
            self._finish(waiting)

    def _one_person_after_the_other(self) -> None:
        """Cloak all crops of a person together, also those of photos that are finished: they are made from all."""
        done = 0
        for _, of_person in groupby(sorted(self.places, key=person_of), key=person_of):
            places = list(of_person)
            fresh = {place: photo for place in places if (photo := self._look(place)) is not None}
            if fresh:
                earlier = {
                    place: photo
                    for place in places
                    if place not in fresh
                    and place.id in self.folder.lines
                    and (photo := self._look(place, again=True)) is not None
                }
                self._finish([{**fresh, **earlier}[place] for place in places if place in fresh or place in earlier])
            done += len(places)
            self.watch("protecting", done, len(self.places))

    @cached_property
    def opened(self) -> Opened:
        """Return the extractors; trained or read when the first face needs them."""
        opened = self.surrogates.open(self.watch)
        if opened.names:
            self.folder.note([{"surrogates": list(opened.by_name), "side": opened.side, "apart": opened.apart()}])
        return opened

    @cached_property
    def _without_faces(self) -> dict[str, tuple[str, str]]:
        """Return what earlier calls said of photos without a face: hash of the source and message by id."""
        notes = [note for note in self.folder.notes if "no_face" in note]
        return {note["no_face"]: (note["source_sha256"], note["said"]) for note in notes}

    def _look(self, place: PngPlace, *, again: bool = False) -> Photo | None:
        """Read a photo and cut out its faces; None where there is nothing to do, or nothing that can be done."""
        path = self.source / place.source
        try:
            data = read_bytes(path)
            sha = sha256(data)
            line = self.folder.finished(place.id, place.out, sha)
            if line is not None and not (again and (line.facts or {}).get("faces")):
                if not (line.facts or {}).get("faces") and self.no_face == "report":
                    self.undone[place.id] = f"{place.source}: no face found; an unprotected copy lies in the output"
                return None
            known = self._without_faces.get(place.id)
            if known is not None and known[0] == sha and self.no_face != "copy":
                self._left_out(place, known[1])
                return None
            picture = decode_picture(data, name=str(path))
            seen = look(picture, self.finder, name=str(path), source=place.source, several=self.several)
        except DataError as error:
            if self.on_broken == "fail":
                raise
            self.skipped[place.id] = str(error)
            return None
        if not seen.faces:
            self._without_face(place, sha, "; ".join(seen.notes), picture)
            return None
        self.noted += seen.notes
        return cut_out(picture, seen, place, sha256=sha, side=self.opened.side, todo=line is None)

    def _without_face(self, place: PngPlace, sha: str, said: str, picture: np.ndarray) -> None:
        if self.no_face == "copy":
            self._record([self._written(place, sha, picture, picture, faces=[], notes=[said])])
            return
        self.folder.note([{"no_face": place.id, "source": place.source, "source_sha256": sha, "said": said}])
        self._without_faces[place.id] = (sha, said)
        self._left_out(place, said)

    def _left_out(self, place: PngPlace, said: str) -> None:
        (self.skipped if self.no_face == "skip" else self.undone)[place.id] = f"{said}; left out"

    def _finish(self, photos: Sequence[Photo]) -> None:
        """Cloak the faces of some photos, write those that are to be written and measure what was written."""
        crops = torch.cat([photo.crops for photo in photos])
        cloaked = self._cloaked(photos, crops)
        changes = to_float(cloaked) - to_float(crops)
        ball = None if self.method.norm is None else Ball(norm=self.method.norm, radius=getattr(self.method, "eps"))  # noqa: B009
        records: list[dict[str, Any]] = []
        seen: list[Tensor] = []
        for photo, rows in zip(photos, torch.arange(len(crops)).split([len(p.crops) for p in photos]), strict=True):
            if not photo.todo:
                continue
            try:
                picture = self._read_again(photo)
            except DataError as error:
                if self.on_broken == "fail":
                    raise
                self.skipped[photo.place.id] = str(error)
                continue
            stored = put_back(picture, changes[rows], photo.matrices, ball)
            jpeg = _after_jpeg(stored)
            side = self.opened.side
            for matrix, row in zip(photo.matrices, rows.tolist(), strict=True):
                seen += [crops[row], cloaked[row], cut(stored, matrix, side), cut(jpeg, matrix, side)]
            records.append(self._written(photo.place, photo.sha256, picture, stored, photo.faces, photo.notes))
        if seen and self.opened.names:
            self._measure([face for record in records for face in record["facts"]["faces"]], torch.stack(seen))
        self._record(records)

    def _read_again(self, photo: Photo) -> np.ndarray:
        """Return a photo's pixels; they are not kept while others are looked at."""
        path = self.source / photo.place.source
        data = read_bytes(path)
        if sha256(data) != photo.sha256:
            raise DataError(f"{path} was changed while it was being protected; run the same command again")
        return decode_picture(data, name=str(path))

    def _cloaked(self, photos: Sequence[Photo], crops: Tensor) -> Tensor:
        """Return 8-bit cloaked crops."""
        owners = [
            (photo.place.id, person_of(photo.place), number) for photo in photos for number in range(len(photo.crops))
        ]
        ids = tuple(f"{photo}#{number}" if number else photo for photo, _, number in owners)
        # who else is in a photo is somebody else
        people = [name if number == 0 else f"{photo}#{number}" for photo, name, number in owners]
        classes = tuple(dict.fromkeys(people))
        batch = Batch(
            pictures=to_float(crops),
            labels=torch.tensor([classes.index(name) for name in people]),
            ids=ids,
            classes=classes,
        )
        if self.method.sees != "photo":
            return cloak_and_round(self.method, batch, self.opened.context)[0]
        cloaked = torch.empty_like(crops)
        gray = torch.tensor([photo.gray for photo in photos for _ in photo.crops])
        for context, alike in ((self.opened.context, ~gray), (self.opened.gray_context, gray)):
            for rows in alike.nonzero().flatten().split(CROPS_AT_ONCE):
                if len(rows):
                    part, _ = cloak_and_round(self.method, batch.select(_filled(rows)), context)
                    cloaked[rows] = part[: len(rows)]
        return cloaked

    def _measure(self, faces: Sequence[dict[str, Any]], seen: Tensor) -> None:
        """Write down how far every face was moved; of each there is the original and three later forms."""
        rows = torch.arange(len(seen)).split(CROPS_AT_ONCE)
        features = torch.cat([self.opened.features(seen[_filled(row)])[: len(row)] for row in rows])
        features = features.view(len(faces), 4, -1)
        for number, name in enumerate(("crafted", "moved", "moved_jpeg_75"), start=1):
            moved = self.opened.distances(features[:, number], features[:, 0])
            for face, distance in zip(faces, moved.tolist(), strict=True):
                face[name] = round(distance, 3)

    def _written(
        self,
        place: PngPlace,
        sha: str,
        picture: np.ndarray,
        stored: np.ndarray,
        faces: Sequence[tuple[tuple[float, float, float, float], float]],
        notes: Sequence[str],
    ) -> dict[str, Any]:
        """Write a photo and return its line of the manifest."""
        eps = None if self.method.norm is None else getattr(self.method, "eps")  # noqa: B009
        largest = largest_change(stored, picture) / 255
        return {
            "id": place.id,
            "source": place.source,
            "out": place.out,
            "person": person_of(place),
            "source_sha256": sha,
            "out_sha256": self.folder.write(place.out, stored),
            "budget": largest,
            "kept": None if eps is None else largest <= eps + 1e-6,
            "facts": {"faces": [asdict(Found(box=box, angle=angle)) for box, angle in faces], "notes": list(notes)},
        }

    def _record(self, records: Sequence[dict[str, Any]]) -> None:
        self.folder.note(records)
        self.written += len(records)


def _filled(rows: Tensor) -> Tensor:
    """Return as many rows as networks see at once, the last one repeated."""
    return torch.cat([rows, rows[-1:].expand(CROPS_AT_ONCE - len(rows))])


def _after_jpeg(picture: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY)
    return decode_picture(buffer.getvalue(), name="a photo after JPEG")
