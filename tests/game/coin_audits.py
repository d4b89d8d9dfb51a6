"""Small audits of the toy arena, for the tests of the game."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from countermove.game.cell import Task
from countermove.game.config import AuditConfig, make_config
from countermove.game.run import Done, Summary, play, resolve

TABLE: dict[str, Any] = {
    "arena": "coin",
    "data": "purse(size=60)",
    "moves": ["loaded(bias=0.4)", "shaved"],
    "countermoves": ["shake"],
    "models": ["thumb"],
    "seeds": 2,
    "engine": {"threads": 1},
}


def audit(**changes: Any) -> AuditConfig:
    """Return the small audit with some entries changed."""
    return make_config({**TABLE, **changes})


class Watched:
    """Keeps what a run's watcher hears."""

    def __init__(self) -> None:
        self.started: list[Task] = []
        self.ended: list[tuple[Task, Done]] = []

    def __call__(self, event: str, task: Task, done: Done | None) -> None:
        """Hear of a task."""
        if event == "started":
            self.started.append(task)
        else:
            assert done is not None
            self.ended.append((task, done))

    @property
    def played(self) -> list[str]:
        """Return the labels of the cells that were begun."""
        return [task.label for task in self.started if task.setting is not None]

    @property
    def made(self) -> list[str]:
        """Return the labels of the artifacts that were begun."""
        return [task.label for task in self.started if task.setting is None]


def play_in(out: Path, **changes: Any) -> tuple[Summary, Watched]:
    """Play the small audit in a folder."""
    watched = Watched()
    return play(resolve(audit(**changes), out), out, watched), watched


def cells(out: Path) -> dict[str, dict[str, Any]]:
    """Return a run's cell records by file name, without what may differ between two equal runs."""
    return {path.name: _timeless(json.loads(path.read_text())) for path in sorted((out / "cells").glob("*.json"))}


def _timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in record.items() if k not in {"finished", "environment"}}
    for cost in {"price", "move_cost"} & kept.keys():
        kept[cost] = {k: v for k, v in kept[cost].items() if k != "seconds"}
    return kept


def artifacts(out: Path) -> dict[str, bytes]:
    """Return the bytes of every file of every artifact; of manifests, all but the seconds."""
    found: dict[str, bytes] = {}
    for path in sorted((out / "artifacts").rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.name == "manifest.json":
                manifest = json.loads(content)
                del manifest["cost"]["seconds"]
                content = json.dumps(manifest, sort_keys=True).encode()
            found[str(path.relative_to(out))] = content
    return found


def files(out: Path) -> dict[str, tuple[int, bytes]]:
    """Return time of change and bytes of every file of a run's cells and artifacts."""
    return {
        str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes())
        for room in ("cells", "artifacts")
        for path in sorted((out / room).rglob("*"))
        if path.is_file()
    }
