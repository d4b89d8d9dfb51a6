"""The payoff, the price, and the table that holds them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coin_audits import play_in
from hypothesis import given
from hypothesis import strategies as st
from made_up_results import grid_of, results_of, sure

from countermove.errors import RunError
from countermove.game.arena import Arena, Rules, arena_class
from countermove.game.payoff import CHANCE_MARGIN, counted_ids, held_off, outcomes, payoff, proves
from countermove.game.results import PRICE, load_results, results_csv
from countermove.game.store import RunFolder


@pytest.fixture(scope="module")
def arena() -> Arena:
    return arena_class("coin")(Rules())


def record(right: int, *, units: int = 100, counted: list[bool] | None = None, **more: Any) -> dict[str, Any]:
    ids = [f"unit-{i}" for i in range(units)]
    outcome = [float(i < right) for i in range(units)]
    return {"key": "k", "chance": 0.1, "units": {"ids": ids, "outcome": outcome, "counted": counted}, **more}


@pytest.mark.parametrize(
    ("right", "expected"),
    [(90, 0.0), (10, 1.0), (50, 0.5), (0, 1.125), (98, -0.1)],
)
def test_the_payoff_is_the_share_that_was_lost_unclipped(arena: Arena, right: int, expected: float) -> None:
    assert payoff(arena, record(right), record(90)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("reference", "known"), [(19, False), (1, False), (20, True), (30, True), (0, True), (90, True)]
)
def test_a_reference_near_chance_proves_nothing(arena: Arena, reference: int, known: bool) -> None:
    assert CHANCE_MARGIN == 0.1
    assert (payoff(arena, record(5), record(reference)) is not None) == known


def test_without_a_chance_level_every_reference_proves_something() -> None:
    assert proves(0.0, None)
    assert not proves(0.15, 0.1)


def test_a_resample_is_held_at_the_margin() -> None:
    found = held_off(np.array([0.9, 0.25, 0.15, 0.1, 0.05, 0.0, 0.2]), 0.1)
    assert found.tolist() == pytest.approx([0.9, 0.25, 0.2, 0.2, 0.0, 0.0, 0.2], abs=1e-12)
    assert held_off(np.array([0.1]), None).tolist() == [0.1]


def test_only_counted_units_count_on_both_sides(arena: Arena) -> None:
    """The mask is the cell's: its reference moved nothing and counts everything."""
    counted = [i % 2 == 0 for i in range(100)]
    cell = record(40, counted=counted)
    assert counted_ids(cell) == [f"unit-{i}" for i in range(0, 100, 2)]
    assert outcomes(cell).tolist() == [1.0] * 20 + [0.0] * 30
    assert payoff(arena, cell, record(90)) == pytest.approx((0.9 - 0.4) / 0.8, abs=1e-12)


def test_cells_that_score_other_units_cannot_be_compared(arena: Arena) -> None:
    with pytest.raises(RunError, match="score different test units"):
        payoff(arena, record(5, units=10), record(9, units=11))


@given(st.integers(0, 60), st.integers(20, 60), st.permutations(range(60)))
def test_the_order_of_units_makes_no_difference(right: int, clean: int, order: list[int]) -> None:
    coin = arena_class("coin")(Rules())
    cell, reference = record(right, units=60), record(clean, units=60)
    turned = [
        {**r, "units": {name: values and [values[i] for i in order] for name, values in r["units"].items()}}
        for r in (cell, reference)
    ]
    assert payoff(coin, turned[0], turned[1]) == pytest.approx(payoff(coin, cell, reference), abs=1e-12)


def table(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(results_csv(load_results(RunFolder(out))).splitlines()))


def test_the_table_has_one_row_a_cell_and_the_columns_of_the_design(tmp_path: Path) -> None:
    summary, _ = play_in(tmp_path, seeds=1, moves=["loaded(bias=0.4)", "shaved(angle=30)"])
    rows = table(tmp_path)
    assert len(rows) == summary.cells
    head = ["key", "arena", "data", "move", "countermove", "model", "seed", "status", "payoff", "accuracy"]
    assert list(rows[0])[: len(head) + len(PRICE)] == [*head, *PRICE]
    assert {row["move"] for row in rows} == {"none", "loaded", "loaded(bias=0.4)", "shaved(angle=30.0)"}
    assert {row["status"] for row in rows} == {"ok"}


def test_the_price_is_what_a_reply_costs_beyond_none(tmp_path: Path) -> None:
    play_in(tmp_path, seeds=1, countermoves=["shake(times=5)"])
    rows = {(row["move"], row["countermove"]): row for row in table(tmp_path)}
    shaken = rows["shaved", "shake(times=5)"]
    assert int(shaken["samples"]) == 5 * 60
    assert int(shaken["total_samples"]) == 6 * 60
    assert float(rows["shaved", "none"]["samples"]) == 0
    lost = float(rows["none", "none"]["accuracy"]) - float(rows["none", "shake(times=5)"]["accuracy"])
    assert float(shaken["clean_cost"]) == pytest.approx(lost, abs=1e-5)
    assert {name: int(row["move_samples"]) for name, row in rows.items()} == {
        (move, reply): cost
        for (move, reply) in rows
        for cost in [
            {"none": 0, "shaved": 2 * 40}.get(move, 40)
        ]  # 40 for the mould that shaved coins need, and 40 each
    }


def test_what_does_not_exist_stays_empty(tmp_path: Path) -> None:
    """A cell that failed has a row and no numbers, and what is measured beside it has no price."""
    play_in(tmp_path, seeds=1, training={"fail": "shaved | none"})
    row = next(r for r in table(tmp_path) if (r["move"], r["countermove"]) == ("shaved", "none"))
    assert row["status"] == "failed"
    assert {row[name] for name in ("payoff", "accuracy", *PRICE, "total_seconds")} == {""}
    beside = next(r for r in table(tmp_path) if (r["move"], r["countermove"]) == ("shaved", "shake"))
    assert beside["payoff"] != ""
    assert beside["seconds"] == ""


def test_cells_that_were_not_played_yet_are_listed_as_missing(tmp_path: Path) -> None:
    play_in(tmp_path, seeds=1)
    victim = next((tmp_path / "cells").iterdir())
    victim.unlink()
    assert [row["status"] for row in table(tmp_path) if row["key"] == victim.stem] == ["missing"]


def test_a_reference_that_learned_nothing_leaves_payoffs_empty() -> None:
    results = results_of(grid_of(seeds=1), sure({("none", "none"): 0.15}))
    assert {row.payoff for row in results.rows} == {None}
    assert np.mean([row.metrics["accuracy"] for row in results.rows]) > 0
