"""What a stored move spent of its budget."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from countermove.pixels.balls import Ball
from countermove.pixels.rounding import to_float


def measured_budget(stored: Tensor, clean: Tensor, ball: Ball | None) -> dict[str, Any]:
    """Measure a stored move against what it promises; without a promise its largest change is reported."""
    delta = to_float(stored) - clean
    meter = ball or Ball(norm="linf", radius=1.0)
    sizes = meter.measure(delta)
    return {
        "norm": meter.norm,
        "radius": None if ball is None else ball.radius,
        "largest": float(sizes.max()),
        "mean": float(sizes.mean()),
        "kept": None if ball is None else bool(ball.contains(delta).all()),
    }
