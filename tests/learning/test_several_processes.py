"""A cell that several processes play is the cell that one plays, up to rounding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests import hostile

from countermove.game.config import make_config
from countermove.game.run import play, resolve


def record(out: Path, data: Path, processes: int) -> dict[str, Any]:
    """Play one move against nothing in a short training; return the clean cell's record."""
    table = {
        "arena": "unlearnable",
        "data": f"folder(path='{data}')",
        "moves": ["linear-separable"],
        "countermoves": ["none"],
        "models": ["small-cnn(width=0.1)"],
        "training": {"epochs": 1, "batch_size": 16, "lr": 0.02},
        "engine": {"threads": 1, "processes": processes},
    }
    summary = play(resolve(make_config(table)), out)
    assert not summary.unfinished
    records = [json.loads(path.read_text()) for path in (out / "cells").glob("*.json")]
    (found,) = [r for r in records if (r["setting"]["move"], r["setting"]["countermove"]) == ("none", "none")]
    return found


def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    for split, many in (("train", 20), ("test", 6)):
        for k, name in enumerate(("dark", "light")):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for i in range(many):
                noise = hostile.noise(16, 16, seed=100 * many + 10 * i + k)
                Image.fromarray(noise // 2 + 100 * k).save(folder / f"{i}.png")
    one, two = (record(tmp_path / str(n), tmp_path / "data", n) for n in (1, 2))
    assert two["environment"]["processes"] == 2
    assert two["key"] == one["key"]
    assert two["curves"]["train_loss"] == pytest.approx(one["curves"]["train_loss"], abs=1e-4)
    assert two["curves"]["train_accuracy"] == one["curves"]["train_accuracy"]
    assert two["units"]["ids"] == one["units"]["ids"]
