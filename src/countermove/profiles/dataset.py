"""People's items and what a profiler wants to know about their owners.

Legend: M items, P profiles, C classes (values of the attribute), N items of a profile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from countermove.errors import DataError
from countermove.pixels.rounding import to_float, to_uint8

Medium = Literal["picture", "speech", "table"]
MEDIA: tuple[Medium, ...] = ("picture", "speech", "table")
_LOUDEST = 32767


@dataclass(frozen=True, kw_only=True, eq=False)
class Profiles:
    """Profiles, the items they consist of, and the items that are in none.

    name:        of the set.
    medium:      "picture" (items are uint8 [M, 3, S, S]), "speech" (int16 [M, T] samples) or "table" (float32 [M, D]).
    items:       all items, as they are stored.
    ids:         of the items, unique.
    bags:        rows of items for each profile, int64 [N], oldest first.
    labels:      int64 [P].
    owners:      whose a profile is, [P]. Nobody's profiles are both trained on and tested.
    profile_ids: unique, [P].
    classes:     names of the attribute's values.
    train, validation, test: int64 rows of profiles. Test profiles' owners are those who may move.
    background:  int64 rows of items that anybody may add to a profile; none of them is in one.
    kinds:       class of whoever a background item comes from, int64 [len(background)], -1 where that is unknown.
    public:      int64 rows of items that extractors may be trained on; none of them is in a profile.
    public_labels, public_classes: what they show, int64 [len(public)], and its names.
    captions:    what is written under every item, as numbers, float32 [M, W]; [M, 0] where nothing ever is.
    rate:        samples a second, of speech.
    warning:     what a reader of results must know about these data, "" where there is nothing.
    """

    name: str
    medium: Medium
    items: Tensor
    ids: tuple[str, ...]
    bags: tuple[Tensor, ...]
    labels: Tensor
    owners: tuple[str, ...]
    profile_ids: tuple[str, ...]
    classes: tuple[str, ...]
    train: Tensor
    validation: Tensor
    test: Tensor
    background: Tensor
    kinds: Tensor
    public: Tensor
    public_labels: Tensor
    public_classes: tuple[str, ...] = ()
    captions: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    rate: int = 0
    warning: str = ""

    def __post_init__(self) -> None:
        """Refuse what no profiler can be made of.

        Raises:
            DataError: on parts that do not fit together, an empty profile, an owner in two splits, an attribute with
                one value, a split that lacks a class, an item that is both in a profile and in the background.
        """
        if not self.captions.shape[1]:
            object.__setattr__(self, "captions", torch.zeros(len(self.items), 0))
        _check_parts(self)
        _check_splits(self)

    @property
    def chance(self) -> float:
        """Return the share of the largest class among test profiles."""
        return float(torch.bincount(self.labels[self.test]).max()) / len(self.test)

    def written(self, rows: Tensor) -> Tensor:
        """Return what is written under items [..., W], of rows [...]; nothing where the row is -1."""
        found = self.captions[rows.clamp(min=0)]
        return found.masked_fill((rows < 0)[..., None], 0)

    def described(self, features: Tensor, rows: Tensor) -> Tensor:
        """Return features [n, D] of the items in rows [n] with what is written under them behind, [n, D + W]."""
        return torch.cat([features, self.written(rows).to(features)], dim=1) if self.captions.shape[1] else features

    def lengths(self, profiles: Tensor) -> list[int]:
        """Return how many items each of some profiles has."""
        return [len(self.bags[p]) for p in profiles.tolist()]


def as_float(items: Tensor, medium: Medium) -> Tensor:
    """Return stored items as networks take them: pictures in [0, 1], speech in [-1, 1], table rows as they are."""
    if medium == "picture":
        return to_float(items)
    return items.float() / _LOUDEST if medium == "speech" else items.float()


def as_stored(items: Tensor, medium: Medium) -> Tensor:
    """Return items as files hold them: 8 bits a channel, 16 bits a sample, 32-bit floats."""
    if medium == "picture":
        return to_uint8(items)
    if medium == "speech":
        return (items * _LOUDEST).round().clamp(-_LOUDEST - 1, _LOUDEST).to(torch.int16)
    return items.float()


def _check_parts(profiles: Profiles) -> None:
    count, items = len(profiles.bags), len(profiles.items)
    shapes = {"picture": (torch.uint8, 4), "speech": (torch.int16, 2), "table": (torch.float32, 2)}
    dtype, ndim = shapes[profiles.medium]
    if profiles.items.dtype != dtype or profiles.items.ndim != ndim:
        raise DataError(f"{profiles.name}: items of a {profiles.medium} set are {dtype} with {ndim} dimensions")
    if not count == len(profiles.labels) == len(profiles.owners) == len(profiles.profile_ids):
        raise DataError(f"{profiles.name}: bags, labels, owners and profile_ids are not equally many")
    if len(profiles.captions) != items or not bool(profiles.captions.isfinite().all()):
        raise DataError(f"{profiles.name}: every item has a caption, of finite numbers, or none has")
    if len(profiles.ids) != items or len(set(profiles.ids)) != items or len(set(profiles.profile_ids)) != count:
        raise DataError(f"{profiles.name}: every item and every profile has one id, used once")
    if len(profiles.kinds) != len(profiles.background) or len(profiles.public_labels) != len(profiles.public):
        raise DataError(f"{profiles.name}: kinds go with background items, public_labels with public ones")
    for name, bag in zip(profiles.profile_ids, profiles.bags, strict=True):
        if not len(bag):
            raise DataError(f"{profiles.name}: the profile {name} is empty; leave it out, or give it an item")
    if profiles.medium == "table" and not bool(profiles.items.isfinite().all()):
        raise DataError(f"{profiles.name}: a feature is not a finite number")
    inside = torch.cat(profiles.bags).unique() if count else torch.zeros(0, dtype=torch.int64)
    for what, rows in (("background", profiles.background), ("public", profiles.public)):
        both = inside[torch.isin(inside, rows)]
        if len(both):
            raise DataError(f"{profiles.name}: the item {profiles.ids[int(both[0])]} is in a profile and {what}")


def _check_splits(profiles: Profiles) -> None:
    whose: dict[str, str] = {}
    for split in ("train", "validation", "test"):
        rows = getattr(profiles, split)
        for row in rows.tolist():
            if whose.setdefault(profiles.owners[row], split) != split:
                raise DataError(
                    f"{profiles.name}: {profiles.owners[row]!r} has profiles in {whose[profiles.owners[row]]} and in "
                    f"{split}; what is learned of a person in one would be found again in the other. Split by owner"
                )
        if split == "validation" and not len(rows):
            continue
        missing = set(range(len(profiles.classes))) - set(profiles.labels[rows].tolist())
        if missing:
            names = ", ".join(profiles.classes[c] for c in sorted(missing))
            raise DataError(f"{profiles.name}: no {split} profile has the value {names}; a profiler needs every value")
    if len(profiles.classes) < 2:
        raise DataError(
            f"{profiles.name}: the attribute has one value ({', '.join(profiles.classes)}), nothing to read"
        )


def padded(bags: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return rows [B, N] of the longest bag's length, 0 where there is none, and bool [B, N] where there is one."""
    longest = max((len(bag) for bag in bags), default=0)
    rows = torch.zeros(len(bags), longest, dtype=torch.int64)
    mask = torch.zeros(len(bags), longest, dtype=torch.bool)
    for at, bag in enumerate(bags):
        rows[at, : len(bag)] = bag
        mask[at, : len(bag)] = True
    return rows, mask
