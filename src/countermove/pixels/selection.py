"""Choosing by ids, so that a choice survives reordering. Needs no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from countermove.errors import ConfigError


def pick(ids: Sequence[str], fraction: float, *, seed: int, purpose: str) -> np.ndarray:
    """Choose round(fraction * N) of the ids. Returns bool [N].

    Every id gets a number from the seed, the purpose and itself; the smallest are chosen. A larger fraction keeps what
    a smaller one chose.
    """
    if not 0 <= fraction <= 1:
        raise ConfigError(f"a fraction must lie in 0..1; got {fraction}")
    ranks = [hashlib.sha256(f"{seed}\x1f{purpose}\x1f{name}".encode()).digest() for name in ids]
    order = sorted(range(len(ids)), key=ranks.__getitem__)
    chosen = np.zeros(len(ids), dtype=bool)
    chosen[order[: round(fraction * len(ids))]] = True
    return chosen
