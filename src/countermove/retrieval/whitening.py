"""Whitening of descriptors: a projection in which what tells pictures apart counts equally in every direction.

Legend: N descriptors of D numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import DataError
from countermove.retrieval.backbone import LEAST

RIDGE = 1e-3
"""Share of the mean variance that is added to every direction, so that few pictures give a projection at all."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """Take the mean away, project, bring to length one.

    mean:       [D].
    projection: [D', D], the direction that counts most first.
    """

    mean: Tensor
    projection: Tensor

    def __call__(self, descriptors: Tensor) -> Tensor:
        """Return unit vectors [N, D']; differentiable."""
        mean, projection = self.mean.to(descriptors), self.projection.to(descriptors)
        return F.normalize((descriptors - mean) @ projection.T, eps=LEAST)

    def first(self, dims: int) -> Whitening:
        """Return the same with only the directions that count most.

        Raises:
            DataError: when there are fewer.
        """
        if dims > len(self.projection):
            raise DataError(f"dims = {dims} are asked for; the whitening has {len(self.projection)}")
        return Whitening(self.mean, self.projection[:dims] if dims else self.projection)


def learned_whitening(descriptors: Tensor, labels: Tensor) -> Whitening:
    """Learn from which descriptors go together, Mikolajczyk and Matas 2007 as used by Radenovic et al. 2018.

    The differences of matching pairs become white; then the directions are turned to the principal ones of all
    descriptors.

    Differs from the released code: all pairs of one label match, counted through sums over every label (theirs come
    from 3D models); RIDGE is added to the covariance.

    Raises:
        DataError: when no two descriptors have one label, or fewer than two labels are there.
    """
    x = descriptors.double()
    mean = x.mean(0)
    x = x - mean
    within, pairs = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64), 0
    names = labels.unique()
    for name in names:
        own = x[labels == name]
        total = own.sum(0)
        # the sum over pairs of (a - b)(a - b)' without the pairs
        within += len(own) * own.T @ own - total[:, None] * total
        pairs += len(own) * (len(own) - 1) // 2
    if not pairs or len(names) < 2:
        raise DataError("whitening is learned from public pictures of two things or more, of one at least two pictures")
    root = torch.linalg.cholesky(_ridged(within / pairs))
    white = torch.linalg.solve_triangular(root, x.T, upper=False)
    turn = _principal(white @ white.T)[1].T
    return _whitening(mean, torch.linalg.solve_triangular(root.T, turn.T, upper=True).T)


def pca_whitening(descriptors: Tensor) -> Whitening:
    """Make all descriptors white, whatever they show, Jegou and Chum 2012.

    Raises:
        DataError: when there are fewer than two.
    """
    if len(descriptors) < 2:
        raise DataError("whitening is learned from two public pictures or more")
    x = descriptors.double()
    mean = x.mean(0)
    x = x - mean
    variances, directions = _principal(_ridged(x.T @ x / len(x)))
    return _whitening(mean, (directions / variances.sqrt()).T)


def _ridged(covariance: Tensor) -> Tensor:
    ridge = RIDGE * covariance.diagonal().mean().clamp(min=1e-12)
    return covariance + ridge * torch.eye(len(covariance), dtype=covariance.dtype)


def _principal(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return variances, largest first, and directions as columns, with the sign that makes the largest entry positive.

    Libraries choose signs freely.
    """
    variances, directions = torch.linalg.eigh(covariance)
    variances, directions = variances.flip(0), directions.flip(1)
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return variances, directions * largest.sign()


def _whitening(mean: Tensor, projection: Tensor) -> Whitening:
    return Whitening(mean.float(), projection.float().contiguous())
