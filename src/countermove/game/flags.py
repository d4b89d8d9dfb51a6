"""What a reader must know before believing a number. Every flag has a paragraph in docs/flags.md under its code."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from countermove.game.cell import Setting
from countermove.game.payoff import outcomes, proves
from countermove.game.results import Results, Row

TOO_FEW_SEEDS = 3


@dataclass(frozen=True)
class Flag:
    """One warning.

    code:  the anchor of its paragraph in docs/flags.md.
    text:  what was seen, with numbers.
    fatal: whether it makes the verdict on its data inconclusive.
    """

    code: str
    text: str
    data: str = ""
    fatal: bool = False


def control_flags(results: Results) -> Iterator[Flag]:
    """Yield what makes the verdict inconclusive: clean models that did not learn, controls that came out wrong."""
    for data in results.axis("data"):
        yield from _clean(results, data)
        yield from _controls(results, data)


def find_flags(results: Results, budgets: Mapping[str, bool]) -> Iterator[Flag]:
    """Yield all other flags."""
    if len(results.config.seeds) < TOO_FEW_SEEDS:
        yield Flag(
            "few-seeds",
            f"{len(results.config.seeds)} seed(s): the intervals hold only the sampling of test units, "
            f"not the difference between runs; use at least {TOO_FEW_SEEDS}.",
        )
    for move, kept in budgets.items():
        if not kept:
            yield Flag("budget-broken", f"{move} leaves its budget once its pictures are saved with 8 bits a channel.")
    if results.unfinished:
        states = ", ".join(sorted({row.status for row in results.unfinished}))
        yield Flag("incomplete", f"{len(results.unfinished)} of {len(results.rows)} cells are {states}.")
    for data in results.axis("data"):
        yield from _hurting(results, data)


def _rows(results: Results, data: str, move: str, countermove: str) -> list[Row]:
    """Return the finished rows over models and seeds."""
    found = [
        results.row(Setting(results.config.arena, data, move, countermove, model, seed))
        for model in results.axis("model")
        for seed in results.config.seeds
    ]
    return [row for row in found if row is not None and row.ok]


def _clean(results: Results, data: str) -> Iterator[Flag]:
    settings = [
        Setting(results.config.arena, data, "none", "none", model, seed)
        for model in results.axis("model")
        for seed in results.config.seeds
    ]
    references = dict.fromkeys(results.arena.reference(setting) for setting in settings)
    rows = [row for setting in references if (row := results.row(setting)) is not None and row.ok]
    if not rows:
        yield Flag("clean-not-learned", f"{data}: no clean reference was played to its end.", data, fatal=True)
    for row in rows:
        clean = fmean(row.record["units"]["outcome"])
        if not proves(clean, row.record["chance"]):
            yield Flag(
                "clean-not-learned",
                f"{data}: {row.setting.model} (seed {row.setting.seed}) reaches {clean:.2f} on clean data, "
                f"within 0.1 of chance ({row.record['chance']:.2f}).",
                data,
                fatal=True,
            )
        elif why := results.arena.not_learned(row.metrics):
            text = f"{data}: {row.setting.model} (seed {row.setting.seed}) {why}"
            yield Flag("clean-not-learned", text, data, fatal=True)


def _controls(results: Results, data: str) -> Iterator[Flag]:
    for control in results.arena.controls(data):
        naive = _mean_payoff(_rows(results, data, control.move, "none"))
        left = _mean_payoff(_rows(results, data, control.move, control.countermove))
        if naive is None or left is None:
            yield Flag("control-failed", f"{data}: the control {control.move} was not played to its end.", data, True)
        elif naive < control.works or left > control.broken * naive:
            digits = results.arena.yardstick.digits
            yield Flag(
                "control-failed",
                f"{data}: the control {control.move} has payoff {naive:.{digits}f} against none (known: at least "
                f"{control.works:.{digits}f}) and {left:.{digits}f} against {control.countermove} (known: at most "
                f"{control.broken:.0%} of it).",
                data,
                fatal=True,
            )


def _hurting(results: Results, data: str) -> Iterator[Flag]:
    """Yield replies whose clean cost is larger than what they win back, a unit, on average over the audit's moves."""
    for countermove in results.axis("countermove"):
        gains, costs = [], []
        for move in results.config.moves:
            without = {(r.setting.model, r.setting.seed): r for r in _rows(results, data, move, "none")}
            for row in _rows(results, data, move, countermove):
                base = without.get((row.setting.model, row.setting.seed))
                if move == "none" or base is None or "clean_cost" not in row.price:
                    continue
                if row.payoff is None or base.payoff is None:
                    continue
                change = abs(outcomes(row.record).mean() - outcomes(base.record).mean())
                gains.append(math.copysign(change, base.payoff - row.payoff))
                costs.append(row.price["clean_cost"])
        if gains and countermove != "none" and 0 < fmean(costs) > fmean(gains):
            yield Flag(
                "hurts-more",
                f"{data}: {countermove} costs {fmean(costs):.3f} {results.arena.metric} on clean data "
                f"and wins back {fmean(gains):.3f} a {results.arena.unit} on moved data.",
                data,
            )


def _mean_payoff(rows: Iterable[Row]) -> float | None:
    payoffs = [row.payoff for row in rows if row.payoff is not None]
    return fmean(payoffs) if payoffs else None
