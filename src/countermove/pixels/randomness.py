"""Explicit randomness: every generator is made from a seed and the names of what it is for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator that depends on the seed and on every word of its purpose, and on nothing else."""
    text = "\x1f".join(str(part) for part in (seed, *purpose))
    state = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(state)


def per_sample(seed: int, purpose: str, ids: Sequence[str], draw: Callable[[torch.Generator], Tensor]) -> Tensor:
    """Stack one draw for each id, so that sample i gets the same numbers in any batch and any order. Shape [N, ...]."""
    return torch.stack([draw(generator(seed, purpose, sample)) for sample in ids])
