"""``countermove report``: the tables and the page of one run, or of several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from countermove.errors import ConfigError, did_you_mean

FORMATS = ("text", "csv", "json", "html")


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    form: Annotated[str, typer.Option("--format", help="text, csv, json or html.")] = "text",
    out: Annotated[Path | None, typer.Option(help="Where the page goes; report.html in the (first) run.")] = None,
) -> None:
    """Derive the tables and the page again. Nothing is played."""
    if form not in FORMATS:
        raise ConfigError(f"--format {form!r} is refused: {did_you_mean(form, FORMATS)}")
    from countermove.cli.printing import print_reports
    from countermove.game.results import results_csv, write_results
    from countermove.report.page import write_comparison, write_page
    from countermove.report.source import read_reports
    from countermove.report.tables import as_csv, as_json, compare

    reports = read_reports(runs)
    if form == "text":
        print_reports(reports)
    elif form == "json":
        typer.echo(as_json(reports), nl=False)
    elif form == "csv":
        only = reports[0] if len(reports) == 1 else None
        typer.echo(results_csv(only.results) if only else as_csv(compare(reports)), nl=False)
    else:
        for entry in reports:
            write_results(entry.run)
            write_page(entry.run)
        first = reports[0].run.path
        typer.echo(
            first / "report.html" if len(reports) == 1 else write_comparison(reports, out or first / "comparison.html")
        )
