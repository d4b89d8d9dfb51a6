"""Faces as the arena holds them: whose photos are published, whose are tested, and who is only trained on.

Legend: P people, M movers, N photos.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
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
    movers: int | Sequence[str],
    test_fraction: float,
    split_seed: int,
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
        movers: how many people, chosen by name and seed; or their names.
        test_fraction: share of each mover's photos that is tested, chosen by id and seed.
        split_seed: another seed chooses others.
        notes: what the reader of the files has to say.

    Raises:
        DataError: too few people, or a mover with too few photos to be published and tested.
    """
    owner = torch.as_tensor(person, dtype=torch.int64)
    kept, told = _distinct(people, photos, owner.tolist(), ids)
    photos, owner, ids = photos[kept], owner[kept], [ids[i] for i in kept]
    chosen = _movers(name, people, movers, split_seed)
    test = torch.zeros(len(ids), dtype=torch.bool)
    for mover in chosen:
        rows = (owner == mover).nonzero().flatten().tolist()
        tested = pick([ids[i] for i in rows], test_fraction, seed=split_seed, purpose="test")
        if not tested.any() or (~tested).sum() < LEAST_PUBLISHED:
            raise DataError(
                f"{name}: {people[mover]} has {len(rows)} photos; a mover publishes at least {LEAST_PUBLISHED} and is "
                f"tested on at least one (test_fraction = {test_fraction:g}). Raise min_images"
            )
        test[torch.tensor(rows)] = torch.from_numpy(tested)
    return Faces(
        name=name,
        people=tuple(people),
        photos=photos,
        person=owner,
        ids=tuple(ids),
        movers=torch.tensor(sorted(chosen)),
        test=test,
        notes=(*notes, *told),
    )


def _movers(name: str, people: Sequence[str], movers: int | Sequence[str], seed: int) -> list[int]:
    if isinstance(movers, int):
        if not 2 <= movers <= len(people):
            raise DataError(f"{name}: movers = {movers} is refused: there are {len(people)} people, at least 2 move")
        chosen = pick(list(people), movers / len(people), seed=seed, purpose="movers")
        return [i for i, taken in enumerate(chosen) if taken]
    unknown = [mover for mover in movers if mover not in people]
    if unknown or len(set(movers)) < 2:
        raise DataError(f"{name}: at least two people of the data move; unknown: {', '.join(unknown) or 'none'}")
    return [people.index(mover) for mover in dict.fromkeys(movers)]


def _distinct(
    people: Sequence[str], photos: Tensor, person: Sequence[int], ids: Sequence[str]
) -> tuple[list[int], list[str]]:
    """Return the rows without a person's copies, and what is to be said of copies."""
    first: dict[bytes, int] = {}
    kept: list[int] = []
    told: list[str] = []
    for i, photo in enumerate(photos):
        digest = hashlib.sha256(photo.numpy().tobytes()).digest()
        before = first.setdefault(digest, i)
        if before != i and person[before] == person[i]:
            told.append(f"{ids[i]} is the same photo as {ids[before]} and was left out")
            continue
        if before != i:
            names = f"{people[person[before]]} and {people[person[i]]}"
            told.append(f"{ids[before]} and {ids[i]} are the same photo under two names, {names}")
        kept.append(i)
    return kept, told
