"""Labeled Faces in the Wild, some of whose people publish their photos."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from countermove.errors import ConfigError, DataError
from countermove.faces.data.reading import PhotoFile, check_settings, photo_files, read_photos
from countermove.game.content import data_folder, fingerprint_files, locate
from countermove.pixels.selection import pick

if TYPE_CHECKING:
    from countermove.faces.gallery import Faces

TREES = ("lfw_home", "lfw-py", "lfw_funneled", "lfw-deepfunneled", "lfw", "images")
"""Folders that scikit-learn, torchvision and the site's archives put around the people's."""


@dataclass(frozen=True, kw_only=True)
class LfwFaces:
    """Labeled Faces in the Wild, people with ten photos or more, Huang et al. 2007.

    Read from lfw_min10/images/PERSON/*.jpg in the data folder: 158 people, at most 50 photos of each, deep-funneled
    (aligned). People are chosen by how many photos there are of them; movers among these by name, test photos by id.
    The photos are press photographs of real people.

    side:          photos become side x side.
    crop:          side of the centre square that is cut out before, in pixels of the 250 x 250 originals; the face
                   fills about 128. 250 takes everything.
    movers:        how many people publish; all others are the public, on whom extractors are trained.
    min_images:    people with at least so many photos.
    max_images:    and at most so many; without it, however many.
    per_person:    take at most so many photos of each, chosen by id; without it, all.
    test_fraction: share of each mover's photos that are tested.
    split_seed:    another seed chooses other movers, photos and test photos.
    path:          an LFW of your own, as it stands or below the data folder: what scikit-learn (lfw_home/lfw_funneled)
                   or torchvision (lfw-py/lfw-deepfunneled) downloaded.

    Differs from the paper: it plays FaceScrub and PubFig.
    """

    version: ClassVar[int] = 1
    side: int = 64
    crop: int = 128
    movers: int = 50
    min_images: int = 10
    max_images: int | None = None
    per_person: int | None = None
    test_fraction: float = 0.3
    split_seed: int = 0
    path: str | None = None

    def __post_init__(self) -> None:
        check_settings("lfw", self, crop=8, movers=2, min_images=3, per_person=3)
        if self.max_images is not None and self.max_images < self.min_images:
            raise ConfigError(
                f"lfw: max_images = {self.max_images} is refused: nobody has at least {self.min_images} photos "
                "(min_images) and at most that many"
            )

    def __call__(self, *, root: Path | None = None) -> Faces:
        """Read, cut and resize the chosen people's photos.

        Raises:
            DataError: when the data are not there, a photo is broken or smaller than `crop`, or too few people have so
                many photos.
        """
        from countermove.faces.gallery import open_faces

        files, photos, _ = read_photos(self._files(root), side=self.side, crop=self.crop)
        people = sorted({file.person for file in files})
        number = {person: i for i, person in enumerate(people)}
        return open_faces(
            "lfw",
            people,
            photos,
            [number[file.person] for file in files],
            [file.id for file in files],
            movers=self.movers,
            test_fraction=self.test_fraction,
            split_seed=self.split_seed,
        )

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the ids and contents of the chosen photos."""
        return fingerprint_files([(file.id, file.path) for file in self._files(root)], rehash=rehash)

    def _files(self, root: Path | None) -> list[PhotoFile]:
        """Return the chosen photos of the people who have so many; refuse where these are too few."""
        tree = _tree(self.path, root)
        files = photo_files(tree)
        counts = Counter(file.person for file in files)
        most = max(counts.values()) if self.max_images is None else self.max_images
        chosen = {person for person, count in counts.items() if self.min_images <= count <= most}
        if len(chosen) < self.movers:
            raise DataError(
                f"{tree}: {len(chosen)} of {len(counts)} people have {self.min_images} to {most} photos; "
                f"movers = {self.movers} needs more. Lower movers or min_images, or raise max_images"
            )
        return self._thinned([file for file in files if file.person in chosen])

    def _thinned(self, files: list[PhotoFile]) -> list[PhotoFile]:
        if self.per_person is None:
            return files
        of_person: dict[str, list[PhotoFile]] = {}
        for file in files:
            of_person.setdefault(file.person, []).append(file)
        kept: list[PhotoFile] = []
        for mine in of_person.values():
            share = min(1.0, self.per_person / len(mine))
            taken = pick([file.id for file in mine], share, seed=self.split_seed, purpose="per person")
            kept += [file for file, take in zip(mine, taken, strict=True) if take]
        return kept


def _tree(path: str | None, root: Path | None) -> Path:
    if path is None:
        folder = data_folder(root) / "lfw_min10" / "images"
        if not folder.is_dir():
            raise DataError(
                f"lfw needs {folder}, which is not there; set COUNTERMOVE_DATA to the folder that holds "
                "lfw_min10/images/PERSON/*.jpg, or give path=FOLDER for an LFW of your own"
            )
        return folder
    folder = locate(path, root)
    while inside := [name for name in TREES if (folder / name).is_dir()]:
        if len(inside) > 1:
            raise DataError(f"{folder} holds {' and '.join(inside)}; give path={folder / inside[0]} or another of them")
        folder /= inside[0]
    return folder
