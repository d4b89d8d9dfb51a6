from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermove.report.numbers import number, price_words
from countermove.report.source import Report
from countermove.report.tables import as_csv, as_json, compare, matrix_table, verdict_table
from countermove.report.text import compare_text, fit, text


def test_verdict_rows_hold_the_verdict(report: Report) -> None:
    rows = verdict_table(report.results, report.verdict)
    assert [row["move"] for row in rows] == ["loaded", "shaved(angle=80.0)", "loaded+shaved"]
    for row, move in zip(rows, report.verdict.moves, strict=True):
        assert move.value is not None
        assert move.reply is not None
        assert (row["value"], row["value_low"], row["value_high"]) == (
            move.value.point,
            move.value.low,
            move.value.high,
        )
        assert row["reply"] == move.reply.countermove
        assert row["price_samples"] == move.price["samples"]


def test_csv_reads_back(report: Report, poor_report: Report) -> None:
    rows = compare([report, poor_report])
    read = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert len(read) == len(report.verdict.moves) + len(poor_report.verdict.moves)
    for row, back in zip(rows, read, strict=True):
        assert list(row) == list(back)
        assert back["value"] == ("" if row["value"] is None else f"{row['value']:.6g}")
        assert back["run"] == row["run"]


def test_csv_of_nothing_is_empty() -> None:
    assert as_csv([]) == ""


def test_json_keeps_its_schema(report: Report, poor_report: Report) -> None:
    data = json.loads(as_json([report, poor_report]))
    assert data["format"] == 1
    assert [list(run) for run in data["runs"]] == [
        "name audit arena unit metric seeds sentence conclusive moves matrix cheapest flags cells".split()
    ] * 2
    assert data["runs"][0]["moves"] == verdict_table(report.results, report.verdict)
    assert data["runs"][0]["matrix"] == matrix_table(report.results, report.verdict)
    assert data["runs"][1]["cells"]["failed"] == len(poor_report.results.unfinished)
    assert {flag["code"] for flag in data["runs"][1]["flags"]} >= {"few-seeds", "incomplete"}


@pytest.mark.parametrize("width", [80, 100, 120])
def test_text_fits_and_says_every_number(report: Report, poor_report: Report, width: int) -> None:
    for one in (report, poor_report):
        shown = text(one.results, one.verdict, width=width)
        assert max(map(len, shown.splitlines())) <= width
        assert "…" not in shown
        for square in one.verdict.matrix:
            if square.payoff is not None:
                assert f"[{number(square.payoff.low)}, {number(square.payoff.high)}]" in shown
        for move in one.verdict.moves:
            assert move.state in shown
        for flag in one.verdict.flags:
            assert flag.code in shown


def test_text_is_plain_unless_colour_is_asked(report: Report) -> None:
    assert "\x1b[" not in text(report.results, report.verdict)
    assert "\x1b[" in text(report.results, report.verdict, color=True)


@pytest.mark.parametrize("width", [80, 120])
def test_runs_stand_side_by_side(report: Report, poor_report: Report, width: int) -> None:
    shown = compare_text([report, poor_report], width=width)
    assert max(map(len, shown.splitlines())) <= width
    head = shown.splitlines()[2]
    assert head.index("well") < head.index("poor")
    assert "not played" in shown


@given(st.text(alphabet="ab-+(,= )", max_size=60), st.integers(4, 30))
def test_fitted_names_lose_nothing(name: str, width: int) -> None:
    lines = fit(name, width).split("\n")
    assert all(len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == name.replace(" ", "")


def test_numbers_for_people() -> None:
    assert [number(v) for v in (None, -0.001, -0.5, 1.005e3)] == ["-", "0.00", "-0.50", "1005.00"]
    price = {"seconds": 1.25, "samples": 1200, "bytes_stored": 2_500_000, "clean_cost": 0.0321, "clean_examples": 0}
    assert price_words(price, "accuracy") == ["+1.2 s", "+1,200 samples", "+2.5 MB kept", "-0.032 clean accuracy"]
    assert price_words({"seconds": 0.01, "clean_cost": 0.0}, "accuracy") == []
