"""The arena's tables on the page, from made-up results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.unlearnable.audits import MODEL, TINY, arena

from countermove.game.cell import Setting
from countermove.game.config import make_config
from countermove.game.results import Results, Row
from countermove.report.inert import why_not_inert
from countermove.unlearnable.panel_tables import table_panels


def row(move: str, countermove: str, metrics: Mapping[str, float] | None = None, *, seed=0, data=TINY) -> Row:
    setting = Setting("unlearnable", data, move, countermove, MODEL, seed)
    record: dict[str, Any] = {"units": {"counted": None}, "tables": {"confusion": [[8, 2], [1, 9]]}}
    return Row(f"{setting.label}", setting, "ok", 0.5, {"accuracy": 0.5, **(metrics or {})}, {}, record)


def tables(rows: Sequence[Row]) -> dict[str, str]:
    table = {"data": TINY, "moves": ["none"], "countermoves": ["none"], "models": [MODEL], "seeds": [0]}
    panels = table_panels(arena(), Results(arena(), make_config(table), tuple(rows)))
    assert all(why_not_inert(panel.html) == "" for panel in panels)
    return {panel.title: panel.html for panel in panels}


def test_an_audit_without_such_numbers_has_no_tables() -> None:
    assert tables([row("none", "none"), row("regions", "gray")]) == {}


def test_moved_test_pictures_stand_beside_clean_ones() -> None:
    html = tables([row("regions", "none", {"accuracy_moved_test": 0.9 + seed / 10}, seed=seed) for seed in (0, 1)])
    (cells,) = html.values()
    assert "<td>0.50</td><td>0.95</td></tr>" in cells, "columns without a number are left out"


def test_detection_shows_pictures_and_data_sets() -> None:
    rows = [
        row("none", "detect-linear", {"detection_score": 0.3, "detected": 0.0}),
        row("none", "detect-linear", {"detection_score": 0.6, "detected": 0.0}, seed=1),
        row("regions", "detect-linear", {"detection_score": 0.5, "detected": 0.0, "detection_recall": 0.0}),
        row("regions", "detect-linear", {"detection_score": 0.9, "detected": 1.0, "detection_recall": 0.5}, seed=1),
    ]
    html = tables(rows)["Detection"]
    assert '<th scope="row">detect-linear</th><td>none</td><td>0.00</td>' in html
    assert "<td>regions</td><td>0.50</td><td>-</td><td>0.25</td><td>-</td><td>0.75</td>" in html


@pytest.mark.parametrize(("gray", "words"), [(0.51, "1 of 1"), (0.60, "0 of 1")])
def test_a_choice_is_right_when_no_other_squeeze_is_clearly_better(gray: float, words: str) -> None:
    chosen = {"chose_none": 0.0, "chose_gray": 0.0, "chose_jpeg": 1.0, "chose_gray_jpeg": 0.0}
    rows = [row("regions", "automatic", chosen), row("regions", "jpeg"), row("regions", "gray", {"accuracy": gray})]
    html = tables(rows)["Automatic identification"]
    assert "<td>jpeg (1)</td>" in html
    assert words in html


def test_a_choice_that_was_not_played_by_itself_is_not_judged() -> None:
    rows = [row("regions", "automatic", {"chose_none": 1.0, "chose_gray": 0.0}), row("regions", "gray")]
    assert "<td>none (1)</td><td>-</td>" in tables(rows)["Automatic identification"]


def test_confusion_names_the_moved_classes() -> None:
    data = f"{TINY}+moved(classes=[bird])"
    one = row("regions", "none", data=data)
    names = arena().data(data, 0).classes
    record = {"units": {"counted": [True]}, "tables": {"confusion": [[1] * len(names)] * len(names)}}
    moved = Row(one.key, one.setting, "ok", 0.5, one.metrics, {}, record)
    (html,) = tables([moved]).values()
    assert html.count("(moved)") == 1
    assert "bird (moved)" in html
    assert "0.10" in html
