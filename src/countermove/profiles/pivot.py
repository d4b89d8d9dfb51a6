"""What a pivot is given and what it gives back.

A pivot is a frozen, keyword-only dataclass, called with a set and the rows of the profiles whose owners move::

    __call__(data: Profiles, movers: Tensor, *, context: PivotContext) -> Additions

Class variables say what it is: `version`, raised when its output changes; `changes`, whether it makes items that nobody
took (media "table" has none of these), or chooses among those that are there. `knows()` says what it must know.

Legend: B movers, K additions of the longest extension, A additions in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, get_args

import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.game.methods import Methods
from countermove.profiles.dataset import Profiles, padded
from countermove.profiles.extractor import ItemNetwork, read_extractor
from countermove.profiles.profiler import Reader

Box = Literal["white", "gray", "near-black"]
Place = Literal["end", "alternate", "start"]
TARGET = "target"
"""As a pivot's model: the profiler whom it meets."""
GRAY_SHARE = 0.5
"""Share of the training profiles that a mover in the gray box has."""


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What a mover has.

    box:      "white": the profiler; "gray": one like it, trained on half of its profiles; "near-black": an extractor.
    model:    the profiler, spelled, or `TARGET`; "" in the near-black box.
    features: the extractor, spelled; "" in the other two.
    """

    box: Box
    model: str = ""
    features: str = ""


@dataclass
class Meter:
    """Forward-backward passes of an item that were spent."""

    samples: int = 0


@dataclass(frozen=True, kw_only=True)
class PivotContext:
    """What a mover may use.

    reader:  in the white and the gray box: a profiler with what turns its items into features.
    network: in the near-black box: what turns items into features.
    seed:    of all noise and choices; a profile's own follow its id.
    """

    reader: Reader | None = None
    network: ItemNetwork | None = None
    seed: int = 0
    device: str = "cpu"
    meter: Meter = field(default_factory=Meter)

    def profiler(self, owner: str) -> Reader:
        """Return the profiler, which the box must hold."""
        assert self.reader is not None, f"{owner} is made on a profiler"
        return self.reader

    def extractor(self, owner: str) -> ItemNetwork:
        """Return the extractor, which the box must hold."""
        assert self.network is not None, f"{owner} is made on an extractor"
        return self.network


@dataclass(frozen=True, kw_only=True)
class Additions:
    """Items that movers add.

    items:  as they are stored, [A, ...].
    mover:  whose each is, int64 [A], numbers of movers.
    source: the set's item that each was made from, or is, int64 [A]; -1 for none.
    when:   how many of its mover's own items are older, int64 [A].
    """

    items: Tensor
    mover: Tensor
    source: Tensor
    when: Tensor

    def __len__(self) -> int:
        return len(self.mover)


class Pivot(Protocol):
    """A move of this arena."""

    version: ClassVar[int]
    changes: ClassVar[bool]

    def knows(self) -> Knowledge | None:
        """Return what it must know; None for nothing."""
        ...

    def __call__(self, data: Profiles, movers: Tensor, *, context: PivotContext) -> Additions:
        """Return what the movers add."""
        ...


def all_methods() -> Methods:
    """Return the arena's methods. They list the pivots, so a pivot cannot import them at its top."""
    from countermove.profiles.methods import METHODS

    return METHODS


def check_extension(owner: str, additions: float, place: str) -> None:
    """Refuse an extension that is none.

    Raises:
        ConfigError: additions that are not above 0 (or more than ten an item), an unknown place.
    """
    if not 0 < additions <= 10:
        raise ConfigError(
            f"move {owner!r}: additions = {additions} is refused; it counts them per item of the profile, above 0, at "
            "most 10; 1 doubles the profile"
        )
    if place not in get_args(Place):
        raise ConfigError(f"move {owner!r}: place = {place!r} is refused; {did_you_mean(place, get_args(Place))}")


def read_knowledge(owner: str, box: str, model: str, features: str) -> Knowledge:
    """Return what a mover has, canonically spelled.

    Raises:
        ConfigError: on an unknown box, profiler or extractor.
    """
    if box not in get_args(Box):
        raise ConfigError(f"move {owner!r}: box = {box!r} is refused; {did_you_mean(box, get_args(Box))}")
    if box == "near-black":
        spelled, extractor = read_extractor(features, f"move {owner!r}")
        if extractor.learned:
            raise ConfigError(f"move {owner!r}: features = {features!r} is trained with a profiler, so nobody has it")
        return Knowledge(box=box, features=spelled)
    if model == TARGET:
        return Knowledge(box=box, model=TARGET)  # pyright: ignore[reportArgumentType]
    composition = all_methods().compose("model", model)
    _ = composition.method
    return Knowledge(box=box, model=composition.spelling)  # pyright: ignore[reportArgumentType]


def counts(data: Profiles, movers: Tensor, additions: float) -> list[int]:
    """Return how many items each mover adds: so many per item, at least one."""
    return [max(1, round(additions * length)) for length in data.lengths(movers)]


def positions(length: int, count: int, place: str) -> list[int]:
    """Return how many own items are older than each addition: all, none, or evenly more and more."""
    if place == "end":
        return [length] * count
    if place == "start":
        return [0] * count
    return [(at + 1) * length // count for at in range(count)]


def extension(
    data: Profiles, movers: Tensor, items: Sequence[Tensor], sources: Sequence[Tensor], place: str
) -> Additions:
    """Return additions from those of every mover: stored items [K, ...] and the rows they came from [K]."""
    when = [positions(length, len(mine), place) for length, mine in zip(data.lengths(movers), sources, strict=True)]
    return Additions(
        items=torch.cat(list(items)),
        mover=torch.repeat_interleave(torch.arange(len(movers)), torch.tensor([len(mine) for mine in sources])),
        source=torch.cat(list(sources)),
        when=torch.tensor([at for mine in when for at in mine], dtype=torch.int64),
    )


def chosen(data: Profiles, movers: Tensor, rows: Sequence[Tensor], place: str) -> Additions:
    """Return additions that are items of the set as they are: rows [K] of every mover."""
    return extension(data, movers, [data.items[mine] for mine in rows], rows, place)


def extended(data: Profiles, profiles: Tensor, additions: Additions | None) -> list[Tensor]:
    """Return the profiles' rows with what was added, in the order of time; addition a is row len(items) + a."""
    first = len(data.items)
    bags: list[Tensor] = []
    for number, profile in enumerate(profiles.tolist()):
        own = data.bags[profile]
        if additions is None:
            bags.append(own)
            continue
        mine = (additions.mover == number).nonzero().flatten()
        # an addition stands behind as many own items as are older, in front of the next
        key = torch.cat([torch.arange(len(own)) + 0.5, additions.when[mine].double()])
        bags.append(torch.cat([own, first + mine])[key.argsort(stable=True)])
    return bags


def require_background(data: Profiles, owner: str, least: int, rows: Tensor | None = None) -> Tensor:
    """Return the rows that may be added.

    Raises:
        DataError: when there are fewer than asked for.
    """
    rows = data.background if rows is None else rows
    if len(rows) < least:
        raise DataError(
            f"move {owner!r}: {data.name} has {len(rows)} items that may be added, {least} are asked for; lower "
            "additions, or bring more candidates"
        )
    return rows


def own_items(data: Profiles, movers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the movers' own rows, padded [B, N], and which are there."""
    return padded([data.bags[mover] for mover in movers.tolist()])
