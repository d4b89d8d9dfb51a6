"""Runs of the toy arena that reports are made of."""

from __future__ import annotations

import pytest
from coin_runs import HOSTILE, played, rewrite

from countermove.game.store import RunFolder
from countermove.report.source import Report, read_report


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run in which everything went well."""
    return played(tmp_path_factory.mktemp("runs") / "well")


@pytest.fixture(scope="session")
def poor_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with two data sets, two models and two seeds, some of whose cells failed; a study; hostile texts in it."""
    study = {
        "title": f"A table {HOSTILE}",
        "paper": "Bernoulli 1713",
        "item": "Table 1",
        "size": "mini",
        "published": {"loaded": {"none": 0.19, "scale": 0.81}, "payoff": {"loaded": 0.9}, HOSTILE: {"none": 0.5}},
    }
    run = played(
        tmp_path_factory.mktemp("runs") / "poor",
        data=["purse(size=60)", "purse(part=0.5, size=80)"],
        models=["thumb", "machine"],
        seeds=[0, 1],
        training={"rounds": 1, "fail": "| blindfold"},
        study=study,
    )
    rewrite(run, {"error": HOSTILE, "traceback": f"Traceback\n{HOSTILE}"}, status="failed")
    rewrite(run, {"environment": {HOSTILE: HOSTILE}, "curves": {HOSTILE: [0.1, 0.2]}}, status="ok")
    return run


@pytest.fixture(scope="session")
def report(run: RunFolder) -> Report:
    """The good run, judged."""
    return read_report(run)


@pytest.fixture(scope="session")
def poor_report(poor_run: RunFolder) -> Report:
    """The poor run, judged."""
    return read_report(poor_run)
