"""Explicit randomness: every generator is made from a seed and the names of what it is for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from countermove.errors import ConfigError


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator that depends on the seed and on every word of its purpose, and on nothing else."""
    text = "\x1f".join(str(part) for part in (seed, *purpose))
    state = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(state)


def per_sample(seed: int, purpose: str, ids: Sequence[str], draw: Callable[[torch.Generator], Tensor]) -> Tensor:
    """Stack one draw for each id, so that sample i gets the same numbers in any batch and any order. Shape [N, ...]."""
    return torch.stack([draw(generator(seed, purpose, sample)) for sample in ids])


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
