"""Outputs must not change unless a version says so: cached cells would otherwise be believed wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unlearnable import golden_update
from tests.unlearnable.golden_update import COARSE, EXACT, Entry, coarse, exact, read, update

HOW = "then run: python -m tests.unlearnable.golden_update"


def _check_versions(stored: dict[str, Entry], fresh: dict[str, Entry]) -> None:
    assert set(fresh) == set(stored), f"methods came or went; {HOW}"
    for name, entry in fresh.items():
        raised = stored[name]["version"]
        assert entry["version"] == raised, f"{name} has version {entry['version']}, its golden output {raised}; {HOW}"


def test_outputs_of_methods_without_a_network_are_the_same_bytes() -> None:
    stored, fresh = read(EXACT), exact()
    _check_versions(stored, fresh)
    changed = [name for name in fresh if fresh[name]["sha256"] != stored[name]["sha256"]]
    assert not changed, f"raise the version of what made these outputs differ: {changed}; {HOW}"


def test_outputs_of_methods_with_a_network_are_much_the_same() -> None:
    stored, fresh = read(COARSE), coarse()
    _check_versions(stored, fresh)
    for name, entry in fresh.items():
        for statistic in ("mean", "moved"):
            assert entry[statistic] == pytest.approx(stored[name][statistic], rel=0.1), (
                f"raise the version of what made {name} differ; {HOW}"
            )


def test_an_output_is_not_overwritten_under_the_same_version(tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    assert update(path, {"a": {"version": 1, "sha256": "x"}}, force=False) == []
    assert update(path, {"a": {"version": 1, "sha256": "y"}}, force=False) == ["a"]
    assert read(path)["a"]["sha256"] == "x"
    assert update(path, {"a": {"version": 2, "sha256": "y"}, "b": {"version": 1, "sha256": "z"}}, force=False) == []
    assert read(path)["a"] == {"version": 2, "sha256": "y"}
    assert update(path, {"a": {"version": 2, "sha256": "w"}}, force=True) == []
    assert read(path) == {"a": {"version": 2, "sha256": "w"}}


def test_the_golden_pictures_are_what_they_were() -> None:
    batch = golden_update.pictures()
    assert golden_update._sha256((batch.pictures * 255).round()) == PICTURES


PICTURES = "a86d28895c43c0aa28a83a5d49f56cd52a60f4024127d5164864cafc741cf301"
