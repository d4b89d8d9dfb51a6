"""One's own items: a folder a value, in it a folder a person."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from countermove.errors import DataError
from countermove.game.content import locate
from countermove.pixels.decode import words
from countermove.pixels.files import OnBroken
from countermove.profiles.data.drafts import SPLITS, Split
from countermove.profiles.data.own import OwnItem, check_own, is_item, own_fingerprint, own_profiles

if TYPE_CHECKING:
    from countermove.profiles.dataset import Profiles

APART = ("background", "public")


@dataclass(frozen=True, kw_only=True)
class ProfileFolder:
    """Your own pictures or sounds: PATH/VALUE/OWNER/ITEM, where VALUE is what a profiler wants to know.

    PATH/background/… may hold items that anybody may add; those below background/VALUE come from people of that value.
    PATH/public/LABEL/… may hold items that extractors learn from. Instead, PATH/train/VALUE/OWNER/… and PATH/test/…
    (and PATH/validation/…) say who is tested. Pictures are PNG, JPEG, WebP and BMP, sounds WAV (FLAC and OGG where
    soundfile is installed), not both in one set. Ids are the paths below PATH; a person's items stand in the order of
    these, which should be the order in which they were published. Names that begin with a dot are passed over. Sounds
    that are silent, clipped or too short, and items that are there twice, are named in the set's warning.

    path:       the folder, as it stands or below the data folder.
    items:      profiles are cut to so many items, none in two, the newest first; without it, a person is one profile.
    per_owner:  at most so many profiles of each person.
    side:       pictures become side x side.
    crop:       side of the centre square that is cut out before, in pixels; without it, the largest there is.
    rate:       samples a second, to which sounds are resampled; without it, mixed rates are refused.
    seconds:    of a sound: longer ones are cut off, shorter ones padded with silence.
    validation: share of owners. Not with PATH/test.
    test:       share of owners. Not with PATH/test.
    split:      "owners" keeps all of a person's profiles in one split; "profiles" does not, and warns.
    split_seed: another seed chooses other owners.
    on_broken:  "fail" stops at an item that cannot be read, "skip" leaves it out and says so in the warning.
    max_pixels: the largest picture that is decoded.
    """

    version: ClassVar[int] = 1
    path: str
    items: int | None = None
    per_owner: int | None = None
    side: int = 64
    crop: int | None = None
    rate: int | None = None
    seconds: float = 2.0
    validation: float = 0.1
    test: float = 0.3
    split: Split = "owners"
    split_seed: int = 0
    on_broken: OnBroken = "fail"
    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        check_own("folder", self)

    def __call__(self, *, root: Path | None = None) -> Profiles:
        """Read all items into memory.

        Raises:
            DataError: when the layout is another, an item is broken (unless those are to be skipped), pictures and
                sounds or several rates are mixed, or too few people are left.
        """
        folder = locate(self.path, root)
        return own_profiles(folder.resolve().name, _listed(folder), self)

    def fingerprint(self, *, root: Path | None = None, rehash: bool = False) -> str:
        """Return SHA-256 over the ids and contents of all items."""
        return own_fingerprint(_listed(locate(self.path, root)), rehash=rehash)


def _listed(folder: Path) -> list[OwnItem]:
    """Return every item with what its path says of it.

    Raises:
        DataError: when an item lies elsewhere, or there is none.
    """
    split = any((folder / name).is_dir() for name in ("train", "test"))
    expected = f"expected {folder}/{'train|test/' if split else ''}VALUE/OWNER/ITEM"
    found = []
    for name in walk_items(folder):
        head, *rest = name.split("/")
        known = {"id": name, "path": folder / name, "where": str(folder / name)}
        if head in APART:
            found.append(OwnItem(role=head, value=rest[0] if len(rest) > 1 else "", **known))
            continue
        if split:
            if head not in SPLITS:
                raise DataError(
                    f"{folder / name} lies in none of {', '.join(SPLITS)}, background and public; {expected}"
                )
            role, rest = head, rest
        else:
            role, rest = "profile", [head, *rest]
        if len(rest) < 3:
            raise DataError(f"{folder / name} lies in no person's folder; {expected}")
        # The value is part of the group: one person may have profiles of several values.
        found.append(OwnItem(role=role, value=rest[0], owner=rest[1], group=rest[0], **known))
    if not found:
        raise DataError(f"{folder} holds no pictures and no sounds; {expected}")
    _check_empty(folder, 3 if split else 2, {item.path.relative_to(folder).parts for item in found})
    return found


def _check_empty(folder: Path, depth: int, filled: set[tuple[str, ...]]) -> None:
    """Refuse a person's folder, so deep below another, without an item."""
    filled = {parts[:depth] for parts in filled}
    for path in sorted(folder.glob("/".join(["*"] * depth))):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if path.is_dir() and not hidden and parts[0] not in APART and parts not in filled:
            raise DataError(f"the profile {path} is empty: it holds no picture and no sound; remove it, or add an item")


def walk_items(folder: Path) -> list[str]:
    """List items below a folder by their paths with slashes, sorted; links to elsewhere are refused."""
    inside = folder.resolve()
    names = []
    for where, folders, files in os.walk(inside, onerror=_cannot_list):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in (*folders, *files):
            path = Path(where) / name
            if name.startswith(".") or (name in files and not is_item(path)):
                continue
            if path.is_symlink():
                raise DataError(f"{path} is a link; put the file itself in its place")
            if name in files:
                names.append(path.relative_to(inside).as_posix())
    return sorted(names)


def _cannot_list(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be listed: {words(error)}")
