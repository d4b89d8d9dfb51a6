"""Pictures to search among, queries, and what a query should find.

Legend: M pictures, Q queries. Pictures may differ in size: each is uint8 [3, H, W].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from countermove.errors import DataError

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the picture; right and bottom are outside."""


class Pictures(Protocol):
    """Pictures that are held or read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Tensor:
        """Return one picture, uint8 [3, H, W]."""
        ...


@dataclass(frozen=True)
class Read:
    """Pictures that are read one by one, for collections that do not fit into memory."""

    count: int
    read: Callable[[int], Tensor]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> Tensor:
        if not 0 <= row < self.count:
            raise IndexError(row)
        return self.read(row)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a query should find, by rows of pictures.

    positive: what counts as found.
    ignored:  what counts neither for nor against ("junk").
    """

    positive: Tensor
    ignored: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))


@dataclass(frozen=True, kw_only=True, eq=False)
class Collection:
    """A search engine's pictures, and queries with their answers.

    name:    of the set.
    pictures, ids: all pictures, and their unique names.
    indexed: rows the engine searches among, int64.
    queries: rows of the queries, int64 [Q]; they may be indexed themselves.
    boxes:   what of a query is searched for; None: the whole picture.
    wanted:  by protocol ("" where there is one only; "easy", "medium", "hard"): for every query.
    public:  rows that backbones may be trained on, int64; none is a query or indexed.
    public_labels, public_classes: what they show, int64 [len(public)], and its names.
    warning: what a reader of results must know, "" where there is nothing.
    """

    name: str
    pictures: Pictures | Sequence[Tensor]
    ids: tuple[str, ...]
    indexed: Tensor
    queries: Tensor
    boxes: tuple[Box | None, ...]
    wanted: dict[str, tuple[Wanted, ...]]
    public: Tensor
    public_labels: Tensor
    public_classes: tuple[str, ...] = ()
    warning: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be searched.

        Raises:
            DataError: parts that do not fit together, nothing indexed, no query, a query that wants nothing in every
                protocol, a wanted picture that is not indexed, a public picture that is indexed or a query.
        """
        if len(self.ids) != len(self.pictures) or len(set(self.ids)) != len(self.ids):
            raise DataError(f"{self.name}: every picture has one id, used once")
        if not len(self.indexed) or not len(self.queries):
            raise DataError(
                f"{self.name}: there are {len(self.indexed)} pictures to search, {len(self.queries)} queries"
            )
        if len(self.boxes) != len(self.queries) or any(len(w) != len(self.queries) for w in self.wanted.values()):
            raise DataError(f"{self.name}: boxes and wanted go with queries")
        for row in range(len(self.queries)):
            name = self.ids[int(self.queries[row])]
            if not any(len(w[row].positive) for w in self.wanted.values()):
                raise DataError(f"{self.name}: the query {name} has nothing to find; leave it out")
            for want in self.wanted.values():
                absent = want[row].positive[~torch.isin(want[row].positive, self.indexed)]
                if len(absent):
                    raise DataError(f"{self.name}: {name} should find {self.ids[int(absent[0])]}, which is not indexed")
        seen = self.public[torch.isin(self.public, torch.cat([self.indexed, self.queries]))]
        if len(seen):
            raise DataError(f"{self.name}: {self.ids[int(seen[0])]} is public and searched; keep them apart")


def judged_by(collection: Collection) -> tuple[str, tuple[Wanted, ...]]:
    """Return the protocol that average precision is reported by, and its answers.

    It is the only one, or "medium" of the revisited three.
    """
    name = next((name for name in ("", "medium") if name in collection.wanted), next(iter(collection.wanted)))
    return name, collection.wanted[name]


def cropped(picture: Tensor, box: Box | None) -> Tensor:
    """Return what of a picture [3, H, W] is inside the box.

    Raises:
        DataError: when no whole pixel of the picture is inside.
    """
    if box is None:
        return picture
    height, width = picture.shape[1:]
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(width, round(box[2])), min(height, round(box[3]))
    if right <= left or bottom <= top:
        raise DataError(f"the box {box} has nothing of the picture's {width} x {height} pixels inside")
    return picture[:, top:bottom, left:right]
