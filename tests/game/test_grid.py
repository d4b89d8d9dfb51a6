"""The grid: controls and references are always there, what can be shared is shared, nothing is played twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from coin_audits import audit

from countermove.errors import ConfigError, DeviceError
from countermove.game import run as rules
from countermove.game.arena import Arena, arena_class
from countermove.game.cell import Setting, Task
from countermove.game.grid import Grid
from countermove.game.run import resolve


def grid(**changes: Any) -> Grid:
    return resolve(audit(**changes))


def settings(of: Grid) -> list[Setting]:
    return [cell.setting for cell in of.cells if cell.setting is not None]


def below(task: Task) -> Iterator[Task]:
    for earlier in task.before:
        yield earlier
        yield from below(earlier)


def test_all_combinations_are_there() -> None:
    made = grid(models=["thumb", "machine"], seeds=3)
    found = {(s.move, s.countermove, s.model, s.seed) for s in settings(made)}
    wanted = product(["none", "loaded(bias=0.4)", "shaved"], ["none", "shake"], ["thumb", "machine"], range(3))
    assert set(wanted) <= found


def test_none_is_always_played() -> None:
    made = grid(moves="shaved", countermoves="shake")
    assert made.config.moves == ("none", "shaved")
    assert made.config.countermoves == ("none", "shake")
    assert grid(moves=["shaved", "none"], countermoves=["shake", "none"]).cells == made.cells


def test_the_control_is_always_played() -> None:
    made = grid(moves="shaved", countermoves="shake", seeds=1)
    pairs = {(s.move, s.countermove) for s in settings(made)}
    assert {("loaded", "none"), ("loaded", "scale"), ("none", "scale")} <= pairs
    assert ("shaved", "scale") not in pairs
    assert "loaded" not in made.config.moves


def test_diagnostics_are_played_where_only_a_part_is_moved() -> None:
    assert not any(s.countermove == "left-out" for s in settings(grid()))
    part = grid(data="purse(part=0.5)", seeds=1)
    assert {s.move for s in settings(part) if s.countermove == "left-out"} == {"loaded(bias=0.4)", "shaved"}


def test_every_cell_is_there_once() -> None:
    made = grid(moves=["loaded", "loaded(bias=0.9)", "loaded( bias=9e-1 )", "shaved"], countermoves=["scale", "shake"])
    assert made.config.moves == ("none", "loaded", "shaved")
    assert max(Counter(cell.key for cell in made.cells).values()) == 1
    assert max(Counter(settings(made)).values()) == 1
    assert max(Counter(task.key for task in made.tasks).values()) == 1


def test_what_a_task_needs_stands_before_it() -> None:
    made = grid(models=["thumb", "machine"])
    position = {task.key: i for i, task in enumerate(made.tasks)}
    assert all(position[earlier.key] < position[task.key] for task in made.tasks for earlier in below(task))
    assert set(made.tasks) == set(made.cells) | set(made.artifacts)


def test_every_cell_but_a_reference_is_measured_against_its_reference() -> None:
    made = grid(models=["thumb", "machine"])
    for cell in made.cells:
        assert cell.setting is not None
        s = cell.setting
        if (s.move, s.countermove) == ("none", "none"):
            assert cell.reference is None
        else:
            assert cell.reference is not None
            assert cell.reference.setting == Setting(s.arena, s.data, "none", "none", s.model, s.seed)
            assert cell.reference in made.cells


def test_a_reference_is_played_even_where_the_axes_do_not_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_move(self: Arena, s: Setting) -> Setting:
        return Setting(s.arena, s.data, "none", s.countermove, s.model, s.seed)

    monkeypatch.setattr(arena_class("coin"), "reference", without_move)
    made = grid(data="purse(part=0.5)", seeds=1)
    assert ("none", "left-out") in {(s.move, s.countermove) for s in settings(made)}
    assert all(cell.reference is None or cell.reference in made.cells for cell in made.cells)


def test_one_artifact_for_each_data_move_and_seed() -> None:
    made = grid(data=["purse", "purse(size=50)"], models=["thumb", "machine"], countermoves=["shake", "scale"], seeds=3)
    kinds = Counter(task.kind for task in made.artifacts)
    assert kinds == {"move": 2 * 3 * 3, "mould": 2 * 3}  # two moves and the control; one of them needs a mould
    users = Counter(need.key for cell in made.cells for need in cell.needs)
    by_move = {task.label: users[task.key] for task in made.artifacts if task.kind == "move"}
    assert by_move["move shaved on purse, seed 1"] == 2 * 3
    assert by_move["move loaded on purse, seed 1"] == 2 * 2


def test_the_number_of_threads_is_part_of_every_key() -> None:
    one, two = grid(engine={"threads": 1}), grid(engine={"threads": 2})
    assert not {cell.key for cell in one.cells} & {cell.key for cell in two.cells}
    workers = grid(engine={"threads": 1, "workers": 2})
    assert [cell.key for cell in workers.cells] == [cell.key for cell in one.cells]


def test_threads_are_the_cores_divided_and_then_kept_by_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules.os, "cpu_count", lambda: 12)
    free = audit(engine={"workers": 5})
    made = resolve(free, tmp_path)
    assert made.rules.threads == 2
    rules.RunFolder(tmp_path).write_config(made.config)
    monkeypatch.setattr(rules.os, "cpu_count", lambda: 64)
    assert resolve(free, tmp_path).rules.threads == 2
    assert resolve(audit(engine={"threads": 7}), tmp_path).rules.threads == 7
    assert resolve(free).rules.threads == 12


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"arena": "coins"}, "unknown arena 'coins': did you mean 'coin'"),
        ({"data": "purses"}, "unknown data 'purses' in the coin arena: did you mean 'purse'"),
        ({"moves": "laoded"}, "unknown move 'laoded'"),
        ({"countermoves": "shake(time=3)"}, "countermove 'shake' has no setting 'time': did you mean 'times'"),
        ({"models": "thump"}, "unknown model 'thump' in the coin arena: did you mean 'thumb'"),
        ({"models": []}, "the audit names no model"),
        ({"training": {"round": 3}}, "unknown key 'training.round': did you mean 'rounds'"),
        ({"data": "purse+purse"}, "joins several methods"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_played(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        grid(**changes)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="finds no GPU here; use device = 'cpu' or 'auto'"):
        grid(device="cuda")
    assert grid(device="auto").config.device == "cpu"


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DeviceError, match=r"engine\.processes = 3 of one task need as many GPUs, and there are 2"):
        grid(device="auto", engine={"threads": 1, "processes": 3})
    assert grid(device="cuda", engine={"threads": 1, "processes": 2}).config.device == "cuda"
