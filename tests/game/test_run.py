"""Playing: only what is missing is done, what fails is recorded, and the rest goes on."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from coin_audits import artifacts, audit, cells, files, play_in

from countermove.game.results import load_results, results_csv, write_results
from countermove.game.run import missing, resolve
from countermove.game.store import RunFolder

CELLS = 9
"""Of one seed: three moves against two replies, and the control's three, of which one is none against scale."""
MADE = 4
"""Of one seed: the two moves, the control, and the mould that one of them needs."""


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((out / "cells").glob("*.json"))]


def with_status(out: Path, status: str) -> list[dict[str, Any]]:
    return [record for record in records(out) if record["status"] == status]


def test_a_run_plays_every_cell_once(tmp_path: Path) -> None:
    summary, watched = play_in(tmp_path, seeds=1)
    assert (summary.cells, summary.cached) == (CELLS, 0)
    assert len(watched.played) == len(set(watched.played)) == CELLS
    assert len(watched.made) == len(set(watched.made)) == MADE
    assert [task for task, _ in watched.ended] == watched.started
    assert not summary.unfinished
    assert len(with_status(tmp_path, "ok")) == CELLS
    assert not list((tmp_path / "scratch").iterdir())


def test_the_same_command_does_nothing(tmp_path: Path) -> None:
    play_in(tmp_path)
    before = files(tmp_path)
    summary, watched = play_in(tmp_path)
    assert watched.started == []
    assert summary.cached == summary.cells
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("added", "played", "made"),
    [
        ({"seeds": 3}, CELLS, MADE),
        ({"countermoves": ["shake", "shake(times=9)"]}, 2 * 3, 0),
        ({"moves": ["loaded(bias=0.4)", "shaved", "magnet"]}, 2 * 2, 2),
        ({"models": ["thumb", "machine"]}, 2 * CELLS, 0),
        ({"data": ["purse(size=60)", "purse(size=50)"]}, 2 * CELLS, 2 * MADE),
        ({"seeds": 1}, 0, 0),
        ({"training": {"sleep": 0.001}}, 0, 0),
        ({"training": {"rounds": 4}}, 2 * CELLS, 0),
    ],
)
def test_an_edit_plays_only_the_difference(tmp_path: Path, added: dict[str, Any], played: int, made: int) -> None:
    play_in(tmp_path)
    before = files(tmp_path)
    _, watched = play_in(tmp_path, **added)
    assert len(watched.played) == played
    assert len(watched.made) == made
    assert before.items() <= files(tmp_path).items()


def test_only_planned_cells_are_reported(tmp_path: Path) -> None:
    play_in(tmp_path)
    play_in(tmp_path, seeds=1)
    assert len(records(tmp_path)) == 2 * CELLS
    assert len(load_results(RunFolder(tmp_path)).rows) == CELLS


def test_a_failed_cell_is_recorded_the_rest_goes_on_and_the_next_call_retries(tmp_path: Path) -> None:
    summary, _ = play_in(tmp_path, seeds=1, training={"fail": "shaved | shake"})
    assert [done.status for done in summary.unfinished] == ["failed"]
    (failed,) = with_status(tmp_path, "failed")
    assert failed["error"].startswith("ValueError: told to fail at shaved | shake")
    assert "Traceback" in failed["traceback"]
    assert "in _misbehave" in failed["traceback"]
    assert failed["setting"]["countermove"] == "shake"
    assert len(with_status(tmp_path, "ok")) == CELLS - 1
    row = next(row for row in load_results(summary.run).rows if row.status == "failed")
    assert (row.payoff, row.metrics, row.price) == (None, {}, {})

    again, watched = play_in(tmp_path, seeds=1, training={"fail": "shaved | shake"})
    assert len(watched.played) == len(again.unfinished) == 1

    healed, watched = play_in(tmp_path, seeds=1)
    assert len(watched.started) == 1
    assert healed.cached == CELLS - 1
    assert len(with_status(tmp_path, "ok")) == CELLS


def test_what_needs_a_failed_artifact_is_blocked_with_its_cause(tmp_path: Path) -> None:
    summary, watched = play_in(tmp_path, seeds=1, training={"fail": "mould"})
    blocked = with_status(tmp_path, "blocked")
    assert {record["setting"]["move"] for record in blocked} == {"shaved"}
    assert len(blocked) == 2
    assert all("told to fail at mould" in record["error"] for record in blocked)
    assert all("in _misbehave" in record["traceback"] for record in blocked)
    assert sorted(done.status for done in summary.unfinished) == ["blocked", "blocked", "blocked", "failed"]
    assert not any("shaved" in label for label in watched.played + watched.made)
    assert len(with_status(tmp_path, "ok")) == CELLS - 2

    _, watched = play_in(tmp_path, seeds=1)
    assert len(watched.made) == len(watched.played) == 2
    assert len(with_status(tmp_path, "ok")) == CELLS


def test_a_failed_reference_blocks_what_is_measured_against_it(tmp_path: Path) -> None:
    play_in(tmp_path, training={"fail": "none | none | thumb | purse(size=60) | seed 1"})
    assert len(with_status(tmp_path, "failed")) == 1
    blocked = with_status(tmp_path, "blocked")
    assert len(blocked) == CELLS - 1
    assert {record["setting"]["seed"] for record in blocked} == {1}


def test_a_metric_that_is_no_number_fails_its_cell_and_not_the_run(tmp_path: Path) -> None:
    summary, _ = play_in(tmp_path, seeds=1, training={"wild": "shaved | none"})
    (failed,) = with_status(tmp_path, "failed")
    assert "not JSON compliant" in failed["error"]
    assert len(summary.unfinished) == 1
    assert len(with_status(tmp_path, "ok")) == CELLS - 1


def test_a_missing_artifact_is_made_again_only_for_a_cell_that_needs_it(tmp_path: Path) -> None:
    play_in(tmp_path, seeds=1)
    for manifest in (tmp_path / "artifacts").glob("*/manifest.json"):
        manifest.unlink()
    _, watched = play_in(tmp_path, seeds=1)
    assert watched.started == []
    victim = next(record for record in records(tmp_path) if record["setting"]["move"] == "shaved")
    (tmp_path / "cells" / f"{victim['key']}.json").unlink()
    _, watched = play_in(tmp_path, seeds=1)
    assert len(watched.played) == 1
    assert [label.split()[0] for label in watched.made] == ["mould", "move"]


def test_what_is_missing_is_known_before_anything_is_played(tmp_path: Path) -> None:
    grid = resolve(audit(seeds=1), tmp_path)
    assert missing(grid, RunFolder(tmp_path)) == list(grid.tasks)
    play_in(tmp_path, seeds=1)
    assert missing(grid, RunFolder(tmp_path)) == []


def test_two_workers_give_what_one_gives(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"models": ["thumb", "machine"], "countermoves": ["shake", "scale"]}
    play_in(tmp_path / "one", **changes)
    summary, watched = play_in(tmp_path / "two", engine={"threads": 1, "workers": 2}, **changes)
    assert not summary.unfinished
    assert len(watched.ended) == len(watched.started)
    assert cells(tmp_path / "two") == cells(tmp_path / "one")
    assert artifacts(tmp_path / "two") == artifacts(tmp_path / "one")
    one, two = (csv_without_seconds(tmp_path / name) for name in ("one", "two"))
    assert one == two


def csv_without_seconds(out: Path) -> list[dict[str, str]]:
    rows = csv.DictReader(results_csv(load_results(RunFolder(out))).splitlines())
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def test_failures_and_blocks_are_the_same_in_workers(tmp_path: Path) -> None:
    training = {"fail": "mould"}
    play_in(tmp_path / "one", seeds=1, training=training)
    summary, _ = play_in(tmp_path / "two", seeds=1, training=training, engine={"threads": 1, "workers": 2})
    assert sorted(done.status for done in summary.unfinished) == ["blocked", "blocked", "blocked", "failed"]
    one, two = cells(tmp_path / "one"), cells(tmp_path / "two")
    assert {name: record["status"] for name, record in two.items()} == {n: r["status"] for n, r in one.items()}


def test_a_worker_that_dies_costs_only_the_cell_it_died_of(tmp_path: Path) -> None:
    workers = {"threads": 1, "workers": 2}
    summary, watched = play_in(tmp_path, training={"die": "shaved | shake", "sleep": 0.01}, engine=workers)
    lost = with_status(tmp_path, "failed")
    assert [(r["setting"]["move"][:6], r["setting"]["countermove"][:5]) for r in lost] == [("shaved", "shake")] * 2
    assert all("its worker process died" in record["error"] for record in lost)
    assert len(records(tmp_path)) == 2 * CELLS
    assert len(watched.ended) == len(watched.started) + len([d for d in summary.done if d.status == "blocked"])

    healed, _ = play_in(tmp_path, engine=workers)
    assert not healed.unfinished
    assert len(with_status(tmp_path, "ok")) == 2 * CELLS


def test_a_worker_that_dies_at_an_artifact_blocks_its_cells(tmp_path: Path) -> None:
    play_in(tmp_path, seeds=1, training={"die": "move shaved"}, engine={"threads": 1, "workers": 2})
    blocked = [record for record in with_status(tmp_path, "blocked") if record["setting"]["move"] == "shaved"]
    assert len(blocked) == 2
    assert all("worker process" in record["error"] for record in blocked)
    healed, _ = play_in(tmp_path, seeds=1)
    assert not healed.unfinished


def test_a_record_holds_what_is_needed_to_understand_it(tmp_path: Path) -> None:
    play_in(tmp_path, seeds=1)
    record = next(r for r in with_status(tmp_path, "ok") if r["setting"]["move"] == "shaved")
    assert record["format"] == 1
    assert record["payload"]["rounds"] == 3
    assert set(record["needs"]) == {"move"}
    assert len(record["units"]["ids"]) == len(record["units"]["outcome"]) == 60
    assert record["chance"] == 0.1
    assert len(record["curves"]["test accuracy"]) == 3
    assert record["environment"]["threads"] == 1
    assert record["environment"]["device"] == "cpu"
    reference = json.loads((tmp_path / "cells" / f"{record['reference']}.json").read_text())
    assert (reference["setting"]["move"], reference["payoff"]) == ("none", 0)
    clean, mean = reference["metrics"]["accuracy"], record["metrics"]["accuracy"]
    assert record["payoff"] == pytest.approx((clean - mean) / (clean - 0.1), abs=1e-12)


def test_derived_files_can_be_rebuilt(tmp_path: Path) -> None:
    summary, _ = play_in(tmp_path, seeds=1)
    path = write_results(summary.run)
    before = path.read_bytes()
    path.unlink()
    assert write_results(summary.run).read_bytes() == before
    (tmp_path / "plan.json").unlink()
    assert sorted(results_csv(load_results(summary.run)).encode().splitlines()) == sorted(before.splitlines())


def test_a_wrong_recorder_never_hides_a_finished_cell(tmp_path: Path) -> None:
    """A worker may die just after it stored its cell; the cell stays."""
    from countermove.game.run import Job, Summary, _Recorder

    play_in(tmp_path, seeds=1)
    before = files(tmp_path)
    grid, run = resolve(audit(seeds=1), tmp_path), RunFolder(tmp_path)
    recorder = _Recorder(run, Summary(run, 0, 0), lambda *_: None)
    done = [recorder.lost(Job(task, tmp_path, "coin", grid.rules), "died") for task in grid.tasks]
    assert {d.status for d in done} == {"ok"}
    assert files(tmp_path) == before
