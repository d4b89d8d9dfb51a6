"""Choosing which of many candidates to add to a profile. Legend: N items, M candidates, P profiles, D features.

benchmarks/profiles_choosing.py measures both against reading whole profiles anew.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from countermove.errors import DataError
from countermove.pixels.steps import frozen
from countermove.profiles.profiler import BagNetwork

_AT_ONCE = 8192
"""Items that are read at once."""


@torch.no_grad()
def greedy(
    network: BagNetwork,
    features: Tensor,
    candidates: Tensor,
    count: int,
    label: int,
    *,
    allowed: Tensor | None = None,
    shortlist: int = 64,
) -> Tensor:
    """Return candidates that together speak against a label, int64 [count] in the order in which they are chosen.

    Each is the one with the highest loss of the profile, those chosen before it, and itself. With a profiler that has a
    summary, all candidates are scored in each round, exactly, without reading an item twice. With another one they all
    are in the first round, by reading the profile once for each; later rounds look at the best of the first alone. An
    order-aware profiler reads additions last.

    Args:
        network: what reads the profile; used as it is when it is not trained.
        features: of the profile's items [N, D].
        candidates: their features [M, D].
        count: how many to choose, none twice.
        label: what the profile's owner does not want to be read.
        allowed: bool [M], which may be chosen; all by default.
        shortlist: how many stay after the first round where there is no summary; never fewer than `count`.

    Raises:
        DataError: when fewer candidates are allowed than are to be chosen.
    """
    device = next(network.parameters(), features).device
    features, candidates = features.to(device), candidates.to(device)
    rows = torch.arange(len(candidates), device=device)
    if allowed is not None:
        rows = rows[allowed.to(device)]
    if count > len(rows):
        raise DataError(f"{count} items are to be chosen from {len(rows)} candidates; give more, or add fewer")
    if count == 0:
        return rows[:0].cpu()
    with frozen(network):
        here = torch.ones(1, len(features), dtype=torch.bool, device=device)
        start = network.summary(features[None], here)
        if start is None:
            best = _by_reading(network, features, candidates[rows], count, label, max(shortlist, count))
        else:
            best = _by_summaries(network, start, candidates[rows], count, label)
    return rows[best].cpu()


def least_similar(profiles: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Return the candidates that are least like each profile, int64 [P, count], the least similar one first.

    Similarity is the mean cosine between a candidate and the profile's items. It is a product with the mean direction
    of the items, and so the best ones are the best set, too.

    Args:
        profiles: mean of the items' features, each normalised before, [P, D].
        candidates: features [M, D], as they come, in 16 or 32 bits.
        count: how many for each profile.

    Raises:
        DataError: when there are fewer candidates.
    """
    if count > len(candidates):
        raise DataError(f"{count} items are to be chosen from {len(candidates)} candidates; give more, or add fewer")
    parts = []
    for part in candidates.split(_AT_ONCE):
        part = part.to(profiles.dtype)
        length = torch.linalg.vector_norm(part, dim=1).clamp(min=torch.finfo(part.dtype).tiny)
        parts.append(profiles @ part.T / length)
    return torch.cat(parts, 1).topk(count, dim=1, largest=False).indices


def _by_summaries(network: BagNetwork, start: Tensor, candidates: Tensor, count: int, label: int) -> Tensor:
    """Score all candidates in every round by what their summary adds."""
    each = _in_parts(candidates, lambda part: _summary(network, part))
    chosen: list[Tensor] = []
    taken = torch.zeros(len(candidates), dtype=torch.bool, device=candidates.device)
    for _ in range(count):
        against = _in_parts(each, lambda part, start=start: _against(network.joined(start + part), label))
        chosen.append(against.masked_fill(taken, -torch.inf).argmax())
        taken[chosen[-1]] = True
        start = start + each[chosen[-1]]
    return torch.stack(chosen)


def _by_reading(
    network: BagNetwork, features: Tensor, candidates: Tensor, count: int, label: int, shortlist: int
) -> Tensor:
    """Read the profile with every candidate, then with those of the shortlist."""
    rows = torch.arange(len(candidates), device=candidates.device)
    chosen: list[Tensor] = []
    for _ in range(count):
        profile = torch.cat([features, candidates[torch.stack(chosen)]]) if chosen else features
        against = _in_parts(
            candidates[rows],
            lambda part, profile=profile: _against(_read_with(network, profile, part), label),
            at_once=max(1, _AT_ONCE // (len(profile) + 1)),
        )
        if not chosen:
            best = against.topk(min(shortlist, len(rows))).indices
            rows, against = rows[best], against[best]
        at = int(against.argmax())
        chosen.append(rows[at])
        rows = torch.cat([rows[:at], rows[at + 1 :]])
    return torch.stack(chosen)


def _read_with(network: BagNetwork, profile: Tensor, more: Tensor) -> Tensor:
    """Return the logits [M, C] of a profile with each of several items."""
    together = torch.cat([profile.expand(len(more), -1, -1), more[:, None]], 1)
    return network(together, torch.ones(together.shape[:2], dtype=torch.bool, device=together.device))


def _against(logits: Tensor, label: int) -> Tensor:
    """Return the logarithm of the odds against a label, [B].

    It orders as the loss does, but does not round to 0, where candidates would be equal, when the label is certain.
    """
    others = torch.arange(logits.shape[1], device=logits.device) != label
    return logits[:, others].logsumexp(1) - logits[:, label]


def _summary(network: BagNetwork, items: Tensor) -> Tensor:
    """Return the summaries of items, each as a profile of one."""
    summary = network.summary(items[:, None], torch.ones(len(items), 1, dtype=torch.bool, device=items.device))
    assert summary is not None, "a network that sums up a profile sums up an item"
    return summary


def _in_parts(values: Tensor, score: Callable[[Tensor], Tensor], *, at_once: int = _AT_ONCE) -> Tensor:
    return torch.cat([score(part) for part in values.split(at_once)])
