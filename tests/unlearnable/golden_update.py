"""Golden outputs of the methods that need no network: ``python -m tests.unlearnable.golden_update [--force]``.

An entry is written when it is new or its method's version was raised. With --force, changed outputs of an equal version
are written too; that is right only before a version was ever released.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from tests.unlearnable.rows import COUNTERMOVE_ROWS, MOVE_ROWS
from torch import Tensor

from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples
from countermove.nets.registry import build_network
from countermove.pixels.batch import Batch
from countermove.pixels.rounding import to_float, to_uint8
from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.play import move_and_round
from countermove.unlearnable.poison import Context, Surrogate

FOLDER = Path(__file__).parent / "golden"
EXACT, COARSE = FOLDER / "exact.json", FOLDER / "coarse.json"

Entry = dict[str, Any]


def pictures() -> Batch:
    """Return six 8-bit pictures of 16 x 16 in three classes, from a formula."""
    n, c, row, column = torch.meshgrid(*(torch.arange(k) for k in (6, 3, 16, 16)), indexing="ij")
    levels = (row * (3 + n) + column * column * (c + 1) + 40 * c + row * column * (n % 2)) % 256
    ids = tuple(f"golden-{i}" for i in range(6))
    return Batch(pictures=levels.float() / 255, labels=torch.arange(6) % 3, ids=ids, classes=("a", "b", "c"))


def exact() -> dict[str, Entry]:
    """Return version and SHA-256 of the 8-bit output of every method that needs no network, by kind and spelling."""
    entries: dict[str, Entry] = {}
    for name, rows in MOVE_ROWS.items():
        for row in rows:
            if not (row.network or row.needs_file):
                spelled = f"{name}({row.settings})" if row.settings else name
                part = METHODS.compose("move", spelled).parts[0]
                stored, _ = move_and_round(part.method, pictures(), Context(seed=0))
                entries[f"move {spelled}"] = {"version": part.version, "sha256": _sha256(stored)}
    for name, replies in COUNTERMOVE_ROWS.items():
        for reply in replies:
            if reply.kind == "own-data":  # which does not go with these pictures
                continue
            spelled = f"{name}({reply.settings})" if reply.settings else name
            part = METHODS.compose("countermove", spelled).parts[0]
            entries[f"countermove {spelled}"] = {"version": part.version, "sha256": _sha256(_answered(part.method))}
    return entries


def coarse() -> dict[str, Entry]:
    """Return version and coarse statistics of what the methods with a network do; these differ a little by machine.

    They are the mean size of a change and the share of values that lie on the radius, in levels of 1/255.
    """
    entries: dict[str, Entry] = {}
    for name, rows in MOVE_ROWS.items():
        for row in rows:
            if row.network:
                part = METHODS.compose("move", f"{name}({row.settings})").parts[0]
                stored, _ = move_and_round(part.method, pictures(), Context(seed=0, networks=_networks))
                levels = (stored.float() - pictures().pictures * 255).round()
                entries[f"move {name}({row.settings})"] = {
                    "version": part.version,
                    "mean": round(float(levels.abs().mean()), 3),
                    "moved": round(float((levels != 0).float().mean()), 3),
                }
    return entries


def _networks(asked: Surrogate) -> list[torch.nn.Module]:
    stages = range(max(1, asked.checkpoints))
    return [build_network("small-cnn(width=0.25)", 3, 16, torch.Generator().manual_seed(i)).eval() for i in stages]


def _answered(method: Any) -> Tensor:
    """Return the 8-bit pictures that a model is trained on: squeezed, and through every batch step once."""
    batch = pictures()
    received = Examples(pictures=to_uint8(batch.pictures), labels=batch.labels)
    plan = Plan(received=received, moved=torch.arange(6) % 2 == 0, recipe=Recipe())
    plan = method(plan, context=ReplyContext(seed=0))
    result = plan.received.pictures
    targets = torch.nn.functional.one_hot(plan.received.labels, 3).float()
    for step in plan.steps:
        mixed, targets = step(to_float(result), targets, generator=torch.Generator().manual_seed(0))
        result = torch.cat([to_uint8(mixed).flatten(1), to_uint8(targets)], dim=1)
    return result


def _sha256(values: Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()


def read(path: Path) -> dict[str, Entry]:
    """Return the stored entries, none where there is no file yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def update(path: Path, fresh: dict[str, Entry], *, force: bool) -> list[str]:
    """Write the entries and return the names of those that changed without a raised version; these are kept."""
    stored, refused = read(path), []
    for name, entry in fresh.items():
        old = stored.get(name)
        if old is not None and old != entry and old["version"] >= entry["version"] and not force:
            refused.append(name)
            fresh[name] = old
    path.write_text(json.dumps(fresh, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return refused


if __name__ == "__main__":
    torch.set_num_threads(1)
    left = [
        *update(EXACT, exact(), force="--force" in sys.argv),
        *update(COARSE, coarse(), force="--force" in sys.argv),
    ]
    for label in left:
        print(f"not written: {label} gives another output under the same version; raise the version")
    sys.exit(1 if left else 0)
