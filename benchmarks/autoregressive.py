"""Microseconds a picture: autoregressive noise by one matrix product a channel against a loop over its values.

Both sides make noise of 3 x 32 x 32 with the same filters from the same starts, in float64 and on as many threads; the
noises are compared before anything is printed. The matrix side includes building its matrices for ten classes of 5,000
pictures. The loop works on one picture at a time, value by value, as the paper's released code does, but with numpy,
which takes less time a value than a tensor. Run it alone.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from countermove.unlearnable.poisons.autoregressive import (
    MARGIN,
    Autoregressive,
    multiply,
    start_entries,
    transfer,
    unroll,
)

SIDE, CLASSES, EACH, BY_LOOP = 32, 10, 5000, 20


def loop(filters: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Make one picture's noise value by value, from filters [3, 3, 3] and the start [3, B]."""
    side = SIDE + MARGIN
    field = np.zeros((3, side, side))
    field[:, :2] = start[:, : 2 * side].reshape(3, 2, side)
    field[:, 2:, :2] = start[:, 2 * side :].reshape(3, side - 2, 2)
    for channel in range(3):
        values, weights = field[channel], filters[channel]
        for i in range(2, side):
            for j in range(2, side):
                value = np.dot(values[i - 2, j - 2 : j + 1], weights[0])
                value += np.dot(values[i - 1, j - 2 : j + 1], weights[1])
                values[i, j] = value + np.dot(values[i, j - 2 : j], weights[2, :2])
    return field[:, MARGIN:, MARGIN:]


def main() -> None:
    """Measure and print."""
    torch.manual_seed(0)
    began = time.perf_counter()
    filters = Autoregressive().filters(CLASSES, 0)
    drawing = time.perf_counter() - began
    starts = torch.randn(EACH, 3, start_entries(SIDE, SIDE), dtype=torch.float64)

    def by_matrix(label: int) -> Tensor:
        return multiply(transfer(filters[label], SIDE, SIDE), starts, (SIDE, SIDE))

    by_matrix(0)  # pay the one-time costs outside the measurement
    began = time.perf_counter()
    noise = [by_matrix(label) for label in range(CLASSES)][-1]
    matrix = (time.perf_counter() - began) / (CLASSES * EACH)

    began = time.perf_counter()
    unroll(filters[-1:], starts, SIDE, SIDE)
    unrolled = (time.perf_counter() - began) / EACH

    weights, few = filters[-1].numpy(), starts[:BY_LOOP].numpy()
    began = time.perf_counter()
    slow = np.stack([loop(weights, start) for start in few])
    looped = (time.perf_counter() - began) / BY_LOOP

    worst = float((torch.from_numpy(slow) - noise[:BY_LOOP]).abs().max())
    if worst > 1e-10:
        raise SystemExit(f"the two sides differ by {worst:g}")
    print(f"drawing the filters of {CLASSES} classes, once  {drawing:8.2f} s")
    print(f"loop over values                      {looped * 1e6:8.1f} us a picture")
    print(f"one recursion for all of a class      {unrolled * 1e6:8.1f} us a picture")
    print(f"one matrix product a channel          {matrix * 1e6:8.1f} us a picture")
    print(f"ratio of loop to matrix: {looped / matrix:.0f}x (largest difference {worst:.1g})")


if __name__ == "__main__":
    main()
