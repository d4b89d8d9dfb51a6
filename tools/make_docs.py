"""Write docs/methods.md: every method's data sheet, from the docstrings."""

from __future__ import annotations

from pathlib import Path

from countermove.game.arena import ARENAS, Rules, arena_class
from countermove.game.methods import Sheet

OUT = Path(__file__).parent.parent / "docs" / "methods.md"


def main() -> None:
    """Write the file."""
    OUT.write_text(render(), encoding="utf-8")


def render() -> str:
    """Return the page."""
    lines = ["# Methods", "", "Generated from the docstrings by `make docs`; `countermove show NAME` prints one.", ""]
    for arena in ARENAS:
        for sheet in arena_class(arena)(Rules()).methods.sheets():
            lines += _section(sheet)
    return "\n".join(lines)


def _section(sheet: Sheet) -> list[str]:
    settings = ", ".join(f"{name}={default}" for name, _, default in sheet.fields)
    head = f"## {sheet.name} ({sheet.kind}, {sheet.arena})"
    return [
        head,
        "",
        "```text",
        sheet.doc,
        "```",
        "",
        f"`{sheet.name}({settings})`" if settings else "No settings.",
        "",
    ]


if __name__ == "__main__":
    main()
