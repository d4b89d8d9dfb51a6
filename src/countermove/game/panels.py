"""What arenas share when they draw their parts of the page: tables, and panels that may not be there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

from countermove.errors import CountermoveError
from countermove.game.arena import Panel


def guarded(title: str, make: Callable[[], Iterable[Panel]]) -> list[Panel]:
    """Return panels, or one that says why they are not there: data and weights may be gone when a page is rebuilt."""
    try:
        return list(make())
    except (CountermoveError, OSError) as error:
        return [Panel(title=title, html="", summary=f"Not shown: {error}")]


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table of texts, the first of each line its name."""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(line[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in line[1:])
        + "</tr>"
        for line in lines
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
