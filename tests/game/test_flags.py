"""Every flag is raised when it should be, only then, and has its paragraph in the docs."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_results import Draw, grid_of, results_of, sure

from countermove.game import flags as rules
from countermove.game.cell import Setting
from countermove.game.flags import Flag
from countermove.game.verdict import Verdict, judge

CODES = {"few-seeds", "budget-broken", "incomplete", "hurts-more", "clean-not-learned", "control-failed"}
LOADED = "loaded(bias=0.4)"
FINE = {(LOADED, "none"): 0.2, (LOADED, "shake"): 0.8}


def judged(draw: Draw, budgets: dict[str, bool] | None = None, **changes: Any) -> Verdict:
    grid = grid_of(**{"moves": LOADED, **changes})
    clean = {s.countermove: draw(s) for cell in grid.cells if (s := cell.setting) is not None and s.move == "none"}

    def price(s: Setting) -> dict[str, float]:
        with_it, without = clean[s.countermove], clean["none"]
        if with_it is None or without is None:
            return {}
        return {"clean_cost": float(without.mean() - with_it.mean())}

    return judge(results_of(grid, draw, price=price), budgets)


def raised(verdict: Verdict) -> dict[str, Flag]:
    assert len({flag.code for flag in verdict.flags}) == len(verdict.flags)
    return {flag.code: flag for flag in verdict.flags}


def test_a_good_audit_raises_none() -> None:
    verdict = judged(sure(FINE), {LOADED: True})
    assert verdict.flags == ()
    assert verdict.conclusive


@pytest.mark.parametrize(("seeds", "flagged"), [(1, True), (2, True), (3, False)])
def test_few_seeds(seeds: int, flagged: bool) -> None:
    verdict = judged(sure(FINE), seeds=seeds)
    assert ("few-seeds" in raised(verdict)) == flagged
    assert verdict.conclusive
    assert {move.value.seeds_counted for move in verdict.moves if move.value} == {not flagged}


def test_budget_broken() -> None:
    flag = raised(judged(sure(FINE), {LOADED: False, "shaved": True}))["budget-broken"]
    assert flag.text.startswith(LOADED)
    assert not flag.fatal


def test_incomplete() -> None:
    draw = sure(FINE)
    verdict = judged(lambda s: None if (s.move, s.countermove, s.seed) == (LOADED, "shake", 0) else draw(s))
    assert raised(verdict)["incomplete"].text == f"1 of {3 * 7} cells are failed."
    assert verdict.conclusive


@pytest.mark.parametrize(("clean", "moved", "flagged"), [(0.6, 0.3, True), (0.6, 0.7, False), (0.9, 0.1, False)])
def test_hurts_more(clean: float, moved: float, flagged: bool) -> None:
    """Costs 0.3 and wins 0.1; costs 0.3 and wins 0.5; costs nothing."""
    accuracies = {("none", "shake"): clean, (LOADED, "none"): 0.2, (LOADED, "shake"): moved}
    found = raised(judged(sure(accuracies)))
    assert set(found) == ({"hurts-more"} if flagged else set())
    if flagged:
        assert "shake costs 0.300 accuracy on clean data and wins back 0.100" in found["hurts-more"].text


@pytest.mark.parametrize(("clean", "flagged"), [(0.15, True), (0.19, True), (0.25, False)])
def test_clean_not_learned(clean: float, flagged: bool) -> None:
    accuracies = {(LOADED, "none"): 0.05, (LOADED, "shake"): 0.2, ("loaded", "none"): 0.05, ("loaded", "scale"): 0.25}
    verdict = judged(sure(accuracies, other=clean), seeds=3, models="thumb")
    codes = [flag.code for flag in verdict.flags if flag.code == "clean-not-learned"]
    assert len(codes) == (3 if flagged else 0), "one a seed"
    assert verdict.conclusive != flagged
    if flagged:
        assert {move.state for move in verdict.moves} == {"inconclusive"}
        assert f"reaches {clean:.2f} on clean data, within 0.1 of chance (0.10)" in verdict.flags[0].text


def test_clean_not_played() -> None:
    draw = sure(FINE)
    verdict = judged(lambda s: None if (s.move, s.countermove) == ("none", "none") else draw(s))
    assert "no clean reference was played" in raised(verdict)["clean-not-learned"].text
    assert not verdict.conclusive


@pytest.mark.parametrize(
    ("works", "broken", "flagged"),
    [(0.2, 0.85, False), (0.2, 0.6, False), (0.6, 0.85, True), (0.2, 0.4, True), (0.9, 0.9, True)],
)
def test_control_failed(works: float, broken: float, flagged: bool) -> None:
    """The control must take at least half of what can be taken, and its reply give at least half of that back."""
    verdict = judged(sure({**FINE, ("loaded", "none"): works, ("loaded", "scale"): broken}))
    assert ("control-failed" in raised(verdict)) == flagged
    assert verdict.conclusive != flagged
    assert {move.state for move in verdict.moves} == {"inconclusive" if flagged else "broken"}
    if flagged:
        assert "inconclusive, see the flags" in verdict.sentence


def test_control_not_played() -> None:
    draw = sure(FINE)
    verdict = judged(lambda s: None if s.countermove == "scale" else draw(s))
    flag = raised(verdict)["control-failed"]
    assert "was not played to its end" in flag.text
    assert flag.fatal
    assert not verdict.conclusive


def test_a_reference_near_chance_by_bad_luck_only_hits_its_own_data() -> None:
    good = sure(FINE)
    verdict = judged(
        lambda s: np.full(100, 0.12) if s.data == "purse(size=50)" else good(s), data=["purse", "purse(size=50)"]
    )
    assert {flag.data for flag in verdict.flags if flag.fatal} == {"purse(size=50)"}
    assert {move.data for move in verdict.moves if move.state == "inconclusive"} == {"purse(size=50)"}


def codes_in_the_source() -> set[str]:
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(rules))) if isinstance(node, ast.Call)]
    firsts = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Flag"]
    return {str(first.value) for first in firsts if isinstance(first, ast.Constant)}


def test_every_flag_is_documented() -> None:
    docs = Path(__file__).parents[2] / "docs" / "flags.md"
    headings = re.findall(r"^## (\S+)\n+(?=\S)", docs.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(headings) == codes_in_the_source() == CODES
