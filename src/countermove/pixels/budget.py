"""What a stored move spent of its budget."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from countermove.pixels.balls import Ball
from countermove.pixels.rounding import to_float


class Spending:
    """What the pictures of a move spend, portion by portion.

    sizes:  float32 [N], the norm of each change.
    inside: bool [N], which are inside the ball; all, where none was promised.
    """

    def __init__(self, pictures: int, ball: Ball | None) -> None:
        self.sizes, self.inside = torch.zeros(pictures), torch.ones(pictures, dtype=torch.bool)
        self._ball, self._meter = ball, ball or Ball(norm="linf", radius=1.0)

    def add(self, rows: slice, stored: Tensor, clean: Tensor) -> None:
        """Measure the pictures at some rows: uint8 [n, 3, H, W], against the clean ones, float32 in [0, 1]."""
        delta = to_float(stored) - clean
        self.sizes[rows] = self._meter.measure(delta)
        if self._ball is not None:
            self.inside[rows] = self._ball.contains(delta)

    def told(self) -> dict[str, Any]:
        """Say what all spent; without a promise the largest change is reported."""
        return {
            "norm": self._meter.norm,
            "radius": None if self._ball is None else self._ball.radius,
            "largest": float(self.sizes.max()),
            "mean": float(self.sizes.mean()),
            "kept": None if self._ball is None else bool(self.inside.all()),
        }


def measured_budget(stored: Tensor, clean: Tensor, ball: Ball | None) -> dict[str, Any]:
    """Measure a stored move against what it promises; without a promise its largest change is reported."""
    spending = Spending(len(stored), ball)
    spending.add(slice(None), stored, clean)
    return spending.told()
