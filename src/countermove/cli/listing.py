"""``countermove ls`` and ``countermove show``: what there is, read without importing it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from countermove.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from countermove.game.methods import Sheet

PLAIN_WIDTH = 200
WHAT = {"moves": "move", "countermoves": "countermove", "models": "model", "data": "data"}


def ls(
    what: Annotated[
        str | None, typer.Argument(help="arenas, moves, countermoves, models, data or studies; all by default.")
    ] = None,
    arena: Annotated[str | None, typer.Option(help="Only this arena.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List what can stand in an audit file."""
    known = ["arenas", *WHAT, "studies"]
    if what is not None and what not in known:
        raise ConfigError(f"cannot list {what!r}: {did_you_mean(what, known)}")
    rows = [row for name in ([what] if what else known) for row in _rows(name, arena)]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        _table(rows)


def show(
    name: Annotated[str, typer.Argument(help="A name that `ls` prints.")],
    arena: Annotated[str | None, typer.Option(help="Only this arena.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Print a method's data sheet."""
    sheets = _sheets(arena)
    found = [sheet for sheet in sheets if sheet.name == name.split("(", 1)[0]]
    if not found:
        raise ConfigError(f"there is no method {name!r}: {did_you_mean(name, {sheet.name for sheet in sheets})}")
    if as_json:
        typer.echo(json.dumps([{**sheet.listing(), "doc": sheet.doc} for sheet in found], indent=1))
        return
    for sheet in found:
        typer.echo(f"{sheet.name}  ({sheet.kind}, {sheet.arena})\n")
        typer.echo(sheet.doc)
        if sheet.fields:
            typer.echo("\nSettings")
        for field, kind, default in sheet.fields:
            typer.echo(f"    {field}: {kind} = {default}")
        typer.echo("")


def _rows(what: str, arena: str | None) -> list[dict[str, Any]]:
    if what == "arenas":
        return [_arena_row(name) for name in _arenas(arena)]
    if what == "studies":
        return _study_rows(arena)
    return [sheet.listing() for sheet in _sheets(arena) if sheet.kind == WHAT[what]]


def _arenas(arena: str | None) -> list[str]:
    from countermove.game.arena import arena_class, arena_targets

    if arena is not None:
        arena_class(arena)
        return [arena]
    return list(arena_targets())


def _sheets(arena: str | None) -> list[Sheet]:
    from countermove.game.arena import Rules, arena_class

    return [sheet for name in _arenas(arena) for sheet in arena_class(name)(Rules()).methods.sheets()]


def _arena_row(name: str) -> dict[str, Any]:
    from countermove.game.arena import arena_class

    summary = (arena_class(name).__doc__ or "").split("\n", 1)[0]
    return {"name": name, "kind": "arena", "arena": name, "paper": "", "summary": summary}


def _study_rows(arena: str | None) -> list[dict[str, Any]]:
    import tomllib

    from countermove.studies import studies

    rows = []
    for name, path in studies().items():
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        study = table.get("study", {})
        summary = study.get("title") or path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")
        row = {"name": name, "kind": "study", "arena": table["arena"], "paper": study.get("paper", "")}
        rows.append({**row, "summary": summary, "results": study.get("results", "")})
    return [row for row in rows if arena in {None, row["arena"]}]


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    heads = ["name", "kind", "arena", "summary", "paper"]
    heads += ["results"] if any(row.get("results") for row in rows) else []
    for head in heads:
        table.add_column(head, no_wrap=head in {"name", "results"})
    for row in rows:
        table.add_row(*(row.get(head, "") for head in heads))
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(table, markup=False)
