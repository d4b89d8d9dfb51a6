"""One's own photos: a folder a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from countermove.errors import DataError, did_you_mean
from countermove.faces.data.reading import PhotoFile, check_settings, photo_files, read_photos
from countermove.game.content import fingerprint_files, locate
from countermove.pixels.decode import Limits
from countermove.pixels.files import OnBroken

if TYPE_CHECKING:
    from countermove.faces.gallery import Faces

PARTS = ("published", "test", "public")


@dataclass(frozen=True, kw_only=True)
class IdentityFolders:
    """Your own aligned photos: one folder a person.

    Either PATH/PERSON/…, from which movers and their test photos are chosen; or PATH/published/PERSON/… and
    PATH/test/PERSON/…, whose people are the movers, and PATH/public/PERSON/… for the others, if there are any. Files in
    deeper folders belong to the person above them; where a person has a folder `face`, only that is read, as FaceScrub
    and PubFig keep whole photos beside it. PNG, JPEG, WebP and BMP; ids are the paths below PATH. Faces are neither
    found nor aligned here. Names that begin with a dot are passed over. A photo that stands in published and in test is
    refused.

    path:          the folder, as it stands or below the data folder.
    side:          photos become side x side.
    crop:          side of the centre square that is cut out before, in pixels; without it, the largest there is.
    movers:        how many people publish, chosen by name and seed; without it, a third of them, at least two. Not with
                   published and test.
    min_images:    people with fewer different photos are left out and named in the notes.
    test_fraction: share of each mover's photos that are tested, chosen by id and seed. Not with published and test.
    split_seed:    another seed chooses other movers and test photos.
    on_broken:     "fail" stops at a photo that is broken or too small, "skip" leaves it out and names it in the notes.
    max_pixels:    the largest photo that is decoded.
    """

    version: ClassVar[int] = 1
    path: str
    side: int = 64
    crop: int | None = None
    movers: int | None = None
    min_images: int = 4
    test_fraction: float = 0.3
    split_seed: int = 0
    on_broken: OnBroken = "fail"
    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        check_settings("identities", self, crop=8, movers=2, min_images=1, max_pixels=1)

    def __call__(self, *, root: Path | None = None) -> Faces:
        """Read all photos into memory.

        Raises:
            DataError: when the layout is another, a photo is broken or too small (unless those are to be skipped), a
                test photo is published too, or too few people or photos are left.
        """
        from countermove.faces.gallery import open_faces, open_split_faces

        folder = locate(self.path, root)
        parts = self._parts(folder)
        listed = [file for part in parts.values() for file in part]
        files, photos, broken = read_photos(
            listed,
            side=self.side,
            crop=self.crop,
            limits=Limits(max_pixels=self.max_pixels),
            on_broken=self.on_broken,
        )
        people = sorted({*(file.person for file in listed), *_named(folder, parts)})
        number = {person: i for i, person in enumerate(people)}
        owners, ids = [number[file.person] for file in files], [file.id for file in files]
        known: dict[str, Any] = {"min_images": self.min_images, "notes": broken}
        if "test" not in parts:
            chosen = {"movers": self.movers, "test_fraction": self.test_fraction, "split_seed": self.split_seed}
            return open_faces(folder.name, people, photos, owners, ids, **chosen, **known)
        movers, test = {file.person for file in parts["published"]}, {file.id for file in parts["test"]}
        return open_split_faces(folder.name, people, photos, owners, ids, movers=movers, test=test, **known)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the ids and contents of all photos."""
        parts = self._parts(locate(self.path, root))
        return fingerprint_files([(file.id, file.path) for part in parts.values() for file in part], rehash=rehash)

    def _parts(self, folder: Path) -> dict[str, list[PhotoFile]]:
        """Return the photos of each part, or all under "" where there are no parts."""
        there = [part for part in PARTS if (folder / part).is_dir()]
        if not {"published", "test"} & set(there):
            return {"": photo_files(folder)}
        absent = [part for part in PARTS[:2] if part not in there]
        if absent:
            raise DataError(f"{folder} has a folder {there[0]} but no folder {absent[0]}; add it, or rename {there[0]}")
        if self.movers is not None:
            raise DataError(
                f"identities: movers = {self.movers} is refused: the people in {folder / 'published'} are the movers. "
                "Leave movers out"
            )
        parts = {part: photo_files(folder / part, f"{part}/") for part in there}
        published, tested, public = ({file.person for file in parts.get(part, [])} for part in PARTS)
        if unknown := sorted(tested - published):
            raise DataError(
                f"{folder / 'test'} has {unknown[0]!r}, who is not in published; {did_you_mean(unknown[0], published)}"
            )
        if both := sorted(published & public):
            raise DataError(f"{both[0]!r} is in {folder / 'published'} and in public; the public are other people")
        return parts


def _named(folder: Path, parts: Iterable[str]) -> Iterator[str]:
    """Yield who has a folder in any part, empty or not."""
    for part in parts:
        yield from (path.name for path in (folder / part).iterdir() if path.is_dir() and path.name[0] != ".")
