"""Which items of a profile were added, and since when. Legend: N items of a profile, oldest first, D features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from countermove.nets.parts import seeded
from countermove.pixels.randomness import generator
from countermove.profiles.plan import Detection

_BATCH = 256


class ItemDetector(nn.Module):
    """A small network from an item and how it differs from its profile's mean to the log-odds that it was added."""

    threshold: Tensor

    def __init__(self, dim: int, hidden: int) -> None:
        """Make it, with an evidence that nothing exceeds."""
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2 * dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.register_buffer("threshold", torch.tensor(torch.inf))

    def forward(self, pairs: Tensor) -> Tensor:
        """Return log-odds [N] of rows [N, 2 D]."""
        return self.net(pairs)[:, 0]


def beside_profile(features: Tensor) -> Tensor:
    """Return every item beside its difference to the profile's mean, [N, 2 D]."""
    return torch.cat([features, features - features.mean(0)], dim=1)


def blank_detector(dim: int, hidden: int, *, seed: int) -> ItemDetector:
    """Return an untrained detector."""
    with seeded(generator(seed, "detector")):
        return ItemDetector(dim, hidden)


def fit_detector(
    detector: ItemDetector,
    features: Sequence[Tensor],
    added: Sequence[Tensor],
    clean: Sequence[Tensor],
    *,
    asked: Detection,
    seed: int,
) -> int:
    """Train it in place and set its threshold.

    Args:
        detector: a fresh one.
        features: of profiles that it learns from, each [N, D].
        added: which of their items were added, each bool [N].
        clean: features of profiles without additions, for the threshold.
        asked: for how long, and which share of the clean profiles stays under the threshold.
        seed: of the order.

    Returns:
        How many items were passed.
    """
    pairs = torch.cat([beside_profile(one) for one in features])
    target = torch.cat(list(added)).float()
    source = generator(seed, "detector's order")
    optimizer = torch.optim.Adam(detector.parameters(), lr=asked.lr)
    detector.train()
    for _ in range(asked.epochs):
        for rows in torch.randperm(len(pairs), generator=source).split(_BATCH):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(detector(pairs[rows]), target[rows]).backward()
            optimizer.step()
    detector.eval()
    found = torch.tensor([evidence(odds)[0] for odds in log_odds(detector, clean)])
    detector.threshold = found.quantile(asked.quantile)
    return asked.epochs * len(pairs)


@torch.no_grad()
def log_odds(detector: ItemDetector, features: Sequence[Tensor]) -> list[Tensor]:
    """Return the log-odds of every item of each profile, [N]."""
    return [detector(beside_profile(one)) for one in features]


def evidence(odds: Tensor) -> tuple[float, int]:
    """Return how much more likely some latest items were added than none, in nats, and the first of them.

    If items from t on were added and those before were not, the log-likelihood exceeds that of "all own" by the sum of
    the log-odds from t on. The best t is that of the largest such sum. The oldest item is the owner's; a profile of one
    has no evidence.
    """
    if len(odds) < 2:
        return -torch.inf, len(odds)
    sums = odds.double().flip(0).cumsum(0).flip(0)[1:]
    best = int(sums.argmax())
    return float(sums[best]), best + 1


@dataclass(frozen=True, kw_only=True)
class Detected:
    """What a detector says of profiles.

    evidence: nats, [P].
    onset:    number of the first addition, [P].
    odds:     of every item, each [N].
    """

    evidence: list[float]
    onset: list[int]
    odds: list[Tensor]


def detect(detector: ItemDetector, features: Sequence[Tensor]) -> Detected:
    """Look at profiles, each [N, D]."""
    odds = log_odds(detector, features)
    found = [evidence(one) for one in odds]
    return Detected(evidence=[e for e, _ in found], onset=[t for _, t in found], odds=odds)


def scores(clean: Detected, moved: Detected, added: Sequence[Tensor]) -> dict[str, float]:
    """Return how well pivots are found: `detection_auc`, `onset_error` (items) and `addition_auc`.

    Args:
        clean: of profiles without additions.
        moved: of profiles with additions.
        added: which items of the latter were added, each bool [N].
    """
    labels = [0] * len(clean.evidence) + [1] * len(moved.evidence)
    values = torch.tensor([*clean.evidence, *moved.evidence]).nan_to_num(neginf=-1e9)
    true = [int(one.int().argmax()) for one in added]
    errors = [abs(found - at) for found, at in zip(moved.onset, true, strict=True)]
    odds, which = torch.cat(moved.odds), torch.cat(list(added))
    found = {"detection_auc": float(roc_auc_score(labels, values)), "onset_error": sum(errors) / len(errors)}
    if bool(which.any()) and not bool(which.all()):
        found["addition_auc"] = float(roc_auc_score(which.numpy(), odds.numpy()))
    return found
