"""The arena's rules: keys, references, controls, and what is refused before any compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.unlearnable.audits import EM, MAX, MODEL, TINY, arena, cell, cell_of, grid_of

from countermove.errors import ConfigError
from countermove.game.cell import Setting
from countermove.pixels.files import write_png
from countermove.unlearnable.poison import Context
from countermove.unlearnable.poisons.linear_separable import LinearSeparable


def test_a_key_depends_on_everything_that_a_result_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    house = arena()
    tasks = {
        "base": cell("linear-separable", "gray"),
        "move setting": cell("linear-separable(eps=1.0)", "gray"),
        "other move": cell("regions", "gray"),
        "countermove": cell("linear-separable", "jpeg"),
        "countermove setting": cell("linear-separable", "gray(test=true)"),
        "order": cell("linear-separable", "gray+jpeg"),
        "other order": cell("linear-separable", "jpeg+gray"),
        "seed": cell("linear-separable", "gray", seed=1),
        "data": cell("linear-separable", "gray", data="cifar10-mini(train_limit=97, test_limit=40)"),
        "moved": cell("linear-separable", "gray", data=f"{TINY}+moved(fraction=0.5)"),
        "recipe": cell("linear-separable", "gray", training={"epochs": 2}),
        "threads": cell("linear-separable", "gray", threads=2),
        "device": cell("linear-separable", "gray", device="cuda"),
        "model": cell_of(house, "linear-separable", "gray", model="small-cnn(width=0.2)"),
    }
    monkeypatch.setattr(LinearSeparable, "version", 2)
    tasks["move version"] = cell("linear-separable", "gray")
    monkeypatch.undo()
    monkeypatch.setattr("countermove.learning.VERSION", 99)
    tasks["room version"] = cell("linear-separable", "gray")
    assert len({task.key for task in tasks.values()}) == len(tasks)


def test_a_key_does_not_depend_on_how_things_are_spelled_or_on_other_cells() -> None:
    base = cell("linear-separable(eps=1.0)", "jpeg")
    house = arena(training={"epochs": 1, "lr": 0.1}, rehash=True)
    canonical = house.composed("move", "linear-separable( patch_size=8,eps=1.0 )").spelling
    assert cell_of(house, canonical, house.composed("countermove", "jpeg(quality=10)").spelling).key == base.key
    few = {task.key for task in grid_of(moves=["regions"]).cells}
    more = {task.key for task in grid_of(moves=["regions", "random"], countermoves=["gray", "jpeg"]).cells}
    assert few < more


def test_a_clean_cell_depends_on_no_move() -> None:
    assert cell("none", "gray").needs == ()
    assert {c.key for c in grid_of(moves=["regions"]).cells if c.setting.move == "none"} == {
        c.key for c in grid_of(moves=[EM, MAX]).cells if c.setting.move == "none"
    }


def test_artifacts_are_shared_by_replies_and_models_but_not_by_seeds() -> None:
    house = arena()
    moves = {
        cell_of(house, MAX, reply, model=model).needs[0].key
        for reply in ("none", "gray")
        for model in (MODEL, "small-cnn(width=0.2)")
    }
    assert len(moves) == 1
    (move,) = cell_of(house, MAX, "none").needs
    (surrogate,) = move.needs
    (other,) = cell_of(house, MAX.replace("3/255", "2/255"), "none").needs
    assert other.key != move.key
    assert other.needs[0].key == surrogate.key
    (elsewhere,) = cell_of(house, MAX, "none", seed=1).needs
    assert elsewhere.needs[0].key != surrogate.key


def test_the_content_of_data_enters_the_key(tmp_path: Path) -> None:
    def key() -> str:
        return cell("regions", data=f"folder(path={tmp_path})", rehash=True).key

    for split in ("train", "test"):
        for label in ("cat", "dog"):
            for i in range(2):
                (tmp_path / split / label).mkdir(parents=True, exist_ok=True)
                write_png(tmp_path / split / label / f"{i}.png", np.full((8, 8, 3), 10 * i, np.uint8))
    first = key()
    assert key() == first
    write_png(tmp_path / "train" / "cat" / "0.png", np.full((8, 8, 3), 1, np.uint8))
    assert key() != first


def test_the_reference_is_the_same_game_without_move_and_reply() -> None:
    setting = Setting("unlearnable", TINY, "regions", "gray", MODEL, 3)
    reference = arena().reference(setting)
    assert reference == Setting("unlearnable", TINY, "none", "none", MODEL, 3)
    assert arena().reference(reference) == reference


@pytest.mark.parametrize(("mean", "payoff"), [(0.8, 0.0), (0.2, 1.0), (0.5, 0.5), (0.1, 7 / 6), (0.9, -1 / 6)])
def test_the_payoff_is_the_share_taken_away_of_what_can_be_learned(mean: float, payoff: float) -> None:
    assert arena().payoff(mean, 0.8, 0.2) == pytest.approx(payoff)
    assert arena().payoff(np.array([mean]), np.array([0.8]), 0.2) == pytest.approx([payoff])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"moves": ["linear-seperable"]}, "did you mean 'linear-separable'"),
        ({"countermoves": ["grey"]}, "did you mean 'gray'"),
        ({"models": ["resnet-81"]}, "did you mean 'resnet-18'"),
        ({"data": "cifar-mini"}, "cifar10-mini"),
        ({"moves": ["random(eps=8)"]}, "8/255"),
        ({"moves": ["random(epz=8/255)"]}, "did you mean 'eps'"),
        ({"moves": ["random+regions"]}, "joins several methods"),
        ({"models": ["small-cnn+small-residual"]}, "joins several methods"),
        ({"countermoves": ["left-out"]}, "'left-out' is a diagnostic, not a reply"),
        ({"countermoves": ["gray+left-out"]}, "'left-out' is a diagnostic, not a reply"),
        ({"data": "moved(fraction=0.5)"}, r"one data set, and \+moved"),
        ({"data": "cifar10-mini+cifar10-mini"}, r"one data set, and \+moved"),
        ({"data": f"{TINY}+moved(fraction=0)"}, "a share is above 0"),
        (
            {"data": f"{TINY}+moved(classes=[brid])"},
            "unknown class 'brid'.*did you mean 'bird'",
        ),
        ({"training": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"training": {"lr": -1}}, "lr = -1.0 is refused"),
        ({"moves": ["precomputed(path=/nowhere/at/all.npz)"]}, "there is nothing at /nowhere/at/all.npz"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_compute(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid_of(**changes)


def test_pictures_of_side_32_have_the_known_control() -> None:
    (control,) = arena().controls("cifar10-mini")
    assert (control.move, control.countermove) == ("linear-separable", "gray")


@pytest.mark.parametrize(("side", "patch"), [(8, 2), (16, 4), (20, 5), (64, 16), (18, 3)])
def test_other_sides_have_a_control_of_their_own_scale(side: int, patch: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(side)
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(2):
                picture = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(picture).save(tmp_path / split / label / f"{i}.png")
    house = arena()
    data = f"folder(path={tmp_path})"
    (control,) = house.controls(data)
    poison = house.composed("move", control.move).method
    assert poison.patch_size == patch
    assert poison.eps == pytest.approx(6 / 255 * (3 * side * side) ** 0.5, rel=0.02)
    poison(house.data(data, 0).train.batch(), context=Context(seed=0))  # its patches divide the side
    (control_cell,) = [
        c for c in grid_of(data=data).cells if c.setting.move != "none" and c.setting.countermove == "gray"
    ]
    assert control_cell.setting.move == control.move


@pytest.mark.parametrize(
    ("move", "known"),
    [
        ("none", ""),
        ("linear-separable", "near-black"),
        (f"error-minimizing(surrogate='{MODEL}')", "white"),
        ("error-minimizing", "gray"),
        ("combined(first=linear-separable, second=error-minimizing)", "gray"),
        (f"mixture(poison=\"error-minimizing(form=class, surrogate='{MODEL}')\")", "white"),
    ],
)
def test_what_a_mover_knows_of_the_trainers_network(move: str, known: str) -> None:
    assert arena().access(Setting("unlearnable", TINY, move, "none", MODEL, 0)) == known
