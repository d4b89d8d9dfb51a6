"""How good a list of results is: ranks, average precision by two protocols, precision among the first.

Legend: Q queries, M indexed pictures. What is judged are scores [Q, M], higher is better; columns go with `indexed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.pixels.randomness import generator
from countermove.retrieval.collection import Wanted

Protocol = Literal["trapezoid", "plain"]
"""How average precision is computed: as the code of the Oxford buildings has it, or as elsewhere."""

PLACES = (1, 5, 10)


@dataclass(frozen=True, kw_only=True, eq=False)
class Quality:
    """How well queries were answered. A query that wants nothing is NaN everywhere and in no mean.

    ap:        average precision, float64 [Q].
    precision: among the first so many results, by their number, float64 [Q] each.
    """

    ap: Tensor
    precision: dict[int, Tensor]

    @property
    def mean_ap(self) -> float:
        """Return the mean over the queries that want something; NaN where none does."""
        return float(self.ap.nanmean())

    @property
    def mean_precision(self) -> dict[int, float]:
        """Return the means of the precisions over the same queries."""
        return {place: float(values.nanmean()) for place, values in self.precision.items()}


def ranking(scores: Tensor) -> Tensor:
    """Return the columns of every row from the best score to the worst, int64 [Q, M].

    Equal scores stand in an order that is drawn once for every M, the same for all queries. By column, an engine that
    finds nothing would be rewarded where a collection lists its groups one after the other.

    Raises:
        DataError: when a score is no number.
    """
    if scores.isnan().any():
        raise DataError("a score is no number (NaN); an engine must score every indexed picture")
    shuffle = torch.randperm(scores.shape[1], generator=generator(0, "ties", scores.shape[1])).to(scores.device)
    return shuffle[scores[:, shuffle].sort(dim=1, descending=True, stable=True).indices]


def ranks_of(scores: Tensor, *, ignored: Tensor | None = None) -> Tensor:
    """Return every picture's place among the results, from 0, int64 [Q, M]; -1 for what is ignored.

    Args:
        scores:  [Q, M].
        ignored: bool [Q, M]; those behind an ignored picture move up.
    """
    order = ranking(scores)
    counted = torch.ones_like(order, dtype=torch.bool) if ignored is None else ~ignored.gather(1, order)
    places = torch.where(counted, counted.long().cumsum(1) - 1, -1)
    return torch.empty_like(order).scatter_(1, order, places)


def evaluate(
    scores: Tensor,
    wanted: Sequence[Wanted],
    indexed: Tensor,
    *,
    protocol: Protocol = "trapezoid",
    places: Sequence[int] = PLACES,
) -> Quality:
    """Judge scores by what queries should have found.

    Args:
        scores:   float [Q, M].
        wanted:   for every query, by rows of the collection's pictures.
        indexed:  the rows of the columns, int64 [M].
        protocol: "trapezoid": the area below the curve of precision over recall, of which each part between two hits
                  counts with the mean of the precisions before and after its hit; the precision before the first
                  result is 1. "plain": the mean of the precisions at the hits.
        places:   for which numbers of first results precision is wanted. As with the revisited Oxford and Paris, where
                  the last hit comes earlier than that, the results up to it are looked at.

    Raises:
        DataError: when a picture is both wanted and ignored, or a wanted one is not indexed.
        ConfigError: an unknown protocol, places below 1.
    """
    if protocol not in get_args(Protocol):
        raise ConfigError(f"unknown protocol {protocol!r}; {did_you_mean(str(protocol), get_args(Protocol))}")
    if any(place < 1 for place in places):
        raise ConfigError(f"places = {list(places)} are refused: precision is among the first 1 or more results")
    if scores.shape != (len(wanted), len(indexed)):
        raise ValueError(f"scores {list(scores.shape)} of {len(wanted)} queries and {len(indexed)} indexed pictures")
    positive, ignored = _masks(wanted, indexed, scores.device)
    order = ranking(scores)
    hit, counted = positive.gather(1, order), ~ignored.gather(1, order)
    place = counted.double().cumsum(1)  # from 1; read at hits only, which always count
    found = hit.double().cumsum(1)
    total = positive.sum(1)
    precision = found / place.clamp(min=1)
    if protocol == "trapezoid":
        before = torch.where(place > 1, (found - 1) / (place - 1).clamp(min=1), 1.0)
        precision = (precision + before) / 2
    nothing = torch.where(total > 0, 0.0, torch.nan)
    ap = (precision * hit).sum(1) / total.clamp(min=1) + nothing
    last = (place * hit).amax(1, keepdim=True)
    among = {}
    for first in places:
        looked = last.clamp(max=first)
        among[first] = (hit & (place <= looked)).sum(1) / looked[:, 0].clamp(min=1) + nothing
    return Quality(ap=ap, precision=among)


def _masks(wanted: Sequence[Wanted], indexed: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return what is wanted and what is ignored, bool [Q, M] each."""
    indexed = indexed.cpu()
    positive = torch.zeros(len(wanted), len(indexed), dtype=torch.bool)
    ignored = torch.zeros_like(positive)
    for row, want in enumerate(wanted):
        positive[row], ignored[row] = torch.isin(indexed, want.positive.cpu()), torch.isin(indexed, want.ignored.cpu())
        if int(positive[row].sum()) != len(want.positive.unique()):
            raise DataError(f"query {row} should find a picture that is not indexed")
        if (positive[row] & ignored[row]).any():
            raise DataError(f"query {row} should find a picture and ignore it; it can be one of them only")
    return positive.to(device), ignored.to(device)
