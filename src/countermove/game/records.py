"""Whether a stored cell and a plan's entry have the form that this version writes; a run may be somebody else's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from countermove.errors import RunError
from countermove.game.cell import Cost, Setting


def check_record(record: Mapping[str, Any], metric: str, where: str) -> None:
    """Refuse a cell whose parts are absent or of another kind; of failed and blocked ones only texts are read.

    Args:
        record: the cell.
        metric: the arena's own, which every cell has.
        where: what an error message calls it.

    Raises:
        RunError: naming the part.
    """
    _need(record.get("status") in ("ok", "failed", "blocked"), where, "status")
    if record["status"] != "ok":
        for name in ("error", "traceback"):
            _need(isinstance(record.get(name, ""), str), where, name)
        return
    metrics = record.get("metrics")
    _need(isinstance(metrics, dict) and _are_numbers(metrics) and metric in metrics, where, "metrics")
    for name in ("price", "move_cost"):
        cost = record.get(name)
        _need(isinstance(cost, dict) and _are_numbers(cost) and cost.keys() == asdict(Cost()).keys(), where, name)
    _need(record.get("chance", "") is None or _is_number(record.get("chance")), where, "chance")
    needs, units = record.get("needs"), record.get("units")
    _need(isinstance(needs, dict) and all(isinstance(key, str) for key in needs.values()), where, "needs")
    _need(isinstance(record.get("reference"), str), where, "reference")
    _need(isinstance(units, dict) and units.keys() == {"ids", "outcome", "counted"} and _fit(**units), where, "units")
    for name in ("environment", "curves", "tables"):
        _need(isinstance(record.get(name, {}), dict), where, name)
    for curve in record.get("curves", {}).values():
        _need(isinstance(curve, list) and all(map(_is_number, curve)), where, "curves")
    for table in record.get("tables", {}).values():
        lines = isinstance(table, list) and all(isinstance(line, list) for line in table)
        _need(lines and all(_is_number(value) for line in table for value in line), where, "tables")


def read_setting(entry: Any, where: str) -> Setting:
    """Return the grid point of a plan's entry.

    Raises:
        RunError: when it is none.
    """
    kinds = {field.name: int if field.name == "seed" else str for field in fields(Setting)}
    good = isinstance(entry, dict) and entry.keys() == kinds.keys()
    _need(good and all(isinstance(entry[name], kind) for name, kind in kinds.items()), where, "setting")
    return Setting(**entry)


def _fit(ids: Any, outcome: Any, counted: Any) -> bool:
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        return False
    if not ids or not isinstance(outcome, list) or len(outcome) != len(ids) or not all(map(_is_number, outcome)):
        return False
    flags = isinstance(counted, list) and len(counted) == len(ids) and all(isinstance(one, bool) for one in counted)
    return counted is None or flags


def _are_numbers(values: Mapping[str, Any]) -> bool:
    return all(map(_is_number, values.values()))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < 1e300 and not math.isnan(value)


def _need(good: bool, where: str, name: str) -> None:
    if not good:
        raise RunError(f"{where}: {name!r} is not what this version writes; remove the file and run the audit again")
