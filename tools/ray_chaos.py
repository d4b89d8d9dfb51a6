"""200 cells of about two seconds on Ray while workers and the driver are killed at random.

A private cluster of two CPUs plays the toy arena of the tests. On average every five cell times something is killed
with SIGKILL: the driver, a Ray worker, or the process that a cell has of its own, each with the same chance. A driver
that ends before everything is done is started again with the same command. In the end every record and artifact is
compared with those of an undisturbed run of the local engine, times and environment fields aside. That one does not
sleep: how long a cell sleeps is no part of its result.

``python tools/ray_chaos.py [SEEDS] [CELL_SECONDS]``: 14 cells a seed, 15 seeds and 2 s by default.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from countermove.game.engines.ray import private_cluster

PLUGINS = Path(__file__).parents[1] / "tests" / "plugins"
AUDIT = """
arena = "coin"
data = "purse(size=60)"
moves = "shaved"
countermoves = ["shake", "scale", "shake(times=9)", "scale(grams=4)", "blindfold"]
models = "thumb"
seeds = {seeds}
training = {{ sleep = {sleep} }}
engine = {{ threads = 1, workers = 2 }}
"""


def main() -> None:
    """Play both runs, kill in one of them, compare."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    sleep = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # the cluster's, and the drivers'
    os.environ["PYTHONPATH"] = str(PLUGINS)
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        audit = Path(folder) / "chaos.toml"
        audit.write_text(AUDIT.format(seeds=seeds, sleep=sleep))
        calm, wild = Path(folder) / "calm", Path(folder) / "wild"
        began = time.monotonic()
        assert _driver(audit, calm, "--set", "training.sleep=0").wait() == 0
        print(f"undisturbed, local engine: {len(_cells(calm))} cells in {time.monotonic() - began:.0f} s", flush=True)
        with private_cluster(2) as ray:
            address = ray.get_runtime_context().gcs_address
            began = time.monotonic()
            kills, drivers = _played(audit, wild, address, chance, 5 * sleep)
            took = time.monotonic() - began
        records = [json.loads(path.read_text()) for path in (wild / "cells").glob("*.json")]
        lost = sum("lost_workers" in record["environment"] for record in records)
        memory = sum("out_of_memory" in record["environment"] for record in records)
        same = _cells(calm) == _cells(wild) and _artifacts(calm) == _artifacts(wild)
        print(f"disturbed, Ray: {len(records)} cells in {took:.0f} s; {drivers} drivers until one came to the end")
        print("killed: " + ", ".join(f"{kind} {count} times" for kind, count in sorted(kills.items())))
        print(f"of the final records, {lost} were played again after a lost worker, {memory} after a killed process")
        print(f"results identical: {same}")
    sys.exit(not same)


def _played(audit: Path, out: Path, address: str, chance: random.Random, interval: float) -> tuple[Counter[str], int]:
    """Start drivers until one has done everything, and kill meanwhile. Returns what was killed, and the drivers."""
    kills: Counter[str] = Counter()
    for drivers in range(1, 1000):
        driver = _driver(audit, out, "--engine", "ray", "--set", f"engine.address={address}")
        while True:
            try:
                driver.wait(chance.expovariate(1 / interval))
                break
            except subprocess.TimeoutExpired:
                kind = chance.choice(["driver", "Ray worker", "cell process"])
                victims = {"driver": [driver.pid]} | _below(os.getpid())
                if victims.get(kind):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(chance.choice(sorted(victims[kind])), signal.SIGKILL)
                        kills[kind] += 1
        if driver.returncode == 0:
            return kills, drivers
        if driver.returncode not in {-signal.SIGKILL, 3}:  # 3: a cell failed; the next call tries it again
            raise SystemExit(f"a driver ended with {driver.returncode}")
        print(f"driver {drivers} ended with {driver.returncode}; {len(_cells(out))} cells are there", flush=True)
    raise SystemExit("it never came to the end")


def _driver(audit: Path, out: Path, *told: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "countermove", "audit", str(audit), "--out", str(out), *told]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _below(root: int) -> dict[str, list[int]]:
    """Return the busy Ray workers and the cells' processes among what descends from a process."""
    parents, lines = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            lines[int(folder.name)] = folder.joinpath("cmdline").read_text()
    ours, added = {root}, True
    while added:
        added = {pid for pid, parent in parents.items() if parent in ours} - ours
        ours |= added
    marks = {"Ray worker": "ray::_watch", "cell process": "alone import main"}
    return {kind: [pid for pid in ours if mark in lines.get(pid, "")] for kind, mark in marks.items()}


def _cells(run: Path) -> dict[str, Any]:
    """Return the records by name, without times and environment."""
    found = {}
    for path in (run / "cells").glob("*.json"):
        record = json.loads(path.read_text())
        for field in ("finished", "environment"):
            record.pop(field, None)
        for cost in {"price", "move_cost"} & record.keys():
            del record[cost]["seconds"]
        found[path.name] = record
    return found


def _artifacts(run: Path) -> dict[str, Any]:
    """Return the bytes of all artifacts' files, of manifests all but the seconds."""
    found: dict[str, Any] = {}
    for path in (run / "artifacts").glob("[!.]*/*"):
        found[str(path.relative_to(run))] = path.read_bytes()
        if path.name == "manifest.json":
            manifest = json.loads(path.read_text())
            del manifest["cost"]["seconds"]
            found[str(path.relative_to(run))] = manifest
    return found


if __name__ == "__main__":
    main()
