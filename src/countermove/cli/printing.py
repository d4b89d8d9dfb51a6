"""Printing reports on a terminal, or as plain text where there is none."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from countermove.report.source import Report
from countermove.report.text import compare_renderable, renderable

PLAIN_WIDTH = 100
WIDEST = 140


def print_reports(reports: Sequence[Report]) -> None:
    """Print one run's tables, or several runs side by side."""
    console = Console()
    width = min(console.width, WIDEST) if console.is_terminal else PLAIN_WIDTH
    console.width = width  # in a pipe it would be 80, and wider tables be cut there
    if len(reports) == 1:
        console.print(renderable(reports[0].results, reports[0].verdict, width=width), width=width)
    else:
        console.print(compare_renderable(reports, width=width), width=width)
