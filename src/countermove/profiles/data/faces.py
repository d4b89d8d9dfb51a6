"""Photos of people in Labeled Faces in the Wild as profiles."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from countermove.errors import ConfigError, DataError
from countermove.game.content import fingerprint_files
from countermove.pixels.files import walk_pictures
from countermove.profiles.data.drafts import (
    Draft,
    Plan,
    Split,
    balanced,
    check_least,
    check_split,
    chosen,
    cut,
    split_drafts,
)
from countermove.profiles.data.reading import check_side, read_pictures, read_rows, set_folder

if TYPE_CHECKING:
    from countermove.profiles.dataset import Profiles

FOLDER = "lfw_min10"
FILED = "gender_folder_in_baileyfriend_repo"


@dataclass(frozen=True, kw_only=True)
class FaceProfiles:
    """Labeled Faces in the Wild, people with ten photos or more, by a folder's name, Huang et al. 2007.

    Read from lfw_min10/ in the data folder: images/PERSON/*.jpg (deep-funneled, at most 50 of each) and identities.csv.
    The attribute is the folder, male or female, in which one repository filed a person (baileyfriend,
    Gender-Image-Classifier). Nobody described themselves so; it is known for 61 of 158 people, 46 and 15. A profile
    is some photos of one person. The other 97 people are divided: some are public, with their names as labels, the
    others' photos are the background, of whose owners nothing is known. Photos have no date and stand in the order of
    their numbers. They are press photographs of real people; a set this small tells methods apart, not people.

    items:      of each profile.
    per_person: at most so many profiles of each person; none shares a photo with another.
    balance:    leave out profiles of the more frequent value, later ones of a person first, until every split has
                equally many.
    side:       photos become side x side.
    crop:       side of the centre square that is cut out before, in pixels of the 250 x 250 originals; the face fills
                about 128. 250 takes everything.
    public:     share of the people without a known value whose photos are public.
    validation: share of owners.
    test:       share of owners.
    split:      "owners" keeps all of a person's profiles in one split; "profiles" does not, and warns.
    split_seed: another seed chooses other owners and other public people.
    """

    version: ClassVar[int] = 1
    items: int = 5
    per_person: int = 4
    balance: bool = True
    side: int = 48
    crop: int = 128
    public: float = 0.7
    validation: float = 0.1
    test: float = 0.4
    split: Split = "owners"
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_split("faces", self)
        check_side("faces", self.side)
        check_least("faces", self, items=1, per_person=1, crop=8)
        if not 0 <= self.public <= 1:
            raise ConfigError(f"faces: public = {self.public:g} is refused: it lies in 0..1")

    def __call__(self, *, root: Path | None = None) -> Profiles:
        """Read, cut and resize the photos in use.

        Raises:
            DataError: when the data are not there, a photo is broken, or too few people have so many photos.
        """
        folder = set_folder(FOLDER, root, "images", "identities.csv") / "images"
        plan = self._plan(folder)
        photos = read_pictures({name: folder / name for name in plan.ids()}, side=self.side, cut=self.crop)[1]
        return plan.filled("faces", "picture", photos)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the photos in use, and over the table."""
        folder = set_folder(FOLDER, root, "images", "identities.csv") / "images"
        files = [(name, folder / name) for name in self._plan(folder).ids()]
        return fingerprint_files([("identities.csv", folder.parent / "identities.csv"), *files], rehash=rehash)

    def _plan(self, folder: Path) -> Plan:
        photos: dict[str, list[str]] = defaultdict(list)
        for name in walk_pictures(folder):
            photos[name.split("/", 1)[0]].append(name)
        filed = {row["identity"]: row[FILED] for row in read_rows(folder.parent / "identities.csv", "identity", FILED)}
        classes = tuple(sorted({value for value in filed.values() if value}))
        drafts = [
            Draft(owner=person, label=classes.index(filed[person]), items=mine, part=part)
            for person, names in photos.items()
            if filed.get(person)
            for part, mine in enumerate(cut(names, self.items, self.per_person))
        ]
        if not drafts:
            raise DataError(f"faces: nobody of a known value in {folder} has {self.items} photos; lower items")
        drafts, warning = split_drafts(drafts, self)
        others = [person for person in photos if not filed.get(person)]
        shown = chosen(others, round(self.public * len(others)), seed=self.split_seed, purpose="faces, public")
        public = [(name, k) for k, person in enumerate(sorted(shown)) for name in photos[person]]
        background = [name for person in others if person not in shown for name in photos[person]]
        return Plan(
            drafts=tuple(balanced(drafts, seed=self.split_seed) if self.balance else drafts),
            classes=classes,
            background=tuple(background),
            kinds=(-1,) * len(background),
            public=tuple(name for name, _ in public),
            public_labels=tuple(k for _, k in public),
            public_classes=tuple(sorted(shown)),
            warning=warning,
        )
