"""From where items start to what movers add: what the pivots that make items share.

Legend: G groups of movers that share their additions (mostly each mover alone), B movers, K additions of the longest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.randomness import generator
from countermove.profiles.candidates import Like, candidates
from countermove.profiles.crafting import BagLoss, Limit, UnlikeLoss, ascend, steady
from countermove.profiles.dataset import Profiles, as_float, as_stored
from countermove.profiles.pivot import Additions, PivotContext, counts, extension

NOT_ITEMS = "{} holds features of items, not items; nobody can make or change one, only add what is there (nat-i)"


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Who adds the same items.

    names: of the groups, for their noise and choices.
    of:    the group of every mover, int64 [B].
    most:  how many items the longest extension in each group has.
    count: how many each mover adds.
    """

    names: tuple[str, ...]
    of: Tensor
    most: tuple[int, ...]
    count: tuple[int, ...]


def grouped(data: Profiles, movers: Tensor, *, additions: float, shared: bool) -> Groups:
    """Return every mover as a group of one, or all with one value of the attribute as one."""
    count = counts(data, movers, additions)
    if shared:
        of = data.labels[movers]
        names = data.classes
    else:
        of = torch.arange(len(movers))
        names = tuple(data.profile_ids[mover] for mover in movers.tolist())
    most = [0] * len(names)
    for group, number in zip(of.tolist(), count, strict=True):
        most[group] = max(most[group], number)
    return Groups(names=names, of=of, most=tuple(most), count=tuple(count))


def noise(data: Profiles, groups: Groups, seed: int) -> Tensor:
    """Return random items as they are stored, [G, K, ...]: uniform pixels, or white noise as loud as the background.

    Raises:
        ConfigError: for tables, whose rows nobody can make.
    """
    if data.medium == "table":
        raise ConfigError(NOT_ITEMS.format(data.name))
    shape = (max(groups.most), *data.items.shape[1:])
    drawn = torch.zeros(len(groups.names), *shape)
    for row, name in enumerate(groups.names):
        source = generator(seed, "noise items", name)
        if data.medium == "picture":
            drawn[row] = torch.rand(shape, generator=source)
        else:
            drawn[row] = _loudness(data) * torch.randn(shape, generator=source)
    return as_stored(drawn, data.medium)


def _loudness(data: Profiles) -> float:
    """Return the root mean square of the background, or of all items where there is none."""
    some = data.items[data.background] if len(data.background) else data.items
    return float(as_float(some[:1000], data.medium).square().mean().sqrt())


def natural(data: Profiles, movers: Tensor, groups: Groups, seed: int, *, like: Like) -> Tensor:
    """Return rows of random background items, int64 [G, K], none twice in a group as long as there are enough.

    Raises:
        ConfigError: for tables, whose rows nobody can change.
        DataError: when there is nothing to begin with.
    """
    if data.medium == "table":
        raise ConfigError(NOT_ITEMS.format(data.name))
    most = max(groups.most)
    first = dict(zip(groups.of.tolist(), movers.tolist(), strict=True))
    found = torch.zeros(len(groups.names), most, dtype=torch.int64)
    for row, name in enumerate(groups.names):
        if row not in first:  # nobody has this value
            continue
        rows = candidates(data, first[row], like)
        if not len(rows):
            raise DataError(f"{data.name} has no items in its background to begin with; bring candidates")
        source = generator(seed, "natural items", name)
        rounds = -(-most // len(rows))
        order = torch.cat([torch.randperm(len(rows), generator=source) for _ in range(rounds)])
        found[row] = rows[order[:most]]
    return found


def as_additions(
    data: Profiles, movers: Tensor, groups: Groups, items: Tensor, sources: Tensor, place: str
) -> Additions:
    """Return what every mover adds of its group's stored items [G, K, ...] and their sources [G, K]."""
    pairs = list(zip(groups.of.tolist(), groups.count, strict=True))
    return extension(
        data, movers, [items[group, :n] for group, n in pairs], [sources[group, :n] for group, n in pairs], place
    )


def made(
    data: Profiles,
    movers: Tensor,
    groups: Groups,
    start: Tensor,
    sources: Tensor,
    *,
    limit: Limit,
    place: str,
    attention: float | None,
    context: PivotContext,
) -> Additions:
    """Return additions that were moved from stored items [G, K, ...] as far as the limit lets them."""
    there = torch.arange(start.shape[1]) < torch.tensor(groups.count)[:, None]
    begun = as_float(start, data.medium)
    with steady(context):
        if context.reader is not None:
            loss = BagLoss(
                data,
                movers,
                context.reader,
                sources=sources[groups.of],
                place=place,
                attention=attention,
                device=context.device,
            )
        else:
            assert context.network is not None, "there is a profiler or an extractor"
            loss = UnlikeLoss(data, movers, context.network, device=context.device)
        moved = ascend(begun, there, limit, loss, groups=groups.of, context=context)
    shape = start.shape[2:]
    stored = limit.kept(moved.view(-1, *shape), begun.view(-1, *shape)).view_as(start)
    return as_additions(data, movers, groups, stored, sources, place)
