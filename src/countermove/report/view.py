"""What the page shows, as plain values: the template only lays it out."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from countermove.errors import ConfigError
from countermove.game import spelling
from countermove.game.methods import Kind
from countermove.game.results import Results, Row, results_csv
from countermove.game.verdict import Square, Verdict
from countermove.report.source import Report, stored_budgets

BUCKETS = 10
"""The heat map has BUCKETS + 1 colours, from nothing left to fully effective."""
_TEXT_COLUMNS = frozenset(("key", "arena", "data", "move", "countermove", "model", "status"))


@dataclass(frozen=True)
class Heat:
    """One square of the heat map. bucket: None where there is no payoff."""

    square: Square
    bucket: int | None
    best: bool


@dataclass(frozen=True)
class Matrix:
    """The heat map of one data set and model. rows: a move and its squares, None where one was not played."""

    data: str
    model: str
    countermoves: tuple[str, ...]
    uncounted: frozenset[str]
    rows: tuple[tuple[str, tuple[Heat | None, ...]], ...]


@dataclass(frozen=True)
class Check:
    """One control: what is known to happen, what was seen."""

    data: str
    what: str
    known: str
    seen: float | None
    good: bool


@dataclass(frozen=True)
class Budget:
    """What a move promises and what was measured on the saved files, the largest over the seeds."""

    data: str
    move: str
    norm: str
    radius: str
    largest: float
    kept: bool | None


def sentences(verdict: Verdict) -> list[tuple[str, str]]:
    """Return the verdict's sentences, one a move, each with the data that it is about."""
    return [(move.sentence, move.data) for move in verdict.moves] or [(verdict.sentence, "")]


def matrices(results: Results, verdict: Verdict) -> list[Matrix]:
    """Return the heat maps, one a data set and model."""
    best = {(m.data, m.move, m.reply) for m in verdict.moves if m.value is not None}
    found = []
    for data in results.axis("data"):
        for model in results.axis("model"):
            squares = {
                (s.move, s.reply.countermove): Heat(s, bucket(s), (data, s.move, s.reply) in best)
                for s in verdict.matrix
                if s.data == data and s.reply.model == model
            }
            columns = tuple(dict.fromkeys(countermove for _, countermove in squares))
            counted = {heat.square.reply.countermove for heat in squares.values() if heat.square.eligible}
            moves = [move for move in results.axis("move") if any(key[0] == move for key in squares)]
            rows = tuple((move, tuple(squares.get((move, c)) for c in columns)) for move in moves)
            if rows:
                found.append(Matrix(data, model, columns, frozenset(columns) - counted, rows))
    return found


def bucket(square: Square) -> int | None:
    """Return the colour of a square: 0 for a payoff of 0 or less, BUCKETS for 1 or more."""
    if square.payoff is None:
        return None
    return round(min(max(square.payoff.point, 0.0), 1.0) * BUCKETS)


def checks(results: Results) -> list[Check]:
    """Return the controls of every data set: the clean models, the known move and the reply that undoes it."""
    found = []
    for data in results.axis("data"):
        for model in results.axis("model"):
            rows = _rows(results, data, "none", "none", model)
            clean = [fmean(row.record["units"]["outcome"]) for row in rows]
            chance = rows[0].record["chance"] if rows else None
            known = "learns" if chance is None else f"at least 0.10 away from chance ({chance:.2f})"
            good = bool(clean) and (chance is None or all(abs(c - chance) >= 0.1 for c in clean))
            found.append(Check(data, f"{model} on clean data", known, _mean(clean), good))
        for control in results.arena.controls(data):
            naive = _mean(_payoffs(_rows(results, data, control.move, "none")))
            left = _mean(_payoffs(_rows(results, data, control.move, control.countermove)))
            works = naive is not None and naive >= control.works
            found.append(
                Check(data, f"{control.move} against none", f"payoff at least {control.works:.2f}", naive, works)
            )
            undone = naive is not None and left is not None and left <= control.broken * naive
            known = f"at most {control.broken:.0%} of that"
            found.append(Check(data, f"{control.move} against {control.countermove}", known, left, undone))
    return found


def budgets(report: Report) -> list[Budget]:
    """Return the measured budgets of every move and data set."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row, budget in stored_budgets(report.run, report.results):
        groups.setdefault((row.setting.data, row.setting.move), []).append(budget)
    found = []
    for (data, move), some in groups.items():
        radius = some[0].get("radius")
        promise = "none" if radius is None else spelling.spell_number(float(radius))
        kept = None if radius is None else all(budget.get("kept") for budget in some)
        largest = max(float(budget.get("largest", 0.0)) for budget in some)
        found.append(Budget(data, move, str(some[0].get("norm", "")), promise, largest, kept))
    return found


def cell_table(results: Results) -> tuple[list[str], list[list[str]], frozenset[str]]:
    """Return header, rows and the names of the text columns of results.csv, field by field as they stand there."""
    header, *rows = csv.reader(io.StringIO(results_csv(results)))
    return header, rows, _TEXT_COLUMNS


def cast(results: Results) -> list[dict[str, str]]:
    """Return every method that was played, with the line and the paper of its data sheet."""
    played: dict[tuple[Kind, str], None] = {}
    kinds: Mapping[str, Kind] = {"data": "data", "move": "move", "countermove": "countermove", "model": "model"}
    for axis, kind in kinds.items():
        for text in results.axis(axis):
            for named in spelling.parse(text):
                played[(kind, named.name)] = None
    found = []
    for kind, name in played:
        try:
            sheet = results.arena.methods.sheet(kind, name)
        except ConfigError:  # a plug-in that was there when the run was played
            found.append({"kind": kind, "name": name, "summary": "not installed here", "paper": ""})
        else:
            found.append({"kind": kind, "name": name, "summary": sheet.summary, "paper": sheet.paper})
    return found


def environments(results: Results) -> list[tuple[str, str]]:
    """Return what the cells were played with: every fact with all values that it had."""
    facts: dict[str, dict[str, None]] = {}
    for row in results.rows:
        for name, value in row.record.get("environment", {}).items():
            facts.setdefault(name, {})[str(value)] = None
    return [(name, ", ".join(values)) for name, values in facts.items()]


def artifacts(report: Report) -> list[dict[str, Any]]:
    """Return the shared artifacts of the run's folder with what they took to make."""
    run = report.run
    keys = sorted(p.name for p in run.artifacts.glob("*") if run.has_artifact(p.name))
    manifests = [run.manifest(key) for key in keys]
    return sorted(manifests, key=lambda m: (m["kind"], m["label"]))


def _rows(results: Results, data: str, move: str, countermove: str, model: str | None = None) -> list[Row]:
    return [
        row
        for row in results.rows
        if row.ok
        and (row.setting.data, row.setting.move, row.setting.countermove) == (data, move, countermove)
        and model in (None, row.setting.model)
    ]


def _payoffs(rows: Sequence[Row]) -> list[float]:
    return [row.payoff for row in rows if row.payoff is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
