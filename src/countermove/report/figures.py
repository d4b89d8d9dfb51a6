"""The page's charts: value against price, and learning curves. Each comes with its numbers as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from countermove.game.ledger import Moment, moments
from countermove.game.results import PRICE, Results, Row
from countermove.game.verdict import Square, Verdict
from countermove.report.charts import Dot, Line, curves, scatter, timeline

PRICE_NAMES = {
    "seconds": "seconds beyond none",
    "samples": "samples beyond none",
    "parameters_changed": "parameters changed beyond none",
    "bytes_stored": "bytes stored beyond none",
    "clean_examples": "clean examples beyond none",
    "clean_cost": "clean metric lost",
}
MOST_EPOCHS = 12
"""Columns of a curve's table; longer curves show this many epochs, the last among them."""


@dataclass(frozen=True)
class PriceChart:
    """Every eligible reply to one move: what it leaves against one price."""

    data: str
    move: str
    svg: Markup


@dataclass(frozen=True)
class PriceView:
    """The scatter of one price: a small chart a move."""

    price: str
    title: str
    charts: tuple[PriceChart, ...]


@dataclass(frozen=True)
class TimeView:
    """One row of the matrix of dates: a move that was published at a date, at every date of training."""

    data: str
    move: str
    published: str
    dates: tuple[str, ...]
    moments: tuple[Moment | None, ...]
    svg: Markup


@dataclass(frozen=True)
class CurveChart:
    """The learning curves of one square, one line a seed. values: the mean over seeds at the shown epochs."""

    countermove: str
    svg: Markup
    values: tuple[float, ...]


@dataclass(frozen=True)
class CurveView:
    """The curves of one move on one data set with one model: a small chart a countermove."""

    data: str
    model: str
    move: str
    curve: str
    epochs: tuple[int, ...]
    charts: tuple[CurveChart, ...]


def price_views(results: Results, verdict: Verdict) -> list[PriceView]:
    """Return the scatters of every price in which the replies differ."""
    squares = [s for s in verdict.matrix if s.eligible and s.payoff is not None]
    views = []
    for price in PRICE:
        priced = [s for s in squares if price in s.price]
        if len({s.price[price] for s in priced}) > 1:
            charts = tuple(_price_charts(priced, price, len(results.axis("model"))))
            views.append(PriceView(price, PRICE_NAMES[price], charts))
    return sorted(views, key=lambda view: view.price != "clean_cost")


def time_views(results: Results) -> list[TimeView]:
    """Return what is left of every dated move at each training date, where the audit has dates."""
    found = moments(results)
    dates = tuple(dict.fromkeys(moment.trained for moment in found))
    views = []
    for data, move in dict.fromkeys((moment.data, moment.move) for moment in found):
        mine = {moment.trained: moment for moment in found if (moment.data, moment.move) == (data, move)}
        row = tuple(mine.get(date) for date in dates)
        words = f"What is left of {move} by the date of training. The table has the numbers."
        left = [None if moment is None else moment.left for moment in row]
        svg = timeline(dates, left, y_label="payoff left", desc=words)
        views.append(TimeView(data, move, next(iter(mine.values())).published, dates, row, svg))
    return views


def curve_views(results: Results) -> list[CurveView]:
    """Return the learning curves of every move, data set and model that have any."""
    views = []
    for data in results.axis("data"):
        for model in results.axis("model"):
            rows = [r for r in results.rows if (r.setting.data, r.setting.model) == (data, model) and _test(results, r)]
            clean = [r for r in rows if (r.setting.move, r.setting.countermove) == ("none", "none")]
            limits = _limits(results, rows)
            for move in results.axis("move"):
                played = [row for row in rows if row.setting.move == move]
                if played:
                    views.append(_curve_view(results, played, clean, limits))
    return views


def curve_name(results: Results, row: Row) -> str | None:
    """Return the name of the curve over clean test data: the arena's metric, or the first that is not on train data."""
    names = list(row.record.get("curves", {}))
    if results.arena.metric in names:
        return results.arena.metric
    return next((name for name in names if "train" not in name), None)


def _price_charts(squares: Sequence[Square], price: str, models: int) -> Iterator[PriceChart]:
    for (data, move), group in groupby(squares, key=lambda s: (s.data, s.move)):
        some = list(group)
        dots = [_dot(square, some, price, models) for square in some]
        words = (
            f"Payoff of {move} that each reply leaves, against {PRICE_NAMES[price]}. The table below has the numbers."
        )
        svg = scatter(dots, x_label=PRICE_NAMES[price], y_label="payoff left", description=words)
        yield PriceChart(data, move, svg)


def _dot(square: Square, all_squares: Sequence[Square], price: str, models: int) -> Dot:
    assert square.payoff is not None, "squares without a payoff were left out"
    x, y = square.price[price], square.payoff.point
    front = not any(
        other.payoff is not None
        and other.price[price] <= x
        and other.payoff.point <= y
        and (other.price[price], other.payoff.point) != (x, y)
        for other in all_squares
    )
    label = square.reply.countermove if models < 2 else f"{square.reply.countermove} · {square.reply.model}"
    return Dot(x=x, y=y, low=square.payoff.low, high=square.payoff.high, label=label, front=front)


def _curve_view(results: Results, rows: Sequence[Row], clean: Sequence[Row], limits: tuple[float, float]) -> CurveView:
    first = rows[0].setting
    name = curve_name(results, rows[0]) or results.arena.metric
    longest = max(len(_test(results, row)) for row in rows)
    epochs = _shown(longest)
    charts = []
    for countermove in dict.fromkeys(row.setting.countermove for row in rows):
        mine = [row for row in rows if row.setting.countermove == countermove]
        lines = [Line(values=_test(results, row), look="clean") for row in clean]
        lines += [Line(values=values, look="train") for row in mine if (values := _train(row))]
        lines += [Line(values=_test(results, row), look="test") for row in mine]
        desc = f"{name} by epoch of {first.move} against {countermove}. The table below has the numbers."
        svg = curves(lines, y_range=limits, x_label="epoch", y_label="", desc=desc)
        means = tuple(_mean_at([_test(results, row) for row in mine], epoch - 1) for epoch in epochs)
        charts.append(CurveChart(countermove, svg, means))
    return CurveView(first.data, first.model, first.move, name, epochs, tuple(charts))


def _shown(longest: int) -> tuple[int, ...]:
    if longest <= MOST_EPOCHS:
        return tuple(range(1, longest + 1))
    return tuple(sorted({round(1 + i * (longest - 1) / (MOST_EPOCHS - 1)) for i in range(MOST_EPOCHS)}))


def _mean_at(series: Sequence[Sequence[float]], index: int) -> float:
    """Return the mean at an epoch; a series that ended earlier keeps its last value."""
    return sum(values[min(index, len(values) - 1)] for values in series) / len(series)


def _limits(results: Results, rows: Sequence[Row]) -> tuple[float, float]:
    values = [v for row in rows for series in (_test(results, row), _train(row)) for v in series]
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1


def _test(results: Results, row: Row) -> Sequence[float]:
    name = curve_name(results, row)
    return row.record["curves"][name] if name else ()


def _train(row: Row) -> Sequence[float]:
    found = row.record.get("curves", {})
    return next((values for name, values in found.items() if "train" in name and "loss" not in name), ())
