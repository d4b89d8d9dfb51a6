"""Items that people bring themselves: which profile each belongs to, how they are read, what must be said of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from countermove.errors import ConfigError, DataError
from countermove.game.content import fingerprint_files
from countermove.pixels.files import FOREIGN_SUFFIXES, SUFFIXES
from countermove.profiles.data.drafts import SPLITS, Draft, Plan, check_least, check_split, cut, split_drafts
from countermove.profiles.data.reading import check_side, read_pictures

if TYPE_CHECKING:
    from torch import Tensor

    from countermove.profiles.dataset import Medium, Profiles

SOUNDS = frozenset({".wav", ".flac", ".ogg"})
ROLES = ("profile", *SPLITS, "background", "public")
MANY_CLIPPED = 1e-3
"""Share of samples at the end of the range from which on a clip counts as clipped."""


@dataclass(frozen=True, kw_only=True)
class OwnItem:
    """An item that is still a file.

    id:    its name in the data.
    role:  one of ROLES; "profile" is put into a split by its owner.
    value: of the attribute; of a public item, what it shows; "" where that is unknown.
    group: which of the owner's profiles it is in.
    time:  when it was published.
    text:  what is written under it.
    where: what an error message calls it.
    """

    id: str
    path: Path
    role: str = "profile"
    owner: str = ""
    value: str = ""
    group: str = ""
    time: float = 0.0
    text: str = ""
    where: str = ""


class Sounds(NamedTuple):
    """Sounds that were read, int16 [N, T], a message for each that was not, which are padded, which resampled."""

    ids: list[str]
    items: Tensor
    rate: int
    broken: list[str]
    short: list[str]
    resampled: list[str]


def check_own(name: str, settings: Any) -> None:
    """Refuse settings that sets of one's own share.

    Raises:
        ConfigError: naming the setting and its value.
    """
    check_split(name, settings)
    check_side(name, settings.side)
    check_least(name, settings, items=1, per_owner=1, crop=8, rate=1000, max_pixels=1)
    if not 0.01 <= settings.seconds <= 600:
        raise ConfigError(f"{name}: seconds = {settings.seconds:g} is refused: it lies in 0.01..600")
    if settings.per_owner is not None and settings.items is None:
        raise ConfigError(f"{name}: per_owner needs items, the size of a profile")


def own_profiles(name: str, listed: Sequence[OwnItem], settings: Any) -> Profiles:
    """Read items and put them together.

    Raises:
        DataError: when an item is absent or broken (unless those are to be skipped), pictures and sounds are mixed,
            or no profiler can be made of what is there.
    """
    import torch

    files = {item.id: item.path for item in listed}
    medium, ids, items, rate, notes = _read(files, settings)
    there = set(ids)
    listed = [item for item in listed if item.id in there]
    drafts, classes, more = _drafted(name, listed, settings)
    kinds = {item.id: classes.index(item.value) if item.value in classes else -1 for item in listed}
    of_role = {role: [item for item in listed if item.role == role] for role in ("background", "public")}
    shown = tuple(sorted({item.value for item in of_role["public"] if item.value}))
    plan = Plan(
        drafts=tuple(drafts),
        classes=classes,
        background=tuple(item.id for item in of_role["background"]),
        kinds=tuple(kinds[item.id] for item in of_role["background"]),
        public=tuple(item.id for item in of_role["public"]),
        public_labels=tuple(shown.index(item.value) if item.value else -1 for item in of_role["public"]),
        public_classes=shown,
    )
    row = {item: i for i, item in enumerate(ids)}
    used = plan.ids()
    items = items[torch.tensor([row[item] for item in used], dtype=torch.int64)]
    plan = replace(plan, warning=". ".join([*notes, *more, *_told(used, items, medium)]))
    written: dict[str, str] = {}
    for item in listed:
        if item.text and written.setdefault(item.id, item.text) != item.text:
            raise DataError(f"{item.where} writes another text under {item.id} than a row above; an item has one")
    return plan.filled(name, medium, items, rate=rate, captions=written or None)


def own_fingerprint(listed: Sequence[OwnItem], *, rehash: bool, tables: Sequence[tuple[str, Path]] = ()) -> str:
    """Return SHA-256 over all items (also that one is not there) and tables."""
    files = dict.fromkeys((item.id, item.path) for item in listed)
    absent = [f"absent {name}" for name, path in files if not path.is_file()]
    there = [(name, path) for name, path in files if path.is_file()]
    return fingerprint_files([*tables, *there], rehash=rehash, extra=absent)


def is_item(path: Path) -> bool:
    """Whether a file calls itself a picture or a sound."""
    return path.suffix.lower() in SUFFIXES | FOREIGN_SUFFIXES | SOUNDS


def _read(files: Mapping[str, Path], settings: Any) -> tuple[Medium, list[str], Tensor, int, list[str]]:
    """Return the medium, ids and items of what could be read, the rate of sounds, and what must be said of it."""
    sounds = [path for path in files.values() if path.suffix.lower() in SOUNDS]
    if sounds and len(sounds) < len(files):
        picture = next(path for path in files.values() if path.suffix.lower() not in SOUNDS)
        raise DataError(f"{sounds[0]} is a sound and {picture} a picture; a set holds either")
    if sounds:
        ids, items, rate, broken, short, _ = read_sounds(files, settings)
        notes = [f"{some(short)} shorter than {settings.seconds:g} s and padded with silence"] if short else []
        medium = "speech"
    else:
        cropped = "square" if settings.crop is None else settings.crop
        ids, items, broken = read_pictures(
            files, side=settings.side, cut=cropped, max_pixels=settings.max_pixels, on_broken=settings.on_broken
        )
        medium, rate, notes = "picture", 0, []
    if broken:
        notes = [f"{len(broken)} of {len(files)} items could not be read and are left out: {broken[0]}", *notes]
    return medium, ids, items, rate, notes


def read_sounds(files: Mapping[str, Path], settings: Any) -> Sounds:
    """Read sounds by id at one rate and of one length, by the settings rate, seconds and on_broken.

    Raises:
        DataError: on a broken sound, unless they are to be skipped; when none is left; on mixed rates, where no rate is
            given.
    """
    import torch

    from countermove.profiles.sound import read_wav

    clips: dict[str, tuple[Tensor, int]] = {}
    broken: list[str] = []
    for name, path in files.items():
        try:
            clips[name] = read_wav(path)
        except DataError as error:
            if settings.on_broken == "fail":
                raise
            broken.append(str(error))
    if not clips:
        raise DataError(f"none of {len(files)} sounds can be read: {broken[0]}")
    first, (_, rate) = next(iter(clips.items()))
    if settings.rate is not None:
        rate = settings.rate
    samples = round(settings.seconds * rate)
    items = torch.zeros(len(clips), samples, dtype=torch.int16)
    short: list[str] = []
    resampled: list[str] = []
    for i, (name, (clip, held)) in enumerate(clips.items()):
        if held != rate:
            if settings.rate is None:
                raise DataError(
                    f"{files[first]} has {rate} samples a second and {files[name]} has {held}; give rate={rate}, or "
                    "another, to which all are resampled"
                )
            clip = _at_rate(clip, held, rate)
            resampled.append(name)
        items[i, : len(clip)] = clip[:samples]
        if len(clip) < samples:
            short.append(name)
    return Sounds(list(clips), items, rate, broken, short, resampled)


def _at_rate(clip: Tensor, held: int, rate: int) -> Tensor:
    from countermove.profiles.dataset import as_float, as_stored
    from countermove.profiles.sound import resample

    return as_stored(resample(as_float(clip[None], "speech"), held, rate), "speech")[0]


def _drafted(name: str, listed: Sequence[OwnItem], settings: Any) -> tuple[list[Draft], tuple[str, ...], list[str]]:
    """Return drafts in their splits, the attribute's values, and what must be said of them."""
    groups: dict[tuple[str, str], list[OwnItem]] = defaultdict(list)
    for item in listed:
        if item.role not in ("background", "public"):
            groups[item.owner, item.group].append(item)
    if not groups:
        raise DataError(f"{name}: there is no item of a profile, only background and public ones")
    classes = tuple(sorted({item.value for mine in groups.values() for item in mine}))
    parts: dict[str, int] = defaultdict(int)
    drafts: list[Draft] = []
    small: list[str] = []
    for (owner, _), mine in sorted(groups.items()):
        _check_group(owner, mine)
        ordered = [item.id for item in sorted(mine, key=lambda item: (item.time, item.id))]
        most = None if settings.per_owner is None else settings.per_owner - parts[owner]
        bags = [tuple(ordered)] if settings.items is None else cut(ordered, settings.items, most, newest=True)
        if settings.items is not None and len(ordered) < settings.items:
            small.append(owner)
        for bag in bags:
            split = "" if mine[0].role == "profile" else mine[0].role
            label = classes.index(mine[0].value)
            drafts.append(Draft(owner=owner, label=label, items=bag, part=parts[owner], split=split))
            parts[owner] += 1
    notes = [f"{some(small)} left out for having fewer than {settings.items} items"] if small else []
    given = {bool(draft.split) for draft in drafts}
    if len(given) == 2:
        raise DataError(f"{name}: some profiles are put into a split and others are not; say it of all or of none")
    if given == {True}:
        if settings.split == "profiles":
            raise ConfigError(f"{name}: split = 'profiles' is refused: the data say which profiles are tested")
        return drafts, classes, notes
    drafts, leak = split_drafts(drafts, settings)
    return drafts, classes, [*notes, *filter(None, [leak])]


def _check_group(owner: str, mine: Sequence[OwnItem]) -> None:
    first, seen = mine[0], set()
    for item in mine:
        if item.value != first.value:
            raise DataError(
                f"{item.where} says {item.value!r} of {owner!r}, and {first.where} says {first.value!r}; a profile has "
                "one value"
            )
        if item.role != first.role:
            raise DataError(
                f"{item.where} puts {owner!r} into {item.role}, and {first.where} into {first.role}; what is learned "
                "of a person in one would be found again in the other"
            )
        if item.id in seen:
            raise DataError(f"{item.where}: {item.id} is in this profile of {owner!r} already")
        seen.add(item.id)


def _told(ids: Sequence[str], items: Tensor, medium: Medium) -> list[str]:
    """Return what a reader must know of these items."""
    told: list[str] = []
    if medium == "speech":
        from countermove.profiles.sound import clipped_share, is_silent

        silent, clipped = is_silent(items), clipped_share(items) > MANY_CLIPPED
        loudest = f"clipped: more than {MANY_CLIPPED:.1%} of the samples are the loudest"
        for which, what in ((silent, "silent"), (clipped, loudest)):
            names = [name for name, so in zip(ids, which.tolist(), strict=True) if so]
            told += [f"{some(names)} {what}"] if names else []
    first: dict[bytes, str] = {}
    copies: list[str] = []
    for name, item in zip(ids, items, strict=True):
        if first.setdefault(item.numpy().tobytes(), name) != name:
            copies.append(name)
    told += [f"{some(copies)} the same as another item; a copy in train and test leaks"] if copies else []
    return told


def some(names: Sequence[str]) -> str:
    """Begin a sentence on some items: their number, the first, and a verb."""
    return f"{names[0]} is" if len(names) == 1 else f"{len(names)} ({names[0]}, ...) are"
