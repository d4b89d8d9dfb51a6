"""Choosing pictures by their ids, so that a choice survives reordering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from countermove.errors import ConfigError
from countermove.pixels.selection import pick


def split_off_test(ids: Sequence[str], labels: Sequence[int], fraction: float, *, seed: int) -> np.ndarray:
    """Choose the test pictures, the same share of every class, leaving each class two to train on. Returns bool [N]."""
    if not 0 < fraction < 1:
        raise ConfigError(f"test_fraction must lie between 0 and 1; got {fraction}")
    test = np.zeros(len(ids), dtype=bool)
    of_class: dict[int, list[int]] = {}
    for position, label in enumerate(labels):
        of_class.setdefault(label, []).append(position)
    for positions in of_class.values():
        share = min(fraction, max(0, len(positions) - 2) / len(positions))
        test[positions] = pick([ids[p] for p in positions], share, seed=seed, purpose="test")
    return test


def check_limits(**limits: int | None) -> None:
    """Refuse a limit below 1.

    Raises:
        ConfigError: naming the setting and its value.
    """
    for name, value in limits.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1; got {value}. Leave it out to take everything")
