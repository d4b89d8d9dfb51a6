"""What the reports' tests share: how a toy run is played or spoilt, and a reader of HTML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from countermove.game.config import make_config
from countermove.game.run import play, resolve
from countermove.game.store import RunFolder

HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&"

AUDIT = {
    "name": "coins",
    "arena": "coin",
    "data": ["purse(size=60)"],
    "moves": ["loaded", "shaved(angle=80)", "loaded+shaved"],
    "countermoves": ["shake", "scale", "blindfold", "shake+scale(grams=3)"],
    "models": ["thumb"],
    "seeds": [0, 1, 2],
    "training": {"rounds": 14},
    "engine": {"threads": 1},
}


def played(out: Path, **changes: Any) -> RunFolder:
    """Play the toy audit with some of its entries changed."""
    return play(resolve(make_config({**AUDIT, **changes})), out).run


def rewrite(run: RunFolder, changes: Mapping[str, Any], *, status: str) -> str:
    """Change entries of the first cell's record that ended like this; return its key."""
    record = next(r for r in run.records() if r["status"] == status)
    (run.cells / f"{record['key']}.json").write_text(json.dumps({**record, **changes}), encoding="utf-8")
    return record["key"]


class Page(HTMLParser):
    """A page taken apart: elements with their attributes, the text of each, and the rows of its tables."""

    VOID = frozenset(("meta", "link", "img", "input", "br", "hr", "wbr"))

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self._open: list[str] = []
        self._table = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.elements.append((tag, values))
        if tag in self.VOID:
            return
        self._open.append(tag)
        self.texts.setdefault(tag, []).append("")
        if tag == "table":
            self._table = values.get("id") or f"table-{len(self.tables)}"
            self.tables[self._table] = []
        if tag == "tr":
            self.tables[self._table].append([])
        if tag in {"td", "th"}:
            self.tables[self._table][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data
        if {"td", "th"} & set(self._open):
            self.tables[self._table][-1][-1] += data

    @property
    def left_open(self) -> list[str]:
        """Elements that were never closed."""
        return self._open

    def attributes(self) -> Iterator[tuple[str, str, str]]:
        """Every attribute of every element."""
        return ((tag, name, value or "") for tag, attrs in self.elements for name, value in attrs.items())
