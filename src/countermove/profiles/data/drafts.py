"""Which items make which profile, in which split, before any of them is read."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from countermove.errors import ConfigError
from countermove.pixels.selection import pick

if TYPE_CHECKING:
    from torch import Tensor

    from countermove.profiles.dataset import Medium, Profiles

Split = Literal["owners", "profiles"]
"""What is kept whole when profiles are split: everything of an owner, or only every single profile."""

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A profile whose items are still names.

    owner: whose it is.
    label: value of the attribute.
    items: their ids, oldest first.
    part:  which of the owner's profiles this is, from 0.
    split: "train", "validation" or "test"; "" is still to be chosen.
    """

    owner: str
    label: int
    items: tuple[str, ...]
    part: int = 0
    split: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All of a set but the items themselves; items go by their ids. See `Profiles` for what each part is."""

    drafts: tuple[Draft, ...]
    classes: tuple[str, ...]
    background: tuple[str, ...] = ()
    kinds: tuple[int, ...] = ()
    public: tuple[str, ...] = ()
    public_labels: tuple[int, ...] = ()
    public_classes: tuple[str, ...] = ()
    warning: str = ""

    def ids(self) -> list[str]:
        """Return the ids of all items in use, sorted."""
        inside = chain.from_iterable(draft.items for draft in self.drafts)
        return sorted({*inside, *self.background, *self.public})

    def filled(
        self,
        name: str,
        medium: Medium,
        items: Tensor,
        *,
        rate: int = 0,
        captions: Mapping[str, str] | None = None,
    ) -> Profiles:
        """Return the set, given the items in the order of `ids`, and what is written under each, by id.

        Raises:
            DataError: when no profiler can be made of it.
        """
        import torch

        from countermove.profiles.captions import caption_vectors
        from countermove.profiles.dataset import Profiles

        ids = self.ids()
        written = {} if captions is None else {"captions": caption_vectors([captions.get(item, "") for item in ids])}
        row = {item: i for i, item in enumerate(ids)}
        several = {owner for owner, count in Counter(draft.owner for draft in self.drafts).items() if count > 1}

        def rows(names: Sequence[str]) -> Tensor:
            return torch.tensor([row[item] for item in names], dtype=torch.int64)

        def whole(numbers: Sequence[int]) -> Tensor:
            return torch.tensor(numbers, dtype=torch.int64)

        def of(split: str) -> Tensor:
            return whole([i for i, draft in enumerate(self.drafts) if draft.split == split])

        return Profiles(
            name=name,
            medium=medium,
            items=items,
            ids=tuple(ids),
            bags=tuple(rows(draft.items) for draft in self.drafts),
            labels=whole([draft.label for draft in self.drafts]),
            owners=tuple(draft.owner for draft in self.drafts),
            profile_ids=tuple(
                f"{draft.owner}#{draft.part}" if draft.owner in several else draft.owner for draft in self.drafts
            ),
            classes=self.classes,
            train=of("train"),
            validation=of("validation"),
            test=of("test"),
            background=rows(self.background),
            kinds=whole(self.kinds),
            public=rows(self.public),
            public_labels=whole(self.public_labels),
            public_classes=self.public_classes,
            rate=rate,
            warning=self.warning,
            **written,
        )


def check_split(name: str, settings: Any) -> None:
    """Refuse shares of validation and test profiles that leave none to train on or to test.

    Raises:
        ConfigError: naming the setting and its value.
    """
    if not 0 < settings.test < 1:
        raise ConfigError(f"{name}: test = {settings.test:g} is refused: it lies between 0 and 1")
    if not 0 <= settings.validation < 1 - settings.test:
        raise ConfigError(
            f"{name}: validation = {settings.validation:g} is refused: with test = {settings.test:g} it lies in "
            f"0..{1 - settings.test:g}, and what is left is trained on"
        )
    if settings.split not in ("owners", "profiles"):
        raise ConfigError(f"{name}: split = {settings.split!r} is refused; it is owners or profiles")


def check_least(name: str, settings: Any, **least: int) -> None:
    """Refuse numbers below their least; None is not looked at.

    Raises:
        ConfigError: naming the setting and its value.
    """
    for setting, smallest in least.items():
        value = getattr(settings, setting)
        if value is not None and value < smallest:
            raise ConfigError(f"{name}: {setting} = {value} is refused: it must be at least {smallest}")


def split_drafts(drafts: Sequence[Draft], settings: Any) -> tuple[list[Draft], str]:
    """Put drafts into splits by the settings validation, test, split and split_seed, every value's owners alike.

    Of every value somebody is tested and, where `validation` is above 0, validated; where a value has too few owners
    for that, nobody is validated. With split="profiles" every profile becomes its own owner.

    Returns:
        the drafts, and a warning where one person's profiles may be on both sides.
    """
    warning = ""
    if settings.split == "profiles":
        whose = Counter(draft.owner for draft in drafts)
        drafts = [
            replace(draft, owner=f"{draft.owner}#{draft.part}", part=0) if whose[draft.owner] > 1 else draft
            for draft in drafts
        ]
        shared = sum(count > 1 for count in whose.values())
        if shared:
            warning = (
                f"{shared} of {len(whose)} owners have several profiles, which may stand in train and in test "
                "(split = profiles; owners are called OWNER#0, OWNER#1, ... here): what is learned of a person may be "
                "found again in the test, so accuracies are too high"
            )
    values: dict[str, set[int]] = defaultdict(set)
    for draft in drafts:
        values[draft.owner].add(draft.label)
    alike: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for owner in sorted(values):
        alike[tuple(sorted(values[owner]))].append(owner)
    split: dict[str, str] = {}
    for owners in alike.values():
        split |= _shared_out(owners, settings)
    if {draft.label for draft in drafts if split[draft.owner] == "validation"} != set().union(*values.values()):
        split = {owner: "train" if name == "validation" else name for owner, name in split.items()}
    return [replace(draft, split=split[draft.owner]) for draft in drafts], warning


def _shared_out(owners: Sequence[str], settings: Any) -> dict[str, str]:
    """Choose the split of each of some owners: one at least is trained on, then tested, then validated."""
    count = len(owners)
    tested = min(max(1, round(settings.test * count)), count - 1)
    validating = min(max(settings.validation > 0, round(settings.validation * count)), max(0, count - 1 - tested))
    test = chosen(owners, tested, seed=settings.split_seed, purpose="test")
    others = [owner for owner in owners if owner not in test]
    validation = chosen(others, validating, seed=settings.split_seed, purpose="validation")
    return {o: "test" if o in test else "validation" if o in validation else "train" for o in owners}


def balanced(drafts: Sequence[Draft], *, seed: int) -> list[Draft]:
    """Leave out profiles until every split has equally many of each value.

    Everybody's later profiles go before anybody's first; among equals, ids and the seed choose.
    """
    kept: set[tuple[str, int]] = set()
    for split in SPLITS:
        of_label: dict[int, list[Draft]] = defaultdict(list)
        for draft in drafts:
            if draft.split == split:
                of_label[draft.label].append(draft)
        fewest = min((len(mine) for mine in of_label.values()), default=0)
        for mine in of_label.values():
            taken = chosen(
                [f"{draft.owner}#{draft.part}" for draft in mine],
                fewest,
                seed=seed,
                purpose="balance",
                first=lambda name: int(name.rpartition("#")[2]),
            )
            kept |= {(d.owner, d.part) for d in mine if f"{d.owner}#{d.part}" in taken}
    return [draft for draft in drafts if (draft.owner, draft.part) in kept]


def chosen(
    names: Sequence[str], count: int, *, seed: int, purpose: str, first: Callable[[str], int] = lambda _: 0
) -> set[str]:
    """Choose so many names by themselves and the seed; those for which `first` is smaller go before."""
    taken: set[str] = set()
    for rank in sorted({first(name) for name in names}):
        mine = [name for name in names if first(name) == rank]
        left = min(count - len(taken), len(mine))
        marks = pick(mine, left / len(mine), seed=seed, purpose=purpose)
        taken |= {name for name, mark in zip(mine, marks, strict=True) if mark}
    return taken


def shuffled(names: Sequence[str], *, seed: int, purpose: str) -> list[str]:
    """Return names in an order that follows from themselves and the seed."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}\x1f{purpose}\x1f{name}".encode()).digest())


def cut(items: Sequence[str], size: int, most: int | None, *, newest: bool = False) -> list[tuple[str, ...]]:
    """Cut ordered items into disjoint profiles of `size`, at most so many, from the oldest or the newest end."""
    count = len(items) // size
    count = count if most is None else min(count, most)
    starts = [len(items) - (i + 1) * size if newest else i * size for i in range(count)]
    return [tuple(items[start : start + size]) for start in starts]
