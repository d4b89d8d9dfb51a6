"""The files of somebody who wants to be protected: found, read in the form of a set, and put beside its profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from countermove.errors import DataError
from countermove.pixels.files import OnBroken, read_bytes
from countermove.pixels.published import sha256
from countermove.profiles.data.folder import walk_items
from countermove.profiles.data.own import SOUNDS, read_sounds, some
from countermove.profiles.data.reading import read_pictures
from countermove.profiles.dataset import Medium, Profiles
from countermove.profiles.sound import is_silent

SIDE = 64
RATE = 16_000
SECONDS = 2.0
"""How items are looked at where there is no set: only to see that they are some."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Files of a folder that can be opened.

    folder:  where.
    sha256:  of the content by name, which is the path below the folder, sorted.
    skipped: a message for every file that cannot be opened.
    """

    folder: Path
    sha256: dict[str, str]
    skipped: tuple[str, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """Return where each file is."""
        return [self.folder / name for name in self.sha256]

    def without(self, contents: set[str]) -> tuple[Found, list[str], list[str]]:
        """Return files of other content, none twice; the names of those of that content, and of those there twice."""
        left: dict[str, str] = {}
        theirs: list[str] = []
        again: list[str] = []
        seen: set[str] = set()
        for name, content in self.sha256.items():
            if content in contents:
                theirs.append(name)
            elif content in seen:
                again.append(name)
            else:
                left[name] = content
                seen.add(content)
        return replace(self, sha256=left), theirs, again


@dataclass(frozen=True, kw_only=True)
class Items:
    """What was read.

    items:   as they are stored, [N, ...].
    names:   of their files.
    rate:    samples a second, of speech.
    skipped: a message for every file that cannot be read.
    notes:   what a person should know of the others.
    """

    items: Tensor
    names: tuple[str, ...]
    rate: int = 0
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find(folder: Path, what: str, on_broken: OnBroken) -> Found:
    """Find all pictures and sounds of a folder.

    Raises:
        DataError: when there is none, one cannot be opened (unless those are to be skipped), or a name is no UTF-8.
    """
    contents: dict[str, str] = {}
    skipped: list[str] = []
    for name in walk_items(folder):
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(f"the name {name!r} in {folder} is not valid UTF-8; rename the file or its folder")
        try:
            contents[name] = sha256(read_bytes(folder / name))
        except DataError as error:
            if on_broken == "fail":
                raise
            skipped.append(str(error))
    if not contents:
        raise DataError(f"{folder} holds no pictures and no sounds; it is to be the folder with {what}")
    return Found(folder=folder, sha256=contents, skipped=tuple(skipped))


def medium_of(paths: Sequence[Path]) -> Medium:
    """Return what files call themselves by their names.

    Raises:
        DataError: when there are both, pictures and sounds.
    """
    sounds = [path for path in paths if path.suffix.lower() in SOUNDS]
    if not sounds:
        return "picture"
    if len(sounds) < len(paths):
        picture = next(path for path in paths if path.suffix.lower() not in SOUNDS)
        raise DataError(f"{sounds[0]} is a sound and {picture} a picture; a profile holds either, so do candidates")
    return "speech"


def check_form(data: Profiles, medium: Medium, source: Path) -> None:
    """Refuse a set of other things than files of a medium.

    Raises:
        DataError: naming both.
    """
    if data.medium == "table":
        raise DataError(f"{data.name} holds features of items, which no file has; take a set of pictures or of speech")
    if data.medium != medium:
        kinds = {"picture": "pictures", "speech": "sounds"}
        raise DataError(f"{source} holds {kinds[medium]} and {data.name} {kinds[data.medium]}; take a set of {medium}")


def read(found: Found, medium: Medium, data: Profiles | None, on_broken: OnBroken) -> Items:
    """Read files in the form of a set: its side, of the largest centre square, or its rate and length.

    Raises:
        DataError: on a file that cannot be read (unless those are to be skipped), and when none is left.
    """
    files = {str(path): path for path in found.paths}
    name_of = dict(zip(files, found.sha256, strict=True))
    if medium == "picture":
        side = SIDE if data is None else data.items.shape[-1]
        ids, items, broken = read_pictures(files, side=side, cut="square", on_broken=on_broken)
        return Items(items=items, names=tuple(name_of[i] for i in ids), skipped=(*found.skipped, *broken))
    rate = RATE if data is None else data.rate
    seconds = SECONDS if data is None else data.items.shape[1] / data.rate
    sounds = read_sounds(files, SimpleNamespace(rate=rate, seconds=seconds, on_broken=on_broken))
    notes = []
    silent = [name for name, so in zip(sounds.ids, is_silent(sounds.items).tolist(), strict=True) if so]
    if silent:
        notes.append(f"{some(silent)} silent.")
    if data is not None and sounds.short:
        notes.append(f"{some(sounds.short)} shorter than the {seconds:g} s of the set, padded with silence.")
    if data is not None and sounds.resampled:
        notes.append(
            f"{some(sounds.resampled)} resampled to the {data.rate} samples a second of the set; what a lower rate "
            "cannot hold is not there, and a profiler may hear that."
        )
    return Items(
        items=sounds.items,
        names=tuple(name_of[i] for i in sounds.ids),
        rate=sounds.rate,
        skipped=(*found.skipped, *sounds.broken),
        notes=tuple(notes),
    )


def joined(data: Profiles, own: Items, pool: Items | None, label: int) -> Profiles:
    """Return a set with one more profile, the last, which is in no split; its background are the candidates.

    Nothing is written under files: where the set has captions, theirs are empty.
    """
    first, count = len(data.items), len(own.items)
    more = [own.items] if pool is None else [own.items, pool.items]
    names = [f"own {name}" for name in own.names] + [f"candidate {name}" for name in (pool.names if pool else ())]
    background = torch.arange(first + count, first + len(names))
    taken, who = set(data.ids), _unused("you", {*data.owners, *data.profile_ids})
    return replace(
        data,
        items=torch.cat([data.items, *more]),
        ids=(*data.ids, *(_unused(name, taken) for name in names)),
        bags=(*data.bags, torch.arange(first, first + count)),
        labels=torch.cat([data.labels, torch.tensor([label])]),
        owners=(*data.owners, who),
        profile_ids=(*data.profile_ids, who),
        background=background,
        captions=torch.cat([data.captions, torch.zeros(len(names), data.captions.shape[1])]),
        kinds=torch.full((len(background),), -1),
    )


def nobody(items: Items, medium: Medium) -> Profiles:
    """Return a set of blank items for moves that look at none."""
    return Profiles(
        name="no set",
        medium=medium,
        items=torch.zeros(4, *items.items.shape[1:], dtype=items.items.dtype),
        ids=("0", "1", "2", "3"),
        bags=tuple(torch.arange(4).split(1)),
        labels=torch.arange(4) % 2,
        owners=("0", "1", "2", "3"),
        profile_ids=("0", "1", "2", "3"),
        classes=("0", "1"),
        train=torch.arange(2),
        validation=torch.arange(0),
        test=torch.arange(2, 4),
        background=torch.arange(0),
        kinds=torch.arange(0),
        public=torch.arange(0),
        public_labels=torch.arange(0),
        rate=items.rate,
    )


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    return name
