"""Progress of a run: a bar with the remaining time on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from countermove.game.cell import Task
from countermove.game.run import Done, Watcher


@contextmanager
def watching(todo: Sequence[Task], *, quiet: bool = False) -> Iterator[Watcher]:
    """Give a watcher for the tasks of a run."""
    if quiet or not todo:
        yield lambda *_: None
    elif sys.stderr.isatty():
        with _bar() as progress:
            bar = progress.add_task("", total=len(todo))

            def on_bar(event: str, task: Task, done: Done | None) -> None:
                progress.update(bar, description=task.label, advance=1 if event == "ended" else 0)
                if done is not None and done.status != "ok":
                    progress.console.print(f"{done.status}: {task.label}: {done.error}", markup=False, style="red")

            yield on_bar
    else:
        began, count = time.monotonic(), 0

        def on_line(event: str, task: Task, done: Done | None) -> None:
            nonlocal count
            if done is None:
                return
            count += 1
            left = (time.monotonic() - began) / count * (len(todo) - count)
            note = f"{done.seconds:.1f} s" if done.status == "ok" else f"{done.status}: {done.error}"
            typer.echo(f"[{count}/{len(todo)}, about {left:.0f} s left] {task.label}: {note}", err=True)

        yield on_line


def _bar() -> Progress:
    return Progress(
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
