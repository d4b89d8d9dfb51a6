"""Published numbers find their squares, whatever words the paper uses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from countermove.game.config import StudyConfig
from countermove.report.published import Published, beside, published, size_words
from countermove.report.source import Report
from countermove.report.text import text


def found(report: Report, **study: Any) -> list[Published]:
    return published(studied(report, **study).results, report.verdict)


def studied(report: Report, **study: Any) -> Report:
    config = report.results.config.model_copy(update={"study": StudyConfig(title="t", paper="p", **study)})
    return replace(report, results=replace(report.results, config=config))


def test_no_study_no_numbers(report: Report) -> None:
    assert published(report.results, report.verdict) == []


def test_the_papers_words_stand_for_spellings(report: Report) -> None:
    names = {"Shaved": "shaved( angle=80.0 )", "Both": "shake+scale(grams=3.0)", "w/o": "none"}
    one, other = found(report, names=names, published={"Shaved": {"w/o": 0.1, "Both": 0.2}})
    assert (one.row, one.column, other.column) == ("Shaved", "w/o", "Both")
    for number, countermove in ((one, "none"), (other, "shake+scale(grams=3.0)")):
        (square,) = (
            s for s in report.verdict.matrix if (s.move, s.reply.countermove) == ("shaved(angle=80.0)", countermove)
        )
        assert number.square == square
        assert number.ours == square.metric


@pytest.mark.parametrize("tree", [{"scale": {"loaded": 0.5}}, {"loaded": {"scale": 0.5}}])
def test_names_stand_in_any_order(report: Report, tree: dict[str, Any]) -> None:
    (number,) = found(report, published=tree)
    assert (number.row, number.column, number.published) == ("loaded", "scale", "0.5")


def test_another_metric_is_the_mean_over_seeds(report: Report) -> None:
    (number,) = found(report, published={"payoff": {"loaded": 0.5}})
    assert number.square is not None
    assert number.square.payoff is not None
    assert number.ours == number.square.payoff.point
    rows = tuple(replace(r, metrics={**r.metrics, "tails": 0.1 * r.setting.seed}) for r in report.results.rows)
    (number,) = found(replace(report, results=replace(report.results, rows=rows)), published={"loaded": {"tails": 0.5}})
    assert (number.what, number.ours) == ("tails", pytest.approx(0.1))


@pytest.mark.parametrize("tree", [{"heavy": 0.5}, {"scale": 0.5}, {"loaded": {"scale": "a lot"}}, {"loaded": True}])
def test_what_is_on_no_axis_or_no_number_has_no_square(report: Report, tree: dict[str, Any]) -> None:
    (number,) = found(report, published=tree)
    assert (number.square, number.ours) == (None, None)
    assert beside([number]) == []


def test_moves_go_down_and_countermoves_across(report: Report) -> None:
    tree = {"loaded": {"none": 0.1, "scale": 0.2}, "loaded+shaved": {"scale": 0.3}}
    (table,) = beside(found(report, published=tree))
    assert table.columns == (("none", "none"), ("scale", "scale"))
    assert [[one and one.published for one in line.cells] for line in table.lines] == [["0.1", "0.2"], [None, "0.3"]]


def test_the_size_is_said(report: Report) -> None:
    assert size_words(StudyConfig(title="t", paper="p", size="mini"), report.results) == (
        "size mini: purse(size=60), thumb, 3 seeds"
    )


@pytest.mark.parametrize("width", [80, 120])
def test_the_text_says_both(report: Report, width: int) -> None:
    with_study = studied(report, published={"loaded": {"none": 0.123, "scale": 0.456}}, size="mini")
    shown = text(with_study.results, with_study.verdict, width=width)
    assert "Published beside measured" in shown
    assert "size mini" in shown
    squares = {s.reply.countermove: s.metric for s in report.verdict.matrix if s.move == "loaded"}
    assert f"0.123 / {squares['none']:.3f}" in shown
    assert f"0.456 / {squares['scale']:.3f}" in shown
    assert max(map(len, shown.splitlines())) <= width
