"""The verdict: eligibility, states, the reply of an owner who does not know the move, missing cells, diagnostics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_up_results import Draw, grid_of, results_of, sure

from countermove.game.arena import arena_class
from countermove.game.cell import Setting
from countermove.game.results import Results
from countermove.game.verdict import MoveVerdict, Reply, Verdict, judge

LOADED = "loaded(bias=0.4)"


def judged(draw: Draw, **changes: Any) -> Verdict:
    return judge(results_of(grid_of(**changes), draw))


def of(verdict: Verdict, move: str) -> MoveVerdict:
    return next(found for found in verdict.moves if found.move == move)


def without(draw: Draw, *gone: tuple[str, str, int]) -> Draw:
    """Let some cells (move, countermove, seed) fail."""
    return lambda s: None if (s.move, s.countermove, s.seed) in gone else draw(s)


@pytest.mark.parametrize(
    ("naive", "squeezed", "state"),
    [
        (0.20, 0.40, "holds"),
        (0.20, 0.54, "weakened"),
        (0.20, 0.80, "broken"),
        (0.20, 0.95, "broken"),
        (0.85, 0.86, "did not work"),
        (0.95, 0.95, "did not work"),
    ],
)
def test_states(naive: float, squeezed: float, state: str) -> None:
    found = judged(sure({(LOADED, "none"): naive, (LOADED, "shake"): squeezed}), moves=LOADED)
    verdict = of(found, LOADED)
    assert verdict.state == state
    assert found.conclusive
    assert state in found.sentence
    assert verdict.naive is not None
    assert verdict.naive.point == pytest.approx((0.9 - naive) / 0.8, abs=0.02)
    if state not in {"did not work"}:
        assert verdict.reply == Reply("shake", "thumb")
        assert verdict.value is not None
        assert verdict.value.point == pytest.approx((0.9 - squeezed) / 0.8, abs=0.02)


def test_doing_nothing_may_be_the_best_reply() -> None:
    found = judged(sure({(LOADED, "none"): 0.5, (LOADED, "shake"): 0.2}), moves=LOADED)
    assert of(found, LOADED).reply == Reply("none", "thumb")
    assert "against no reply at all" in found.sentence


def test_the_price_is_that_of_the_best_reply() -> None:
    draw = sure({(LOADED, "none"): 0.2, (LOADED, "shake"): 0.6, (LOADED, "scale"): 0.8})
    prices = {"none": 0.0, "shake": 3.0, "scale": 7.0}
    grid = grid_of(moves=LOADED, countermoves=["shake", "scale"])
    results = results_of(grid, draw, price=lambda s: {"samples": prices[s.countermove] + s.seed})
    assert of(judge(results), LOADED).price == {"samples": 8.0}


def test_a_reply_that_only_the_control_plays_does_not_count() -> None:
    draw = sure({(LOADED, "none"): 0.2, (LOADED, "shake"): 0.4, (LOADED, "scale"): 0.8})
    found = judged(draw, moves=[LOADED, "loaded"], countermoves=["shake"])
    asked = of(found, "loaded")
    assert asked.reply is not None
    assert asked.reply.countermove in {"none", "shake"}
    assert {s.eligible for s in found.matrix if s.reply.countermove == "scale"} == {False}


def test_a_model_that_learns_too_little_is_no_reply() -> None:
    """Nothing can be taken from a model that has nothing: its low payoff must not count."""

    def draw(clean: float) -> Draw:
        strong, weak = sure({(LOADED, "none"): 0.3, (LOADED, "shake"): 0.5}), sure({}, other=clean)
        return lambda s: weak(s) if s.model == "machine" and s.move != "loaded" else strong(s)

    models = ["thumb", "machine"]
    for clean, eligible in ((0.80, False), (0.82, True)):  # the floor is 0.81
        found = judged(draw(clean), moves=LOADED, models=models)
        asked = [square for square in found.matrix if square.reply.countermove != "scale"]  # only the control plays it
        assert {s.eligible for s in asked if s.reply.model == "machine"} == {eligible}
        reply = of(found, LOADED).reply
        assert reply is not None
        assert reply.model == ("machine" if eligible else "thumb")


def test_an_arena_may_demand_that_a_reply_keeps_its_clean_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = {("none", "shake"): 0.7, (LOADED, "none"): 0.2, (LOADED, "shake"): 0.7}
    assert of(judged(sure(accuracies), moves=LOADED), LOADED).reply == Reply("shake", "thumb")
    monkeypatch.setattr(arena_class("coin"), "reply_floor", 0.9)
    found = judged(sure(accuracies), moves=LOADED)
    assert of(found, LOADED).reply == Reply("none", "thumb")
    assert {s.eligible for s in found.matrix if s.reply.countermove == "shake"} == {False}


def test_a_diagnostic_is_shown_but_is_no_reply() -> None:
    accuracies = {(LOADED, "none"): 0.2, (LOADED, "shake"): 0.5, (LOADED, "left-out"): 0.9}
    found = judged(sure(accuracies), moves=LOADED, data="purse(part=0.5)")
    assert of(found, LOADED).reply == Reply("shake", "thumb")
    (square,) = [s for s in found.matrix if s.reply.countermove == "left-out" and s.move == LOADED]
    assert not square.eligible
    assert square.payoff is not None
    assert square.payoff.point == pytest.approx(0, abs=1e-9)


def test_the_owner_who_does_not_know_the_move() -> None:
    """Shake is best against one, scale against the other; on average over both, scale."""
    accuracies = {
        (LOADED, "none"): 0.2,
        (LOADED, "shake"): 0.8,
        (LOADED, "scale"): 0.7,
        ("shaved", "none"): 0.2,
        ("shaved", "shake"): 0.3,
        ("shaved", "scale"): 0.75,
    }
    found = judged(sure(accuracies), moves=[LOADED, "shaved"], countermoves=["shake", "scale"])
    one, two = of(found, LOADED), of(found, "shaved")
    assert one.reply == Reply("shake", "thumb")
    assert two.reply == one.blind_reply == two.blind_reply == Reply("scale", "thumb")
    assert one.blind is not None
    assert one.value is not None
    assert one.blind.point == pytest.approx(0.2 / 0.8, abs=0.02)
    assert one.value.point == pytest.approx(0.1 / 0.8, abs=0.02)


def test_a_reply_with_a_missing_cell_does_not_count() -> None:
    draw = sure({(LOADED, "none"): 0.2, (LOADED, "shake"): 0.8, (LOADED, "scale"): 0.6})
    found = judged(without(draw, (LOADED, "shake", 1)), moves=LOADED, countermoves=["shake", "scale"])
    assert of(found, LOADED).reply == Reply("scale", "thumb")
    (square,) = [s for s in found.matrix if s.move == LOADED and s.reply.countermove == "shake"]
    assert square.payoff is None
    assert square.played == 2
    assert square.metric == pytest.approx(0.8)


def test_a_move_that_was_not_played_is_inconclusive_and_takes_nothing_from_the_others() -> None:
    draw = sure({(LOADED, "none"): 0.2, (LOADED, "shake"): 0.8})
    gone = [("shaved", reply, seed) for reply in ("none", "shake") for seed in range(3)]
    found = judged(without(draw, *gone), moves=[LOADED, "shaved"])
    lost, kept = of(found, "shaved"), of(found, LOADED)
    assert (lost.state, lost.value, lost.reply) == ("inconclusive", None, None)
    assert "shaved: inconclusive" in found.sentence
    assert kept.state == "broken"
    assert kept.blind is not None
    assert kept.blind_reply == Reply("shake", "thumb")


def test_a_missing_reference_takes_its_squares_away() -> None:
    draw = sure({(LOADED, "none"): 0.2, (LOADED, "shake"): 0.8})
    found = judged(without(draw, ("none", "none", 2)), moves=LOADED)
    assert of(found, LOADED).state == "inconclusive"


def test_only_counted_units_decide() -> None:
    """Units that were not moved lose nothing; with them the move would seem weak."""
    draw = sure({(LOADED, "none"): 0.2, (LOADED, "shake"): 0.4})
    counted = [i < 50 for i in range(100)]

    def half(s: Setting) -> np.ndarray:
        outcome, clean = draw(s), sure({})(s)
        assert outcome is not None
        assert clean is not None
        return np.where(counted, outcome, clean)

    grid = grid_of(moves=LOADED)
    every, some = judge(results_of(grid, half)), judge(results_of(grid, half, counted=counted))
    values = [of(verdict, LOADED).value for verdict in (every, some)]
    assert values[0] is not None
    assert values[1] is not None
    assert values[0].point < 0.5 < values[1].point


def test_every_data_set_has_its_own_verdict() -> None:
    good, bad = sure({(LOADED, "none"): 0.2, (LOADED, "shake"): 0.8}), sure({}, other=0.15)
    found = judged(
        lambda s: bad(s) if s.data == "purse(size=50)" else good(s), moves=LOADED, data=["purse", "purse(size=50)"]
    )
    assert {(v.data, v.state) for v in found.moves} == {("purse", "broken"), ("purse(size=50)", "inconclusive")}
    assert not found.conclusive


def test_the_same_results_give_the_same_verdict() -> None:
    results = noisy()
    assert judge(results) == judge(results) == judge(noisy())


def noisy() -> Results:
    """A few moves and replies with noise on everything."""
    names = {"none": 0.4, "shake": 0.6, "scale": 0.7}

    def draw(s: Setting) -> np.ndarray:
        words = [s.seed, len(s.move), len(s.countermove), ord(s.model[0])]
        mean = 0.9 if s.move == "none" else names[s.countermove]
        return np.random.default_rng(words).normal(mean, 0.3, 41)

    return results_of(grid_of(countermoves=["shake", "scale"], models=["thumb", "machine"]), draw)
