"""The rows of a run: raw metrics, payoff, and the price beyond countermove none. Derived, can be rebuilt."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from countermove.game.arena import Arena, Rules, arena_class
from countermove.game.cell import Cost, Setting
from countermove.game.config import AuditConfig
from countermove.game.payoff import payoff
from countermove.game.records import check_record, read_setting
from countermove.game.store import RunFolder, write_atomic

PRICE = ("seconds", "samples", "parameters_changed", "bytes_stored", "clean_examples", "clean_cost")


@dataclass(frozen=True)
class Row:
    """One cell as it is reported.

    payoff: None where the reference proves nothing or the cell is not there.
    price:  beyond countermove none with the same move, model and seed; empty where that cell is not there.
    record: the stored cell, empty when it was not played yet.
    """

    key: str
    setting: Setting
    status: str
    payoff: float | None
    metrics: Mapping[str, float]
    price: Mapping[str, float]
    record: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """Whether the cell was played to its end."""
        return self.status == "ok"


@dataclass(frozen=True)
class Results:
    """Everything that was played in one run."""

    arena: Arena
    config: AuditConfig
    rows: tuple[Row, ...]

    @cached_property
    def _by_setting(self) -> dict[Setting, Row]:
        return {row.setting: row for row in self.rows}

    def row(self, setting: Setting) -> Row | None:
        """Return the row of a grid point, None when the run has none."""
        return self._by_setting.get(setting)

    def axis(self, name: str) -> tuple[str, ...]:
        """Return the values of an axis in the order in which they first appear."""
        return tuple(dict.fromkeys(getattr(row.setting, name) for row in self.rows))

    @property
    def unfinished(self) -> tuple[Row, ...]:
        """Return the cells that failed, were blocked or were not played yet."""
        return tuple(row for row in self.rows if not row.ok)


def load_results(run: RunFolder) -> Results:
    """Read a run folder and derive its rows.

    Raises:
        RunError: when it is no run folder, or a cell or the plan has another form than this version writes.
        ConfigError: when its arena is not installed.
    """
    config = run.read_config()
    arena = arena_class(config.arena)(Rules(training=config.training))
    records = {record["key"]: record for record in run.records()}
    for key, record in records.items():
        check_record(record, arena.metric, str(run.cells / f"{key}.json"))
    plan = run.read_plan() or [{"key": k, "setting": r.get("setting")} for k, r in records.items()]
    settings = {
        entry["key"]: read_setting(entry.get("setting"), f"{run.path / 'plan.json'}, {entry['key'][:12]}")
        for entry in plan
    }
    keys = {setting: key for key, setting in settings.items()}
    rows = []
    for key, setting in settings.items():
        record = records.get(key, {})
        ok = record.get("status") == "ok"
        rows.append(
            Row(
                key,
                setting,
                record.get("status", "missing"),
                _payoff(arena, record, records, keys.get(arena.reference(setting))) if ok else None,
                record["metrics"] if ok else {},
                _price(arena, setting, keys, records) if ok else {},
                record,
            )
        )
    return Results(arena, config, tuple(rows))


def results_csv(results: Results) -> str:
    """Return results.csv: one row a cell; empty fields where a number does not exist."""
    metrics = list(dict.fromkeys(name for row in results.rows for name in row.metrics))
    first = [name for name in results.arena.metrics if name in metrics]
    further = [name for name in metrics if name not in first]
    head = ["key", "arena", "data", "move", "countermove", "model", "seed", "status", "payoff"]
    totals = [f"total_{name}" for name in asdict(Cost())]
    move = ["move_seconds", "move_samples"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*head, *first, *PRICE, *further, *totals, *move, "move_access"])
    for row in results.rows:
        setting = asdict(row.setting)
        cost = row.record.get("price", {})
        access = results.arena.access(row.setting)
        writer.writerow(
            [
                row.key,
                *(setting[name] for name in head[1:7]),
                row.status,
                _cell(row.payoff),
                *(_cell(row.metrics.get(name)) for name in first),
                *(_cell(row.price.get(name)) for name in PRICE),
                *(_cell(row.metrics.get(name)) for name in further),
                *(_cell(cost.get(name)) for name in asdict(Cost())),
                *(_cell(row.record.get("move_cost", {}).get(name.removeprefix("move_"))) for name in move),
                access,
            ]
        )
    return buffer.getvalue()


def write_results(run: RunFolder) -> Path:
    """Derive results.csv anew and return its path."""
    path = run.path / "results.csv"
    write_atomic(path, results_csv(load_results(run)))
    return path


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, None of nothing."""
    return sum(values) / len(values) if values else None


def _payoff(
    arena: Arena, record: Mapping[str, Any], records: Mapping[str, Any], reference_key: str | None
) -> float | None:
    """Return a cell's payoff; None where its reference is not there, or is not the one that the plan says."""
    reference = records.get(record["reference"])
    if reference is None or reference["status"] != "ok" or record["reference"] != reference_key:
        return None
    return payoff(arena, record, reference)


def _price(arena: Arena, setting: Setting, keys: Mapping[Setting, str], records: Mapping[str, Any]) -> dict[str, float]:
    def at(move: str, countermove: str) -> Mapping[str, Any] | None:
        other = Setting(setting.arena, setting.data, move, countermove, setting.model, setting.seed)
        record = records.get(keys.get(other, ""))
        return record if record is not None and record["status"] == "ok" else None

    mine, without = at(setting.move, setting.countermove), at(setting.move, "none")
    price: dict[str, float] = {}
    if mine is not None and without is not None:
        price = {name: mine["price"][name] - without["price"][name] for name in asdict(Cost())}
    witness = setting.move if arena.yardstick.bystanders else "none"
    clean, squeezed = at(witness, "none"), at(witness, setting.countermove)
    if clean is not None and squeezed is not None:
        price["clean_cost"] = clean["metrics"][arena.metric] - squeezed["metrics"][arena.metric]
    return price


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
