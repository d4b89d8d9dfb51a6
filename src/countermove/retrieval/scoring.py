"""Scores of several searches as one. Legend: Q queries, M indexed pictures, V views of a query."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from countermove.retrieval.edits.crop import crop
from countermove.retrieval.edits.resize import resize
from countermove.retrieval.plan import Expansion, Views


def views_of(picture: Tensor, asked: Views) -> list[Tensor]:
    """Return what of a picture uint8 [3, H, W] is searched for: every crop in every scale, each mirrored where asked.

    The scores of all views are averaged.
    """
    seen = [resize(crop(picture, share=share), share=scale) for share in asked.crops for scale in asked.scales]
    return [*seen, *(view.flip(2) for view in seen)] if asked.flip else seen


def averaged(scores: Sequence[Tensor]) -> Tensor:
    """Return the mean of several engines' scores [Q, M], brought to mean 0 and deviation 1 for every query first.

    An engine that scores all pictures alike says nothing, and counts as 0.
    """
    total = torch.zeros_like(scores[0], dtype=torch.float64)
    for one in scores:
        centred = one.double() - one.double().mean(1, keepdim=True)
        deviation = centred.square().mean(1, keepdim=True).sqrt()
        total += torch.where(deviation > 1e-12, centred / deviation.clamp(min=1e-12), 0.0)
    return (total / len(scores)).to(scores[0].dtype)


def found_first(scores: Tensor, asked: Expansion, *, cosines: bool) -> tuple[Tensor, Tensor]:
    """Return the best pictures of every query, int64 [Q, top], and what they weigh beside the query's own 1.

    Args:
        scores: [Q, M].
        asked: how many, and the exponent of their weights.
        cosines: whether scores are cosines of descriptors, which are the weights then (negative ones are 0). Others
            are taken between the query's median score, 0, and its best, 1.
    """
    best, rows = scores.sort(dim=1, descending=True, stable=True)
    best, rows = best[:, : asked.top], rows[:, : asked.top]
    if not cosines:
        low, high = scores.median(1, keepdim=True).values, scores.amax(1, keepdim=True)
        best = torch.where(high > low, (best - low) / (high - low).clamp(min=1e-12), 0.0)
    return rows, best.clamp(0, 1) ** asked.alpha


def expanded(scores: Tensor, again: Tensor, weights: Tensor) -> Tensor:
    """Return scores [Q, M] of queries that were joined with what they found.

    Averaging scores ranks as averaging descriptors does, where a score is a descriptor's product with the query's.

    Args:
        scores: of the queries, [Q, M].
        again: of the found pictures as queries, [Q, top, M].
        weights: of the found pictures, [Q, top].
    """
    total = scores + torch.einsum("qt,qtm->qm", weights.to(scores.dtype), again.to(scores.dtype))
    return total / (1 + weights.sum(1, keepdim=True)).to(scores.dtype)


def leaked_rows(positive: Sequence[Tensor], share: float) -> list[Tensor]:
    """Return which of what each query should find is indexed as changed: the first of them, by row."""
    return [rows.sort().values[: round(share * len(rows))] for rows in positive]
