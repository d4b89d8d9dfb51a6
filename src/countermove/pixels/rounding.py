"""Between float pictures and the 8-bit ones that are stored, without leaving the ball."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from countermove.errors import DataError
from countermove.pixels.balls import Ball

_ENTRIES_AT_ONCE = 1 << 22  # about 32 MB for one float64 tensor
_TOLERANCE = 1e-6  # of one level: a radius that was computed and is an ulp short of 8/255 still permits 8 levels


def check_pictures(pictures: Tensor) -> None:
    """Refuse what is not a batch of float RGB pictures.

    Raises:
        DataError: not floating point, or not [N, 3, H, W].
    """
    if pictures.ndim != 4 or pictures.shape[1] != 3 or not pictures.is_floating_point():
        raise DataError(
            f"pictures must be floats in [0, 1] of shape [N, 3, H, W]; got {pictures.dtype} {list(pictures.shape)}"
        )


def to_uint8(pictures: Tensor) -> Tensor:
    """Round pictures in [0, 1] to the nearest of 256 levels, any shape; values outside are clamped.

    Raises:
        DataError: NaN among the values, which have no level.
    """
    if pictures.isnan().any():
        raise DataError("pictures hold NaN, which cannot be stored with 8 bits; the step that made them diverged")
    return (pictures.detach() * 255).round_().clamp_(0, 255).to(torch.uint8)


def to_float(pictures: Tensor) -> Tensor:
    """Return uint8 pictures as float32 in [0, 1], any shape; `to_uint8` gives them back."""
    return pictures.to(torch.float32) / 255


@torch.no_grad()
def quantize_move(moved: Tensor, clean: Tensor, ball: Ball) -> Tensor:
    """Round moved pictures to 8 bits so that they stay inside the ball around the clean ones, and in [0, 1].

    Plain rounding can leave the ball. Here the budget is kept exactly, counted in whole levels, and the result
    survives saving as PNG. L-infinity: a change is at most floor(255 radius) levels. L2: entries that were rounded away
    from zero are rounded toward it instead, those first that lose least accuracy for what they save. L0: only the
    strongest positions stay. A moved picture that was outside the ball is projected first.

    Args:
        moved: float pictures [N, 3, H, W].
        clean: the pictures they were made from, same shape; rounded first if they are not 8-bit.
        ball: the budget.

    Returns:
        Pictures k / 255 with the shape, dtype and device of moved.

    Raises:
        DataError: shapes that differ, or NaN.
    """
    check_pictures(moved)
    if moved.shape != clean.shape:
        raise DataError(f"moved pictures {list(moved.shape)} and clean ones {list(clean.shape)} differ in shape")
    rounded = torch.empty_like(moved)
    rows = max(1, _ENTRIES_AT_ONCE // max(1, moved[:1].numel()))
    for out, m, c in zip(rounded.split(rows), moved.split(rows), clean.split(rows), strict=True):
        if m.isnan().any():
            raise DataError("moved pictures hold NaN; the method that made them diverged, try a smaller step")
        base = to_uint8(c).double()
        levels = _whole_levels(m.double().clamp(0, 1) * 255 - base, ball)
        out.copy_(to_float((base + levels).to(torch.uint8)))
    return rounded


def _whole_levels(change: Tensor, ball: Ball) -> Tensor:
    """Round changes in levels (255 to the unit, float64) to whole ones that are inside the ball."""
    if ball.norm == "linf":
        limit = math.floor(ball.radius * 255 + _TOLERANCE)
        return change.round().clamp(-limit, limit)
    if ball.norm == "l0":
        return ball.project(change.round())
    inside = Ball(norm="l2", radius=ball.radius * 255).project(change)
    levels = inside.round()
    budget = (ball.radius * 255) ** 2 * (1 + 1e-8)
    out = (levels.square().flatten(1).sum(1) > budget).nonzero().flatten()
    levels[out] = _pull_in(levels[out], inside[out], budget)
    return levels


def _pull_in(levels: Tensor, change: Tensor, budget: float) -> Tensor:
    """Take one level from as few entries as bring every sample's sum of squares under the budget.

    An entry q, rounded away from zero by r in (0, 1/2], saves 2|q| - 1 and loses (1 - r)^2 - r^2 = 1 - 2r of accuracy;
    the cheapest go first. Truncating all of them would suffice, as |trunc(change)| <= |change|.
    """
    q, exact = levels.flatten(1).abs(), change.flatten(1).abs()
    excess = q - exact
    saved = torch.where(excess > 0, 2 * q - 1, 0)
    price = torch.where(saved > 0, (1 - 2 * excess) / saved, math.inf)
    order = price.argsort(dim=1, stable=True)
    saved_before = saved.gather(1, order).cumsum(1) - saved.gather(1, order)
    missing = q.square().sum(1, keepdim=True) - budget
    taken = torch.zeros_like(q).scatter_(1, order, (saved_before < missing).to(q.dtype))
    taken = torch.where(saved > 0, taken, 0)
    return (levels.flatten(1).sign() * (q - taken)).view_as(levels)
