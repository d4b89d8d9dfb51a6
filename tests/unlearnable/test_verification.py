"""The curve of a verifier, against counting pairs one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from countermove.errors import DataError
from countermove.unlearnable.verification import roc


def counted(features: torch.Tensor, labels: torch.Tensor) -> tuple[list[float], list[float]]:
    """Return the cosines of all pairs of the same class, and of all others."""
    same, different = [], []
    for i, j in itertools.combinations(range(len(labels)), 2):
        a, b = features[i].double(), features[j].double()
        cosine = float(a @ b / (a.norm() * b.norm()).clamp_min(1e-12))
        (same if labels[i] == labels[j] else different).append(cosine)
    return same, different


@pytest.mark.parametrize("seed", range(3))
def test_auc_is_how_often_a_pair_of_the_same_class_wins(seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (24,), generator=source)
    features = torch.randn(24, 5, generator=source) + torch.eye(5)[labels]
    same, different = counted(features, labels)
    wins = np.mean([(a > b) + 0.5 * (a == b) for a in same for b in different])
    assert roc(features, labels).auc == pytest.approx(wins, abs=1e-9)


def test_every_point_of_the_curve_is_a_threshold() -> None:
    source = torch.Generator().manual_seed(7)
    labels = torch.randint(3, (15,), generator=source)
    features = torch.randn(15, 4, generator=source)
    same, different = counted(features, labels)
    points = {
        (np.mean([d >= t - 1e-12 for d in different]), np.mean([s >= t - 1e-12 for s in same]))
        for t in [*same, *different, np.inf]
    }
    curve = roc(features, labels)
    for point in zip(curve.fpr, curve.tpr, strict=True):
        assert any(np.allclose(point, known) for known in points)
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)


def test_ties_count_half() -> None:
    curve = roc(torch.ones(6, 2), torch.tensor([0, 0, 0, 1, 1, 1]))
    assert curve.auc == pytest.approx(0.5)


def test_perfect_features_are_told_apart_whatever_their_length() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    features = torch.eye(3)[labels] * torch.tensor([1.0, 9.0, 0.1, 3.0, 2.0, 5.0])[:, None]
    curve = roc(features, labels)
    assert curve.auc == 1.0
    assert curve.at(np.array([0.0, 0.5])).tolist() == [1.0, 1.0]


def test_interpolation_reads_the_curve() -> None:
    curve = roc(torch.ones(4, 2), torch.tensor([0, 0, 1, 1]))
    assert curve.at(np.array([0.0, 0.25, 1.0])).tolist() == [0.0, 0.25, 1.0]


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.ones(3, 2), torch.tensor([0, 1]), r"got \[3, 2\] and \[2\]"),
        (torch.ones(3, 2, 2), torch.tensor([0, 1, 1]), r"got \[3, 2, 2\]"),
        (torch.ones(3, 2), torch.tensor([0, 1, 2]), "these 3 pictures give 0 and 3"),
        (torch.ones(3, 2), torch.tensor([1, 1, 1]), "these 3 pictures give 3 and 0"),
        (torch.tensor([[1.0], [float("nan")], [1.0]]), torch.tensor([0, 0, 1]), "not finite"),
    ],
)
def test_refuses_what_cannot_be_verified(features: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        roc(features, labels)
