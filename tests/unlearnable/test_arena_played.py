"""Cells that are really played on tiny data: every poison, and audits in which only a part is moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.unlearnable.audits import EM, MAX, MODEL, TINY, arena, cell_of, grid_of, played

from countermove.game.cell import Task
from countermove.pixels.files import read_picture, write_png
from countermove.unlearnable import play as work


@pytest.fixture(scope="module")
def every_move(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Play every poison twice, in two run folders, and a third time over the first."""
    folder = tmp_path_factory.mktemp("every-move")
    data = arena().data(TINY, 0)
    noise = np.random.default_rng(0).integers(-4, 5, tuple(data.train.pictures.shape)).astype(np.int16)
    np.savez(folder / "theirs.npz", noise=noise[::-1], ids=np.array(data.train.ids)[::-1])
    moves = ["linear-separable", "random", "regions", EM, MAX, f"precomputed(path={folder / 'theirs.npz'}, eps=4/255)"]
    results = [played(folder / name, moves=moves, countermoves=["jpeg"]) for name in ("one", "two", "one")]
    return {"folder": folder, "results": results, "data": data}


def test_every_poison_is_played_to_its_end(every_move: dict[str, Any]) -> None:
    summary, results = every_move["results"][0]
    assert summary.unfinished == []
    assert {row.status for row in results.rows} == {"ok"}
    assert results.axis("move")[0] == "none"
    assert len(results.axis("move")) == 7
    assert set(results.axis("countermove")) == {"none", "jpeg", "gray"}  # gray: the control's
    for row in results.rows:
        assert 0 <= row.metrics["accuracy"] <= row.metrics["accuracy_best"] <= 1
        always = {"accuracy", "accuracy_best", "accuracy_early", "train_accuracy"}
        assert (
            always
            <= set(row.metrics)
            <= always
            | {
                "accuracy_moved_test",
                "trigger_success",
                "noise_high_frequency",
                "noise_colour",
            }
        )
        assert ("noise_colour" in row.metrics) == (row.setting.move != "none")
        on_test = row.setting.move != "none" and "precomputed" not in row.setting.move
        assert ("accuracy_moved_test" in row.metrics) == ("accuracy_moved_test" in row.record["curves"]) == on_test
        confusion = np.array(row.record["tables"]["confusion"])
        assert confusion.sum() == 40
        assert np.trace(confusion) / 40 == pytest.approx(row.metrics["accuracy"])
        outcome = row.record["units"]["outcome"]
        assert row.metrics["accuracy"] == pytest.approx(np.mean(outcome))
        assert row.record["units"]["counted"] is None
        assert row.record["units"]["ids"] == list(every_move["data"].test.ids)
        assert len(row.record["curves"]["accuracy"]) == 1
        assert row.record["price"]["samples"] == 96
        assert row.record["price"]["parameters_changed"] > 0


def test_chance_is_the_share_of_the_largest_test_class(every_move: dict[str, Any]) -> None:
    counts = np.bincount(every_move["data"].test.labels.numpy())
    for row in every_move["results"][0][1].rows:
        assert row.record["chance"] == pytest.approx(counts.max() / 40)


def test_played_twice_artifacts_and_outcomes_are_byte_identical(every_move: dict[str, Any]) -> None:
    one, two = (_files(every_move["folder"] / name) for name in ("one", "two"))
    assert set(one) == set(two)
    assert {name.rsplit("/", 1)[1] for name in one} >= {"moved.safetensors", "weights.safetensors"}
    assert one == two
    outcomes = [
        {row.key: (row.metrics, row.record["units"], row.record["curves"]) for row in results.rows}
        for _, results in every_move["results"][:2]
    ]
    assert outcomes[0] == outcomes[1]


def test_the_third_time_nothing_is_done(every_move: dict[str, Any]) -> None:
    summary, _ = every_move["results"][2]
    assert summary.done == []
    assert summary.cached == summary.cells


def _files(run: Path) -> dict[str, bytes]:
    """Return the bytes of the artifacts; of manifests, all but the seconds."""
    found = {}
    for path in sorted((run / "artifacts").rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.name == "manifest.json":
                manifest = json.loads(content)
                del manifest["cost"]["seconds"]
                content = json.dumps(manifest).encode()
            found[str(path.relative_to(run))] = content
    return found


def test_manifests_name_ids_and_the_budget_that_was_measured(every_move: dict[str, Any]) -> None:
    manifests = [json.loads(p.read_text()) for p in (every_move["folder"] / "one").rglob("manifest.json")]
    moves = [m for m in manifests if m["kind"] == "move"]
    assert len(moves) == 6
    for manifest in moves:
        assert manifest["facts"]["ids"] == list(every_move["data"].train.ids)
        budget = manifest["facts"]["budget"]
        assert budget["kept"] is True
        assert 0 < budget["mean"] <= budget["largest"] <= budget["radius"] + 1e-6
    (surrogate,) = [m for m in manifests if m["kind"] == "surrogate"]
    assert surrogate["cost"]["samples"] == 96


def test_the_trainer_receives_the_stored_pictures_squeezed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, torch.Tensor] = {}
    real = work.train

    def spy(model: Any, received: Any, test: Any, **more: Any) -> Any:
        seen["train"], seen["test"] = received.pictures, test.pictures
        return real(model, received, test, **more)

    monkeypatch.setattr(work, "train", spy)
    house = arena(training={"epochs": 1})
    data = house.data(TINY, 0)
    desk = _desk(tmp_path)
    task = cell_of(house, "regions", "gray+bit-depth(test=true)")
    desk.artifact(task.needs[0]).mkdir(parents=True)
    crafting = type(desk)(folder=desk.artifact(task.needs[0]), scratch=desk.scratch, artifacts=desk.artifacts)
    house.make(task.needs[0], crafting)
    outcome = house.play(task, desk)
    stored = work.received(data, task, desk).pictures
    assert not torch.equal(stored, data.train.pictures)
    assert (seen["train"][:, 0] == seen["train"][:, 1]).all()
    assert set(seen["train"].unique().tolist()) <= {0, 64, 128, 192}
    assert torch.equal(seen["test"], data.test.pictures & 192)
    assert outcome.cost.samples == 96


def _desk(folder: Path) -> Any:
    from countermove.game.cell import Desk

    return Desk(folder=folder / "out", scratch=folder / "scratch", artifacts=folder / "artifacts")


def test_only_the_moved_class_is_moved_counted_and_left_out(tmp_path: Path) -> None:
    _, results = played(tmp_path / "run", data=f"{TINY}+moved(classes=[bird])", moves=["regions"])
    data = arena().data(TINY, 0)
    birds, test_birds = (part.labels == data.classes.index("bird") for part in (data.train, data.test))
    by_reply = {row.setting.countermove: row for row in results.rows if row.setting.move == "regions"}
    assert set(by_reply) == {"none", "gray", "left-out"}
    assert {row.status for row in results.rows} == {"ok"}
    assert not [row for row in results.rows if row.setting.move == "none" and row.setting.countermove == "left-out"]
    for row in results.rows:
        assert row.record["units"]["counted"] == test_birds.tolist()
        right = np.array(row.record["units"]["outcome"])[test_birds.numpy()]
        assert row.metrics["moved_class_accuracy"] == pytest.approx(right.mean())
    assert by_reply["left-out"].record["price"]["samples"] == int((~birds).sum())
    assert by_reply["none"].record["price"]["samples"] == 96
    manifests = [json.loads(p.read_text()) for p in (tmp_path / "run" / "artifacts").rglob("manifest.json")]
    (regions,) = [m for m in manifests if "regions" in m["label"]]
    assert regions["facts"]["ids"] == [i for i, bird in zip(data.train.ids, birds.tolist(), strict=True) if bird]


def test_a_diagnostic_is_no_reply_of_the_value() -> None:
    house = arena()
    everything = ", ".join(house.data(TINY, 0).classes)
    for moved, extra in (
        ("", ()),
        ("+moved()", ()),
        (f"+moved(classes=[{everything}])", ()),
        ("+moved(classes=[bird, cat])", ("left-out",)),
        ("+moved(fraction=0.5)", ("left-out",)),
    ):
        assert tuple(house.extra_countermoves(TINY + moved)) == extra
    grid = grid_of(data=f"{TINY}+moved(fraction=0.5)", moves=["regions"])
    assert "left-out" in {c.setting.countermove for c in grid.cells if c.setting}
    assert "left-out" not in grid.config.countermoves


def test_moved_fractions_differ_by_seed_and_leave_the_rest_untouched() -> None:
    house = arena()
    sets = [house.data(f"{TINY}+moved(fraction=0.25)", seed) for seed in (0, 0, 1)]
    assert [int(data.moved.sum()) for data in sets] == [24, 24, 24]
    assert torch.equal(sets[0].moved, sets[1].moved)
    assert not torch.equal(sets[0].moved, sets[2].moved)


def test_a_failing_poison_fails_its_cells_and_no_other(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.npy"
    np.save(theirs, np.zeros((5, 32, 32, 3), np.uint8))
    summary, results = played(tmp_path / "run", moves=[f"precomputed(path={theirs})", "regions"])
    broken = [row for row in results.rows if row.setting.move.startswith("precomputed")]
    assert {row.status for row in broken} == {"blocked"}
    assert all("holds 5 rows for 96 pictures and no ids" in row.record["error"] for row in broken)
    assert {row.status for row in results.rows if row not in broken} == {"ok"}
    assert sorted(done.status for done in summary.unfinished) == ["blocked", "blocked", "failed"]
    np.save(theirs, arena().data(TINY, 0).train.pictures.numpy())
    again, results = played(tmp_path / "run", moves=[f"precomputed(path={theirs})", "regions"])
    assert again.unfinished == []
    assert {row.status for row in results.rows} == {"ok"}


def test_a_broken_promise_is_written_down(tmp_path: Path) -> None:
    path = tmp_path / "theirs.npy"
    pictures = arena().data(TINY, 0).train.pictures
    np.save(path, (255 - pictures).numpy())
    played(tmp_path / "run", moves=[f"precomputed(path={path}, eps=8/255)"], countermoves=["none"])
    manifests = [json.loads(p.read_text()) for p in (tmp_path / "run" / "artifacts").rglob("manifest.json")]
    budgets = [m["facts"]["budget"] for m in manifests if "precomputed" in m["label"]]
    assert [budget["kept"] for budget in budgets] == [False]


def test_a_stored_picture_is_what_protect_would_write(every_move: dict[str, Any], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    house = arena()
    (move,) = cell_of(house, "regions", "none").needs
    stored = load_file(every_move["folder"] / "one" / "artifacts" / _same(move, every_move) / work.PICTURES)["pictures"]
    path = tmp_path / "x.png"
    write_png(path, stored[0].permute(1, 2, 0).numpy())
    assert torch.equal(torch.from_numpy(read_picture(path)).permute(2, 0, 1), stored[0])


def _same(move: Task, every_move: dict[str, Any]) -> str:
    assert (every_move["folder"] / "one" / "artifacts" / move.key).is_dir(), "the key does not depend on the recipe"
    return move.key


def test_a_poison_meets_the_stages_of_a_training_and_a_trained_adversarially_surrogate(tmp_path: Path) -> None:
    net = f"surrogate='{MODEL}', surrogate_epochs=2, steps=1"
    moves = [f"self-ensemble(checkpoints=2, {net})", f"hypocritical(surrogate_eps=2/255, {net})"]
    summary, results = played(tmp_path / "run", moves=moves, countermoves=["none"])
    assert summary.unfinished == []
    stages = sorted((tmp_path / "run").rglob("stage-*.safetensors"))
    assert [path.name for path in stages] == ["stage-0.safetensors", "stage-1.safetensors"]
    samples = {json.loads(p.read_text())["cost"]["samples"] for p in (tmp_path / "run").rglob("manifest.json")}
    assert 2 * 96 in samples
    assert 2 * 96 * 11 in samples, "ten steps of the adversary for every picture, and the training step itself"
    assert {row.status for row in results.rows} == {"ok"}
