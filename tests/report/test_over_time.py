"""What is left over time, on the page and in the terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from coin_runs import played

from countermove.game.ledger import moments
from countermove.report.page import render_page
from countermove.report.source import Report, read_report
from countermove.report.text import text

DATES = {"loaded": "2020", "scale": "2022-03", "blindfold": "2023"}


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Report:
    run = played(
        tmp_path_factory.mktemp("runs") / "dated", moves=["loaded"], countermoves=["scale", "blindfold"], dates=DATES
    )
    return read_report(run)


def test_the_page_has_a_chart_and_a_table_of_dates(dated: Report) -> None:
    page = render_page(dated)
    section = page[page.index('<section id="time"') :]
    section = section[: section.index("</section>")]
    assert "published 2020" in section
    for moment in moments(dated.results):
        assert f"trained {moment.trained}" in section
        assert moment.left is not None
        assert f"{moment.left.point:.2f}" in section
    assert section.count("front-dot") == len(moments(dated.results)) == 3
    assert re.search(r'<a href="#time">', page)


def test_an_audit_without_dates_has_no_such_section(report: Report) -> None:
    assert 'id="time"' not in render_page(report)
    assert "over time" not in text(report.results, report.verdict)


@pytest.mark.parametrize("width", [80, 120])
def test_every_date_is_told_in_a_terminal(dated: Report, width: int) -> None:
    told = text(dated.results, dated.verdict, width=width)
    told = told[told.index("Left over time") :]
    assert all(date in told for date in DATES.values())
    assert all(len(line) <= width for line in told.splitlines())
    for moment in moments(dated.results):
        assert moment.left is not None
        assert f"{moment.left.point:.2f}" in told


def test_a_dated_run_gives_the_same_page_twice(dated: Report, tmp_path: Path) -> None:
    assert render_page(dated) == render_page(dated)
