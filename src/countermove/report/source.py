"""A run as reports read it: its folder, its rows and its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from countermove.errors import RunError
from countermove.game.results import Results, Row, load_results
from countermove.game.store import RunFolder
from countermove.game.verdict import Verdict, judge


@dataclass(frozen=True)
class Report:
    """One run, judged.

    name: what the run is called beside others; the folder's name unless two folders share it.
    """

    name: str
    run: RunFolder
    results: Results
    verdict: Verdict


def read_report(run: RunFolder) -> Report:
    """Read a run folder and judge it, with the budgets that were measured on what was saved.

    Raises:
        RunError: when it is no run folder.
        ConfigError: when its arena is not installed.
    """
    results = load_results(run)
    return Report(run.path.resolve().name, run, results, judge(results, measured_budgets(run, results)))


def read_reports(paths: Sequence[Path]) -> list[Report]:
    """Read several run folders for a comparison; folders of the same name are told apart by their paths.

    Raises:
        RunError: when one is no run folder, or stands there twice.
        ConfigError: when an arena is not installed.
    """
    resolved = [path.resolve() for path in paths]
    for path in resolved:
        if resolved.count(path) > 1:
            raise RunError(f"{path} is named twice; a run is compared with other runs")
    reports = [read_report(RunFolder.existing(path)) for path in paths]
    names = [report.name for report in reports]
    return [
        Report(str(path), r.run, r.results, r.verdict) if names.count(r.name) > 1 else r
        for r, path in zip(reports, paths, strict=True)
    ]


def measured_budgets(run: RunFolder, results: Results) -> dict[str, bool]:
    """Return whether each move kept its budget after the 8-bit save, under every seed and on all data.

    A move without a budget, or one that was not measured, is left out.
    """
    kept: dict[str, bool] = {}
    for row, budget in stored_budgets(run, results):
        if isinstance(budget.get("kept"), bool):
            kept[row.setting.move] = kept.get(row.setting.move, True) and budget["kept"]
    return kept


def stored_budgets(run: RunFolder, results: Results) -> Iterator[tuple[Row, Mapping[str, Any]]]:
    """Yield what was measured on every moved data set, once, with a row that uses it.

    Read from the manifests of the artifacts of kind ``move``: their fact ``budget`` is a table with ``norm``,
    ``radius`` (None without a promise), ``largest`` and ``mean`` (measured, in the radius's unit) and ``kept``.
    """
    rows = {key: row for row in reversed(results.rows) if (key := row.record.get("needs", {}).get("move"))}
    for key, row in reversed(rows.items()):
        budget = run.manifest(key).get("facts", {}).get("budget") if run.has_artifact(key) else None
        if isinstance(budget, Mapping):
            yield row, budget
