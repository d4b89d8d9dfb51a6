"""What was published when, what was known when, and what is left of a move at each date."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_results import grid_of, results_of, sure

from countermove.errors import ConfigError
from countermove.game.config import dump_config, load_config
from countermove.game.dates import check_date
from countermove.game.ledger import Ledger, ledger_of, moments
from countermove.game.results import Results
from countermove.game.verdict import Reply, judge

DATES = {"loaded": "2020", "shaved": "2021", "shake": "2022", "shake(times=4)": "2023-05"}
MOVES, REPLIES = ["loaded", "shaved"], ["shake", "shake(times=4)"]
ACCURACIES = {
    ("loaded", "none"): 0.2,
    ("loaded", "shake"): 0.5,
    ("loaded", "shake(times=4)"): 0.88,
    ("shaved", "none"): 0.3,
    ("shaved", "shake"): 0.8,
    ("shaved", "shake(times=4)"): 0.4,
}


def played(**changes: object) -> Results:
    grid = grid_of(**{"moves": MOVES, "countermoves": REPLIES, "dates": DATES, **changes})
    return results_of(grid, sure(ACCURACIES))


def test_what_is_out_cannot_be_altered() -> None:
    ledger = Ledger()
    ledger.publish("2020", "ann", "beach", "fawkes")
    ledger.publish("2020", "bob", "beach", "none")
    with pytest.raises(ConfigError, match="out since 2020"):
        ledger.publish("2021", "ann", "beach", "lowkey")
    assert [one.move for one in ledger.publications] == ["fawkes", "none"]


def test_nothing_is_published_in_the_past() -> None:
    ledger = Ledger()
    ledger.publish("2021-04", "ann", "beach", "fawkes")
    with pytest.raises(ConfigError, match="past"):
        ledger.publish("2021-03", "ann", "city", "fawkes")


def test_a_trainer_has_what_was_out_and_known_by_then() -> None:
    ledger = Ledger()
    ledger.publish("2020-07", "ann", "beach", "fawkes")
    ledger.publish("2021-01", "ann", "city", "lowkey")
    ledger.learn("", Reply("none", "old"))
    ledger.learn("2021-06", Reply("adaptive", "old"))
    assert [one.sample for one in ledger.collected("2020-12")] == ["beach"]
    assert ledger.known("2020-12") == (Reply("none", "old"),)
    assert [one.sample for one in ledger.collected("2021-06")] == ["beach", "city"]
    assert ledger.known("2021-06") == (Reply("none", "old"), Reply("adaptive", "old"))
    assert ledger.dates() == ("2020-07", "2021-01", "2021-06")


def test_an_audit_without_dates_has_no_time() -> None:
    assert moments(played(dates={})) == ()


def test_the_ledger_of_an_audit() -> None:
    ledger = ledger_of(played())
    assert {one.move: one.date for one in ledger.publications} == {"loaded": "2020", "shaved": "2021"}
    known = {(one.reply.countermove, one.date) for one in ledger.trainers}
    assert known == {("none", ""), ("shake", "2022"), ("shake(times=4)", "2023-05")}


def test_at_each_date_the_best_reply_known_by_then_counts() -> None:
    left = {(m.move, m.trained): m for m in moments(played())}
    assert set(left) == {(move, date) for move in MOVES for date in DATES.values() if date >= DATES[move]}
    loaded = [left["loaded", date] for date in DATES.values()]
    assert [m.reply.countermove for m in loaded if m.reply] == ["none", "none", "shake", "shake(times=4)"]
    expected = [(0.9 - accuracy) / 0.8 for accuracy in (0.2, 0.2, 0.5, 0.88)]
    assert [m.left.point for m in loaded if m.left] == pytest.approx(expected, abs=0.02)
    late = left["shaved", "2023-05"]
    assert late.reply is not None
    assert late.reply.countermove == "shake", "a later reply that is worse is not the best one known"


def test_at_the_last_date_it_is_the_verdict() -> None:
    results = played()
    last = {m.move: m.left for m in moments(results) if m.trained == "2023-05"}
    assert last == {move.move: move.value for move in judge(results).moves}


def test_a_control_that_fails_makes_every_date_inconclusive() -> None:
    grid = grid_of(moves=MOVES, countermoves=REPLIES, dates=DATES)
    failed = results_of(grid, sure({**ACCURACIES, ("loaded", "scale"): 0.2}))
    assert [m.left for m in moments(failed)] == [None] * len(moments(played()))


def test_dates_are_kept_with_the_run(tmp_path) -> None:
    config = grid_of(moves=MOVES, countermoves=REPLIES, dates=DATES).config
    (tmp_path / "audit.toml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "audit.toml").dates == DATES


def test_a_spelling_in_another_order_is_the_same_entry() -> None:
    config = grid_of(moves=["shaved(angle=30.0)"], countermoves=REPLIES, dates={"shaved(angle=30.0)": "2020"}).config
    assert set(config.dates) == set(config.moves) - {"none"}


@pytest.mark.parametrize(
    ("dates", "told"),
    [({"shakes": "2020"}, "shake"), ({"shake": "20"}, "is no date"), ({"shake": "2020-7"}, "2021-04")],
)
def test_dates_that_are_none_are_refused(dates: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        grid_of(moves=MOVES, countermoves=REPLIES, dates=dates)


@given(st.dates())
def test_every_day_is_a_date(day) -> None:
    check_date(day.isoformat())
    check_date(day.isoformat()[:7])
    check_date(day.isoformat()[:4])
