"""``countermove audit``: play a grid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from countermove.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from countermove.game.config import AuditConfig
    from countermove.game.grid import Grid

NOMINAL_RATE = 2500.0
"""Samples a second of a small network on two cores; used for estimates before anything was measured."""


def audit(
    config: Annotated[str, typer.Argument(help="An audit file (TOML), or the name of a study: see `ls studies`.")],
    out: Annotated[Path | None, typer.Option(help="The run folder; runs/<name> by default.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Override an entry: training.epochs=3. Repeatable.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="A count or a list: 3, 0-2, 0,4,7.")] = None,
    size: Annotated[str | None, typer.Option(help="mini or paper, where the file has both.")] = None,
    engine: Annotated[str | None, typer.Option(help="local or ray.")] = None,
    workers: Annotated[int | None, typer.Option(help="Tasks at a time; threads are divided among them.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be played, and play nothing.")] = False,
    rehash: Annotated[bool, typer.Option("--rehash", help="Read all data again to make their keys.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Play a grid of moves against countermoves. The same command again plays only what is missing."""
    from countermove.game.config import load_config

    if size not in {None, "mini", "paper"}:
        raise ConfigError(f"--size {size!r} is refused: mini or paper")
    overrides = list(sets or [])
    overrides += [f"seeds={seeds}"] if seeds else []
    overrides += [f"engine.name='{engine}'"] if engine else []
    overrides += [f"engine.workers={workers}"] if workers else []
    loaded = load_config(find_audit(config), size=size, sets=overrides)  # pyright: ignore[reportArgumentType]
    out = out or Path("runs") / loaded.name
    if dry_run:
        preview(loaded, out, rehash=rehash, as_json=as_json)
    else:
        run_audit(loaded, out, rehash=rehash, as_json=as_json)


def run_audit(config: AuditConfig, out: Path, *, rehash: bool = False, as_json: bool = False) -> None:
    """Play a configuration, derive the tables and the page, and print the verdict. Exits with 3 on a failed cell."""
    from countermove.cli.printing import print_reports
    from countermove.cli.progress import watching
    from countermove.game.results import write_results
    from countermove.game.run import missing, play, resolve
    from countermove.game.store import RunFolder
    from countermove.report.page import write_page
    from countermove.report.source import read_report
    from countermove.report.tables import as_json as reports_json

    grid = resolve(config, out, rehash=rehash)
    todo = missing(grid, RunFolder(out))
    with watching(todo, quiet=as_json) as watch:
        summary = play(grid, out, watch)
    table, page = write_results(summary.run), write_page(summary.run)
    report = read_report(summary.run)
    if as_json:
        told = {"run": str(out), "page": str(page), "cells": summary.cells, "cached": summary.cached}
        unfinished = [vars(done) for done in summary.unfinished]
        typer.echo(json.dumps({**told, "unfinished": unfinished, **json.loads(reports_json([report]))}, indent=1))
    else:
        print_reports([report])
        for done in summary.unfinished:
            typer.echo(f"{done.status}: {done.key[:12]}  {done.error}", err=True)
        typer.echo(f"{summary.cells} cells, {summary.cached} of them cached; {len(summary.done)} tasks done now.")
        typer.echo(f"page   {page}\ntable  {table}")
    if summary.unfinished:
        raise typer.Exit(3)


def find_audit(name: str) -> Path:
    """Return the audit file that a path or a study's name stands for.

    Raises:
        ConfigError: when there is neither.
    """
    from countermove.studies import studies

    path = Path(name)
    known = studies()
    if path.is_file():
        return path
    if name in known:
        return known[name]
    if path.suffix == ".toml" or "/" in name:
        raise ConfigError(f"there is no audit file {name}")
    raise ConfigError(f"{name!r} is neither a file nor a study: {did_you_mean(name, known)}")


def preview(config: AuditConfig, out: Path, *, rehash: bool, as_json: bool) -> None:
    """Print the cells, what is cached and what the rest will cost."""
    from countermove.game.run import missing, resolve
    from countermove.game.store import RunFolder

    grid = resolve(config, out, rehash=rehash)
    todo = missing(grid, RunFolder(out))
    cells = [task for task in todo if task.setting is not None]
    seconds = estimate(grid, RunFolder(out))
    if as_json:
        rows = [{"key": t.key, "kind": t.kind, "label": t.label, "cached": t not in todo} for t in grid.tasks]
        typer.echo(json.dumps({"out": str(out), "tasks": rows, "seconds": seconds}, indent=1))
        return
    for task in grid.tasks:
        typer.echo(f"{'to do ' if task in todo else 'cached'}  {task.key[:12]}  {task.label}")
    done = len(grid.cells) - len(cells)
    typer.echo(f"{len(grid.cells)} cells, {done} cached; {len(todo) - len(cells)} artifacts to make; run folder {out}")
    typer.echo("about " + duration(seconds) + " of work, without crafting" if todo else "nothing to do")


def estimate(grid: Grid, run: Any) -> float:
    """Estimate the seconds that the missing cells will take, from this run's own speed where it has some."""
    from countermove.game.run import missing

    todo = [task for task in missing(grid, run) if task.setting is not None]
    done = [record["price"] for cell in grid.cells if (record := run.read_cell(cell.key)) and record["status"] == "ok"]
    seconds, samples = sum(p["seconds"] for p in done), sum(p["samples"] for p in done)
    rate = samples / seconds if seconds else NOMINAL_RATE
    return sum(grid.arena.samples(task) for task in todo) / rate / (grid.config.engine.workers or 1)


def duration(seconds: float) -> str:
    """Write seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
