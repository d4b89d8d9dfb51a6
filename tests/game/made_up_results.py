"""Results of runs that never took place, cell by cell as a test wants them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from coin_audits import audit
from numpy.typing import NDArray

from countermove.game.cell import Setting, Task
from countermove.game.grid import Grid
from countermove.game.payoff import payoff
from countermove.game.results import Results, Row
from countermove.game.run import resolve

Draw = Callable[[Setting], NDArray[np.float64] | None]
"""The outcome of every unit in a cell; None where the cell failed."""

CHANCE = 0.1


def grid_of(**changes: Any) -> Grid:
    """Return the grid of a small audit."""
    return resolve(audit(**{"seeds": 3, **changes}))


def results_of(
    grid: Grid,
    draw: Draw,
    *,
    counted: Sequence[bool] | None = None,
    price: Callable[[Setting], dict[str, float]] = lambda _: {},
) -> Results:
    """Return results in which every cell has the outcomes that were drawn for it."""
    records: dict[str, dict[str, Any]] = {}
    for cell in grid.cells:
        outcome = draw(_setting(cell))
        if outcome is not None:
            ids = [f"unit-{i}" for i in range(len(outcome))]
            units = {"ids": ids, "outcome": outcome.tolist(), "counted": None if counted is None else list(counted)}
            records[cell.key] = {"key": cell.key, "chance": CHANCE, "units": units, "status": "ok"}
    return Results(grid.arena, grid.config, tuple(_row(grid, cell, records, price) for cell in grid.cells))


def _row(grid: Grid, cell: Task, records: dict[str, Any], price: Callable[[Setting], dict[str, float]]) -> Row:
    setting, record = _setting(cell), records.get(cell.key)
    reference = records.get((cell.reference or cell).key)
    if record is None:
        return Row(cell.key, setting, "failed", None, {}, {}, {})
    found = None if reference is None else payoff(grid.arena, record, reference)
    metrics = {"accuracy": float(np.mean(record["units"]["outcome"]))}
    return Row(cell.key, setting, "ok", found, metrics, price(setting), record)


def _setting(cell: Task) -> Setting:
    assert cell.setting is not None
    return cell.setting


def sure(accuracies: dict[tuple[str, str], float], units: int = 100, other: float = 0.9) -> Draw:
    """Give every cell exactly its accuracy by (move, countermove); the control comes out as known."""
    known = {("loaded", "none"): 0.2, ("loaded", "scale"): 0.85, **accuracies}

    def draw(s: Setting) -> NDArray[np.float64]:
        right = round(known.get((s.move, s.countermove), other) * units)
        return (_mixed(units) < right).astype(np.float64)

    return draw


def _mixed(units: int) -> NDArray[np.int64]:
    """Return a fixed order of the units, so that the right ones are spread over both halves."""
    return np.random.default_rng(7).permutation(units)
