"""From two cells' raw outcomes to the payoff, with the rule for references that prove nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from countermove.errors import RunError
from countermove.game.arena import Arena

CHANCE_MARGIN = 0.1
"""A reference closer to chance than this has learned too little to measure a move against."""


def outcomes(record: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the outcomes that the payoff counts, one a unit."""
    outcome = np.asarray(record["units"]["outcome"], dtype=np.float64)
    counted = record["units"]["counted"]
    return outcome if counted is None else outcome[np.asarray(counted, dtype=bool)]


def counted_ids(record: Mapping[str, Any]) -> list[str]:
    """Return the ids of the units that the payoff counts."""
    ids, counted = record["units"]["ids"], record["units"]["counted"]
    return list(ids) if counted is None else [i for i, c in zip(ids, counted, strict=True) if c]


def payoff(arena: Arena, record: Mapping[str, Any], reference: Mapping[str, Any]) -> float | None:
    """Return what the mover gets in a cell: 1 is the full aim, 0 as if nothing had been done, unclipped.

    None when the reference is within 0.1 of chance.

    Raises:
        RunError: when the two cells do not score the same units.
    """
    if record["units"]["ids"] != reference["units"]["ids"]:
        raise RunError(f"cells {record['key'][:12]} and {reference['key'][:12]} score different test units")
    counted = record["units"]["counted"]
    mine = outcomes(record)
    base = outcomes({"units": {**reference["units"], "counted": counted}})
    if not proves(float(base.mean()), reference["chance"]):
        return None
    return float(arena.payoff(float(mine.mean()), float(base.mean()), reference["chance"]))


def held_off(reference: NDArray[np.float64], chance: float | None) -> NDArray[np.float64]:
    """Keep the means of halves and resamples as far from chance as the whole reference is known to be.

    One that comes nearer by bad luck would divide a payoff by almost nothing.
    """
    if chance is None:
        return reference
    nearest = chance + np.copysign(CHANCE_MARGIN, reference - chance)
    return np.where(np.abs(reference - chance) < CHANCE_MARGIN, nearest, reference)


def proves(reference: float, chance: float | None) -> bool:
    """Whether a reference is far enough from chance to measure against."""
    return chance is None or abs(reference - chance) >= CHANCE_MARGIN
