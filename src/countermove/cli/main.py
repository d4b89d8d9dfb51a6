"""The ``countermove`` command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from countermove import __version__
from countermove.cli import audit, demo, listing, protect, report, view, weights
from countermove.errors import CountermoveError

app = typer.Typer(
    name="countermove",
    help="Change data before you publish it, let the other side reply, measure what is left.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"countermove {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Change data before you publish it, let the other side reply, measure what is left."""


app.command("demo")(demo.demo)
app.command("audit")(audit.audit)
app.command("protect", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(protect.protect)
app.command("report")(report.report)
app.command("view")(view.view)
app.command("ls")(listing.ls)
app.command("show")(listing.show)
app.add_typer(weights.app, name="weights", no_args_is_help=True)


def main() -> None:
    """Run the command line: 0 when what was asked was done, 2 for a bad call, 3 for a failed cell, 130 for Ctrl-C."""
    try:
        app()
    except CountermoveError as error:
        typer.echo(f"countermove: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from here", err=True)
        sys.exit(130)
