"""Tiny audits of this arena, for its tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from countermove.game.arena import Rules
from countermove.game.cell import Setting, Task
from countermove.game.config import make_config
from countermove.game.results import Results, load_results
from countermove.game.run import Summary, play, resolve
from countermove.unlearnable.arena import Unlearnable

TINY = "cifar10-mini(train_limit=96, test_limit=40)"
MODEL = "small-cnn(width=0.1)"
TABLE: dict[str, Any] = {
    "arena": "unlearnable",
    "data": TINY,
    "moves": [],
    "countermoves": ["gray"],
    "models": [MODEL],
    "seeds": 1,
    "training": {"epochs": 1, "batch_size": 32},
    "engine": {"threads": 1},
}
EM = f"error-minimizing(form=class, rounds=1, batches=1, surrogate='{MODEL}')"
MAX = f"error-maximizing(steps=1, step=3/255, surrogate='{MODEL}', surrogate_epochs=1)"


def grid_of(**changes: Any) -> Any:
    table = {**TABLE, **changes}
    table["moves"] = table["moves"] or ["none"]
    return resolve(make_config(table))


def played(out: Path, **changes: Any) -> tuple[Summary, Results]:
    summary = play(grid_of(**changes), out)
    return summary, load_results(summary.run)


def arena(**rules: Any) -> Unlearnable:
    return Unlearnable(Rules(**{"training": {"epochs": 1}, **rules}))


def cell(move: str = "none", countermove: str = "none", *, data: str = TINY, seed: int = 0, **rules: Any) -> Task:
    return cell_of(arena(**rules), move, countermove, data=data, seed=seed)


def cell_of(house: Unlearnable, move: str, reply: str, *, data: str = TINY, model: str = MODEL, seed: int = 0) -> Task:
    return house.cell(Setting("unlearnable", data, move, reply, model, seed))
