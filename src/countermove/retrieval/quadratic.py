"""Many small quadratic programs at once."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_inside(
    normals: Tensor, bounds: Tensor, *, steps: int = 40, tolerance: float = 1e-7
) -> tuple[Tensor, Tensor]:
    """Return the shortest vectors that keep linear constraints: the least |z| with normals z >= bounds.

    A primal-dual interior-point method with Mehrotra's predictor and corrector, every program with its own step sizes.
    Programs that are solved, or whose numbers overflow because nothing keeps their constraints, are left alone.

    Args:
        normals: [N, M, D]; rows of zeros are constraints that are not there.
        bounds: [N, M].
        steps: at most so many.
        tolerance: of constraints, in units of z, and of the gap.

    Returns:
        [N, D], and bool [N]: whether constraints are kept and nothing shorter does.
    """
    normals, bounds = normals.double(), bounds.double()
    length = normals.norm(dim=2)
    there = length > 1e-12
    normals = torch.where(there[..., None], normals / length.clamp(min=1e-12)[..., None], 0.0)
    bounds = torch.where(there, bounds / length.clamp(min=1e-12), -1.0)
    found = normals.new_zeros(normals.shape[0], normals.shape[2])
    solved = torch.zeros(len(normals), dtype=torch.bool)
    rows = torch.arange(len(normals))
    z, slack = found.clone(), (-bounds).clamp(min=1.0)
    dual = torch.ones_like(bounds)
    for _ in range(steps):
        short, gap = slack - torch.einsum("nmd,nd->nm", normals, z) + bounds, (slack * dual).mean(1)
        unbalanced = z - torch.einsum("nmd,nm->nd", normals, dual)
        done = (short.abs().amax(1) < tolerance) & (gap < tolerance) & (unbalanced.abs().amax(1) < tolerance)
        found[rows[done]], solved[rows[done]] = z[done], True
        going = ~done & (dual.amax(1) < 1e12)
        if not going.any():
            break
        rows, normals, bounds, z, slack, dual, short, gap, unbalanced = (
            a[going] for a in (rows, normals, bounds, z, slack, dual, short, gap, unbalanced)
        )
        weight = dual / slack
        system = torch.eye(z.shape[1], dtype=z.dtype) + torch.bmm((normals * weight[..., None]).mT, normals)
        factor = torch.linalg.cholesky_ex(system)[0]
        aimed = slack * dual
        step = _step(normals, slack, dual, weight, factor, unbalanced, short, aimed)
        after = ((slack + _length(slack, step[1]) * step[1]) * (dual + _length(dual, step[2]) * step[2])).mean(1)
        centre = (after / gap).clamp(0, 1) ** 3 * gap
        aimed = slack * dual + step[1] * step[2] - centre[:, None]
        dz, dslack, ddual = _step(normals, slack, dual, weight, factor, unbalanced, short, aimed)
        reach = 0.99 * torch.minimum(_length(slack, dslack), _length(dual, ddual))
        z, slack, dual = z + reach * dz, slack + reach * dslack, dual + reach * ddual
    return found, solved


def _step(
    normals: Tensor,
    slack: Tensor,
    dual: Tensor,
    weight: Tensor,
    factor: Tensor,
    unbalanced: Tensor,
    short: Tensor,
    aimed: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return Newton's step of z, slack and dual towards a complementarity that is smaller by what is aimed at."""
    right = -unbalanced + torch.einsum("nmd,nm->nd", normals, weight * short - aimed / slack)
    dz = torch.cholesky_solve(right[..., None], factor)[..., 0]
    dslack = torch.einsum("nmd,nd->nm", normals, dz) - short
    return dz, dslack, -(aimed + dual * dslack) / slack


def _length(value: Tensor, step: Tensor) -> Tensor:
    """Return the longest step up to 1 that keeps values positive, [N, 1]."""
    ratio = torch.where(step < 0, -value / step.clamp(max=-1e-300), 1.0)
    return ratio.amin(1, keepdim=True).clamp(max=1.0)
