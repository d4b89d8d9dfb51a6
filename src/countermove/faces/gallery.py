"""Faces as the arena holds them: whose photos are published, whose are tested, and who is only trained on.

Legend: P people, M movers, N photos.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from countermove.errors import DataError
from countermove.pixels.selection import pick

LEAST_PUBLISHED = 2
"""Photos of a mover in the gallery; one alone has no other of the same person to be compared with."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Faces:
    """Aligned photos of people, some of whom publish theirs.

    people: names.
    photos: uint8 [N, 3, S, S], aligned.
    person: int64 [N], indices into people.
    ids:    N texts, unique.
    movers: int64 [M], sorted: the people in the recogniser's gallery, who may change what they publish. All others are
            the public: extractors are trained on them, and they are never in the gallery.
    test:   bool [N], the movers' photos that nobody publishes and that are to be named.
    notes:  what was left out or looks wrong, a line each.
    """

    name: str
    people: tuple[str, ...]
    photos: Tensor
    person: Tensor
    ids: tuple[str, ...]
    movers: Tensor
    test: Tensor
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, shape = len(self.ids), list(self.photos.shape)
        if self.photos.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
            raise DataError(f"{self.name}: photos must be square uint8 [N, 3, S, S]; got {self.photos.dtype} {shape}")
        if not n == len(self.photos) == len(self.person) == len(self.test):
            raise DataError(f"{self.name}: {len(self.photos)} photos come with {n} ids and {len(self.person)} labels")

    @property
    def side(self) -> int:
        """Return the photos' height and width."""
        return int(self.photos.shape[2])

    @cached_property
    def number(self) -> Tensor:
        """Return each person's place among the movers, -1 for the public: int64 [P]."""
        number = torch.full((len(self.people),), -1)
        number[self.movers] = torch.arange(len(self.movers))
        return number

    @cached_property
    def published(self) -> Tensor:
        """Return the rows of the movers' published photos."""
        return ((self.number[self.person] >= 0) & ~self.test).nonzero().flatten()

    @cached_property
    def tested(self) -> Tensor:
        """Return the rows of the movers' test photos."""
        return self.test.nonzero().flatten()

    @cached_property
    def public(self) -> Tensor:
        """Return the rows of the public's photos."""
        return (self.number[self.person] < 0).nonzero().flatten()


def open_faces(
    name: str,
    people: Sequence[str],
    photos: Tensor,
    person: Sequence[int],
    ids: Sequence[str],
    *,
    movers: int | Sequence[str] | None,
    test_fraction: float,
    split_seed: int,
    min_images: int = 1,
    notes: Iterable[str] = (),
) -> Faces:
    """Choose the movers and set their test photos apart.

    Exact copies of a photo of the same person are dropped, so that no test photo is in the gallery; copies under two
    names are kept and noted, for nobody can tell whose they are.

    Args:
        name: of the data, for messages.
        people: names, distinct.
        photos: uint8 [N, 3, S, S], aligned.
        person: whose each is.
        ids: unique.
        movers: how many people, chosen by name and seed; or their names; None: a third of them, at least two.
        test_fraction: share of each mover's photos that is tested, chosen by id and seed.
        split_seed: another seed chooses others.
        min_images: people with fewer photos, copies not counted, are left out and noted.
        notes: what the reader of the files has to say.

    Raises:
        DataError: too few people, or a mover with too few photos to be published and tested.
    """
    album = _sort_out(people, photos, person, ids, min_images, notes)
    chosen = _movers(name, album.people, movers, split_seed)
    test = torch.zeros(len(album.ids), dtype=torch.bool)
    for mover in chosen:
        rows = album.rows(mover)
        tested = pick([album.ids[i] for i in rows], test_fraction, seed=split_seed, purpose="test")
        test[rows] = torch.from_numpy(tested)
    advice = f" (test_fraction = {test_fraction:g}). Raise min_images"
    return _opened(name, album, chosen, test, advice)


def open_split_faces(
    name: str,
    people: Sequence[str],
    photos: Tensor,
    person: Sequence[int],
    ids: Sequence[str],
    *,
    movers: Collection[str],
    test: Collection[str],
    min_images: int = 1,
    notes: Iterable[str] = (),
) -> Faces:
    """Take movers and test photos as they are given; all else is as in `open_faces`.

    Args:
        name: of the data, for messages.
        people: names, distinct.
        photos: uint8 [N, 3, S, S], aligned.
        person: whose each is.
        ids: unique.
        movers: their names.
        test: ids of the movers' test photos.
        min_images: people with fewer photos, copies not counted, are left out and noted.
        notes: what the reader of the files has to say.

    Raises:
        DataError: a test photo is published too, under whatever name; too few movers, or one with too few photos.
    """
    published: dict[bytes, str] = {}
    digests = _digests(photos)
    for digest, owner, photo in zip(digests, person, ids, strict=True):
        if people[owner] in movers and photo not in test:
            published.setdefault(digest, photo)
    for digest, photo in zip(digests, ids, strict=True):
        if photo in test and digest in published:
            raise DataError(
                f"{name}: {published[digest]} and {photo} are the same photo; a photo that is tested must not be "
                "published. Remove one of them"
            )
    album = _sort_out(people, photos, person, ids, min_images, notes)
    chosen = _movers(name, album.people, [mover for mover in album.people if mover in movers], 0)
    return _opened(
        name, album, chosen, torch.tensor([photo in test for photo in album.ids]), ". Add photos, or leave them out"
    )


@dataclass(frozen=True)
class _Album:
    """Photos without copies, of people with enough of them."""

    people: list[str]
    photos: Tensor
    person: Tensor
    ids: list[str]
    notes: tuple[str, ...]

    def rows(self, person: int) -> list[int]:
        return (self.person == person).nonzero().flatten().tolist()


def _opened(name: str, album: _Album, movers: Sequence[int], test: Tensor, advice: str) -> Faces:
    for mover in movers:
        rows = album.rows(mover)
        tested = int(test[rows].sum())
        if not tested or len(rows) - tested < LEAST_PUBLISHED:
            raise DataError(
                f"{name}: {album.people[mover]} has {len(rows)} photos, {tested} of them tested; a mover publishes at "
                f"least {LEAST_PUBLISHED} and is tested on at least one{advice}"
            )
    return Faces(
        name=name,
        people=tuple(album.people),
        photos=album.photos,
        person=album.person,
        ids=tuple(album.ids),
        movers=torch.tensor(sorted(movers)),
        test=test,
        notes=album.notes,
    )


def _movers(name: str, people: Sequence[str], movers: int | Sequence[str] | None, seed: int) -> list[int]:
    if movers is None:
        movers = max(2, round(len(people) / 3))
    if isinstance(movers, int):
        if not 2 <= movers <= len(people):
            raise DataError(f"{name}: movers = {movers} is refused: there are {len(people)} people, at least 2 move")
        chosen = pick(list(people), movers / len(people), seed=seed, purpose="movers")
        return [i for i, taken in enumerate(chosen) if taken]
    unknown = [mover for mover in movers if mover not in people]
    if unknown or len(set(movers)) < 2:
        raise DataError(f"{name}: at least two people of the data move; unknown: {', '.join(unknown) or 'none'}")
    return [people.index(mover) for mover in dict.fromkeys(movers)]


def _sort_out(
    people: Sequence[str],
    photos: Tensor,
    person: Sequence[int],
    ids: Sequence[str],
    min_images: int,
    notes: Iterable[str],
) -> _Album:
    kept, told = _distinct(people, photos, person, ids)
    counts = Counter(person[i] for i in kept)
    number: dict[int, int] = {}
    for i, who in enumerate(people):
        if counts[i] >= min_images:
            number[i] = len(number)
        else:
            told.append(f"{who} has {counts[i]} different photos and was left out; min_images = {min_images}")
    kept = [i for i in kept if person[i] in number]
    return _Album(
        people=[people[i] for i in number],
        photos=photos[kept],
        person=torch.tensor([number[person[i]] for i in kept], dtype=torch.int64),
        ids=[ids[i] for i in kept],
        notes=(*notes, *told),
    )


def _distinct(
    people: Sequence[str], photos: Tensor, person: Sequence[int], ids: Sequence[str]
) -> tuple[list[int], list[str]]:
    """Return the rows without a person's copies, and what is to be said of copies."""
    first: dict[bytes, dict[int, int]] = {}
    kept: list[int] = []
    told: list[str] = []
    for i, digest in enumerate(_digests(photos)):
        seen = first.setdefault(digest, {})
        if person[i] in seen:
            told.append(f"{ids[i]} is the same photo as {ids[seen[person[i]]]} and was left out")
            continue
        for who, before in seen.items():
            names = f"{people[who]} and {people[person[i]]}"
            told.append(f"{ids[before]} and {ids[i]} are the same photo under two names, {names}")
        seen[person[i]] = i
        kept.append(i)
    return kept, told


def _digests(photos: Tensor) -> list[bytes]:
    return [hashlib.sha256(photo.numpy().tobytes()).digest() for photo in photos]
