"""``countermove view``: serve a run's page on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def view(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    port: Annotated[int, typer.Option(help="0 chooses a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open it in the browser.")] = True,
) -> None:
    """Serve the report on this machine only, until Ctrl-C."""
    from countermove.report.serve import serve

    def ready(address: str) -> None:
        typer.echo(f"{address}  (Ctrl-C ends)")

    serve(run, port=port, open_browser=browser, ready=ready)
