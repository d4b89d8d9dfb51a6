"""Natural items, chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from countermove.errors import ConfigError, did_you_mean
from countermove.learning.scoring import place as place_on
from countermove.profiles.candidates import Like, candidates, check_like, drawn
from countermove.profiles.choosing import greedy, least_similar
from countermove.profiles.crafting import mean_direction, steady
from countermove.profiles.dataset import Profiles
from countermove.profiles.extractor import extract
from countermove.profiles.pivot import (
    TARGET,
    Additions,
    Box,
    Knowledge,
    PivotContext,
    Place,
    check_extension,
    chosen,
    counts,
    read_knowledge,
    require_background,
)

Choice = Literal["pool", "best", "greedy"]


@dataclass(frozen=True, kw_only=True)
class NatI:
    """Natural items that lead the profiler astray (NatI), Liu, thesis, chapter 4. Nothing is changed, only chosen.

    White and gray box: every candidate is read as a profile of its own, and the mover adds some of those that speak
    most against its value of the attribute. Near-black box: those that are least similar to the profile.

    box:       white (the profiler), gray (one like it, trained on half of its profiles), near-black (an extractor).
    model:     white and gray: the profiler it is chosen with, spelled; target: the one it meets.
    features:  near-black: the extractor it is chosen with.
    choice:    white and gray: pool (at random among the share of candidates that speak most against it, as published),
               best (those that do so most), greedy (one after the other, each the best beside those before it: a set
               is chosen, exactly scored). Near-black: always the best, which are the best set too.
    pool:      share of the candidates.
    additions: per item of the profile; 1 doubles it.
    place:     end (the newest items), alternate (between the others, evenly), start (the oldest).
    like:      any background item, or only those of the "same" value of the attribute as the mover's own.

    The thesis does not say how large its candidate sets are. Differs from the released near-black code, which takes
    distances for similarities and, by a mistake in its order, random items.
    """

    version: ClassVar[int] = 1
    changes: ClassVar[bool] = False
    box: Box = "white"
    model: str = TARGET
    features: str = "small(build=1, network=small-cnn)"
    choice: Choice = "pool"
    pool: float = 0.05
    additions: float = 1.0
    place: Place = "end"
    like: Like = "any"

    def __post_init__(self) -> None:
        read_knowledge("nat-i", self.box, self.model, self.features)
        check_extension("nat-i", self.additions, self.place)
        check_like("nat-i", self.like)
        if self.choice not in get_args(Choice):
            raise ConfigError(
                f"move 'nat-i': choice = {self.choice!r} is refused; {did_you_mean(self.choice, get_args(Choice))}"
            )
        if not 0 < self.pool <= 1:
            raise ConfigError(f"move 'nat-i': pool = {self.pool:g} is refused; it is a share of candidates, 0.05 say")

    def knows(self) -> Knowledge | None:
        """Return what it is chosen with."""
        return read_knowledge("nat-i", self.box, self.model, self.features)

    def __call__(self, data: Profiles, movers: Tensor, *, context: PivotContext) -> Additions:
        """Return the additions."""
        with steady(context), torch.no_grad():
            choose = self._unlike if self.box == "near-black" else self._against
            return chosen(data, movers, choose(data, movers, context), self.place)

    def _unlike(self, data: Profiles, movers: Tensor, context: PivotContext) -> list[Tensor]:
        network = context.extractor("nat-i")
        profile = mean_direction(data, movers, network, device=context.device)
        features = extract(network, data.items[data.background], data.medium, device=context.device)
        context.meter.samples += len(features) + sum(data.lengths(movers))
        rows = []
        for at, (mover, count) in enumerate(zip(movers.tolist(), counts(data, movers, self.additions), strict=True)):
            allowed = torch.isin(data.background, self._allowed(data, mover, count))
            best = least_similar(profile[at : at + 1], features[allowed], count)[0]
            rows.append(data.background[allowed][best])
        return rows

    def _against(self, data: Profiles, movers: Tensor, context: PivotContext) -> list[Tensor]:
        reader = context.profiler("nat-i")
        place_on(reader, context.device)
        features = _seen(data, data.background, context)
        alone = torch.ones(len(features), 1, dtype=torch.bool, device=context.device)
        probabilities = reader.bag(features[:, None], alone).softmax(1).cpu()
        context.meter.samples += len(features)
        rows = []
        for mover, count in zip(movers.tolist(), counts(data, movers, self.additions), strict=True):
            allowed = torch.isin(data.background, self._allowed(data, mover, count))
            pool, own = data.background[allowed], int(data.labels[mover])
            if self.choice == "greedy":
                mine = _seen(data, data.bags[mover], context)
                some = features[allowed.to(context.device)]
                rows.append(pool[greedy(reader.bag, mine, some, count, own).cpu()])
                continue
            order = probabilities[allowed, own].argsort(stable=True)
            if self.choice == "best":
                rows.append(pool[order[:count]])
                continue
            most = max(count, round(self.pool * len(pool)))
            rows.append(drawn(pool[order[:most]], count, data.profile_ids[mover], context.seed))
        return rows

    def _allowed(self, data: Profiles, mover: int, count: int) -> Tensor:
        return require_background(data, "nat-i", count, candidates(data, mover, self.like))


def _seen(data: Profiles, rows: Tensor, context: PivotContext) -> Tensor:
    """Return features of items as the profiler sees them, on its device."""
    body = context.profiler("nat-i").body
    assert body is not None, "a pivot sees items through the profiler's own extractor"
    found = extract(body, data.items[rows], data.medium, device=context.device)  # pyright: ignore[reportArgumentType]
    return data.described(found, rows).to(context.device)
