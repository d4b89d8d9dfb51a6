"""The verdict as rows, and the rows as CSV and JSON. Numbers are exact here; text.py rounds them for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from countermove.game.cheapest import cheapest_breaking
from countermove.game.results import PRICE, Results
from countermove.game.verdict import Estimate, Verdict
from countermove.report.source import Report

FORMAT = 1


def verdict_table(results: Results, verdict: Verdict) -> list[dict[str, Any]]:
    """Return one flat row a move and data set, in the audit's order.

    Columns: ``data, move, state``; the estimates ``naive`` (against countermove none), ``value`` (against the best
    eligible reply) and ``blind`` (under the one reply that is best over all moves), each followed by its 95 % bounds
    ``_low`` and ``_high``; ``seeds_counted`` (whether the value's interval holds the variance between seeds);
    ``reply, reply_model`` and ``blind_reply, blind_model``; ``price_<name>`` of the best reply for every price of
    the game; ``n_seeds``. What does not exist is None.
    """
    return [
        {
            "data": move.data,
            "move": move.move,
            "state": move.state,
            **_spread("naive", move.naive),
            **_spread("value", move.value),
            "seeds_counted": move.value.seeds_counted if move.value else None,
            "reply": move.reply.countermove if move.reply else None,
            "reply_model": move.reply.model if move.reply else None,
            **{f"price_{name}": move.price.get(name) for name in PRICE},
            **_spread("blind", move.blind),
            "blind_reply": move.blind_reply.countermove if move.blind_reply else None,
            "blind_model": move.blind_reply.model if move.blind_reply else None,
            "n_seeds": len(results.config.seeds),
        }
        for move in verdict.moves
    ]


def matrix_table(results: Results, verdict: Verdict) -> list[dict[str, Any]]:
    """Return one flat row a square: a move against a countermove with a model, over the run's seeds.

    Columns: ``data, model, move, countermove``; ``payoff, payoff_low, payoff_high`` (None for move none and where the
    reference proves nothing); ``metric`` (the mean of the arena's own metric); ``price_<name>``; ``n_seeds`` played;
    ``eligible`` (whether the reply may count in the verdict).
    """
    return [
        {
            "data": square.data,
            "model": square.reply.model,
            "move": square.move,
            "countermove": square.reply.countermove,
            **_spread("payoff", square.payoff),
            "metric": square.metric,
            **{f"price_{name}": square.price.get(name) for name in PRICE},
            "n_seeds": square.played,
            "eligible": square.eligible,
        }
        for square in verdict.matrix
    ]


def compare(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Return the verdict rows of several runs; the same columns as `verdict_table` behind ``run``."""
    return [{"run": report.name, **row} for report in reports for row in verdict_table(report.results, report.verdict)]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as CSV: six significant digits as in results.csv, true or false, empty where a number is absent."""
    if not rows:
        return ""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([_field(value) for value in row.values()] for row in rows)
    return buffer.getvalue()


def as_json(reports: Sequence[Report]) -> str:
    """Write one or several runs as JSON.

    Schema (format 1; keys are only ever added)::

        {"format": 1,
         "runs": [{"name": str, "audit": str, "arena": str, "unit": str, "metric": str, "seeds": [int],
                   "sentence": str, "conclusive": bool,
                   "moves": [row of verdict_table], "matrix": [row of matrix_table],
                   "cheapest": [{"data": str, "move": str, "price": str, "amount": float, "reply": str, "model": str,
                                 "payoff": float}],
                   "flags": [{"code": str, "text": str, "data": str, "fatal": bool}],
                   "cells": {"ok": int, "failed": int, "blocked": int, "missing": int}}]}
    """
    return (
        json.dumps({"format": FORMAT, "runs": [_run(report) for report in reports]}, indent=1, allow_nan=False) + "\n"
    )


def count_cells(results: Results) -> dict[str, int]:
    """Return how many cells ended how."""
    states = [row.status for row in results.rows]
    return {state: states.count(state) for state in ("ok", "failed", "blocked", "missing")}


def _run(report: Report) -> dict[str, Any]:
    results, verdict = report.results, report.verdict
    return {
        "name": report.name,
        "audit": results.config.name,
        "arena": results.config.arena,
        "unit": results.arena.unit,
        "metric": results.arena.metric,
        "seeds": list(results.config.seeds),
        "sentence": verdict.sentence,
        "conclusive": verdict.conclusive,
        "moves": verdict_table(results, verdict),
        "matrix": matrix_table(results, verdict),
        "cheapest": [
            {**asdict(one), "reply": one.reply.countermove, "model": one.reply.model, "payoff": one.payoff.point}
            for one in cheapest_breaking(verdict, results.arena.yardstick)
        ],
        "flags": [asdict(flag) for flag in verdict.flags],
        "cells": count_cells(results),
    }


def _spread(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: estimate.point, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
