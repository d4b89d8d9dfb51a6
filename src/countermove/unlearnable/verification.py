"""Verification: are two pictures of the same class? Answered by how alike a network finds them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from countermove.errors import DataError

Floats = NDArray[np.float64]


class Roc(NamedTuple):
    """The receiver operating characteristic of a verifier.

    fpr: share of the pairs of different classes that pass, rising from 0 to 1, one value a threshold.
    tpr: share of the pairs of the same class that pass at that threshold.
    auc: the area under the curve: how often a pair of the same class is more alike than one of different classes.
    """

    fpr: Floats
    tpr: Floats
    auc: float

    def at(self, false_positives: Floats) -> Floats:
        """Return the share of pairs of the same class that pass where so many others do, by linear interpolation."""
        return np.interp(false_positives, self.fpr, self.tpr)


def roc(features: Tensor, labels: Tensor) -> Roc:
    """Verify all pairs of pictures by the cosine of their features.

    Args:
        features: float [N, D], what a network thinks of each picture; its last layer but one.
        labels: int64 [N], which pictures belong together.

    Raises:
        DataError: when they do not fit, are not finite, or hold no pair of one kind.
    """
    from sklearn.metrics import auc, roc_curve

    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise DataError(f"features [N, D] need labels [N]; got {list(features.shape)} and {list(labels.shape)}")
    if not bool(features.isfinite().all()):
        raise DataError("the features hold numbers that are not finite; the network that made them has diverged")
    one, other = torch.triu_indices(len(labels), len(labels), offset=1)
    same = (labels[one] == labels[other]).cpu()
    if bool(same.all()) or not bool(same.any()):
        raise DataError(
            f"verification needs pairs of the same class and pairs of different ones; these {len(labels)} pictures "
            f"give {int(same.sum())} and {int((~same).sum())}"
        )
    directions = torch.nn.functional.normalize(features.detach().double(), dim=1)
    cosine = (directions @ directions.T)[one, other].cpu()
    fpr, tpr, _ = roc_curve(same.numpy(), cosine.numpy())
    return Roc(fpr, tpr, float(auc(fpr, tpr)))
