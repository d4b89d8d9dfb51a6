"""The study's published numbers beside ours, arranged as the paper does: moves down, countermoves across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from countermove.errors import ConfigError
from countermove.game.arena import Arena
from countermove.game.config import StudyConfig
from countermove.game.methods import KINDS, Kind
from countermove.game.results import Results
from countermove.game.verdict import Square, Verdict

PAYOFF = "payoff"


@dataclass(frozen=True)
class Published:
    """A published number and ours for the same square.

    row:       the names on the way to the number, without the countermove's: "EM", or "EM / RN-50".
    column:    the name of the countermove; empty where the names are on no axis.
    what:      which number it is: a metric of the arena, or "payoff".
    published: as it stands in the study.
    ours:      the mean over seeds; None where it was not played.
    square:    where ours comes from.
    """

    row: str
    column: str
    what: str
    published: str
    ours: float | None
    square: Square | None

    @property
    def name(self) -> str:
        """Return all names on the way to the number."""
        return self.row if self.column in {"", "none"} else f"{self.row} / {self.column}"


@dataclass(frozen=True)
class Line:
    """One row of a table: a move, on some data, with some model. cells: None where nothing was published."""

    name: str
    move: str
    data: str
    model: str
    cells: tuple[Published | None, ...]


@dataclass(frozen=True)
class Beside:
    """One kind of number, published and measured. columns: the name of each countermove and its spelling here."""

    what: str
    columns: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]


def beside(found: Sequence[Published]) -> list[Beside]:
    """Arrange the numbers that have a square: one table for each kind of number."""
    played = [(one, one.square) for one in found if one.square is not None]
    tables = []
    for what in dict.fromkeys(one.what for one, _ in played):
        here = [(one, square) for one, square in played if one.what == what]
        columns = tuple(dict.fromkeys((one.column, square.reply.countermove) for one, square in here))
        cells = {(_line(one, square), one.column): one for one, square in here}
        lines = tuple(
            Line(*line, cells=tuple(cells.get((line, column)) for column, _ in columns))
            for line in dict.fromkeys(line for line, _ in cells)
        )
        tables.append(Beside(what, columns, lines))
    return tables


def size_words(study: StudyConfig, results: Results) -> str:
    """Say at which size ours were measured: "size mini: cifar10-mini, small-cnn, 3 seeds"."""
    seeds = len(results.config.seeds)
    words = [*results.config.data, *results.config.models, f"{seeds} seed{'' if seeds == 1 else 's'}"]
    return (f"size {study.size}: " if study.size else "") + ", ".join(words)


def published(results: Results, verdict: Verdict) -> list[Published]:
    """Find ours for every published number of the study.

    ``study.published`` is a tree of tables whose leaves are numbers in the unit of the arena's metric. The names on
    the way to a leaf stand for entries of the axes (moves, countermoves, models, data, in any order): spelled as there,
    or in the paper's words, which ``study.names`` then spells. A missing countermove means none, a missing model or
    data set means every one. The name of another metric, or "payoff", on the way makes the leaf one of these. Numbers
    whose names are on no axis have no square.
    """
    study = results.config.study
    if study is None:
        return []
    metrics = {name for row in results.rows for name in row.metrics} | {PAYOFF}
    found = []
    for path, value in _leaves(study.published, ()):
        what = next((name for name in path if name in metrics), results.arena.metric)
        names = {name: study.names.get(name, name) for name in path if name not in metrics}
        chosen = _axes(results, names) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        column = "" if chosen is None else chosen.get("countermove", "none")
        row = " / ".join(name for name in names if name != column)
        for square in _squares(results, verdict, chosen, names) or [None]:
            ours = None if square is None else _ours(results, square, what)
            found.append(Published(row, column, what, str(value), ours, square))
    return found


def _axes(results: Results, names: Mapping[str, str]) -> dict[Kind, str] | None:
    """Give every name the axis on which its spelling stands; None where one stands on none, or none is a move."""
    chosen: dict[Kind, str] = {}
    for name, spelled in names.items():
        free: list[Kind] = [kind for kind in KINDS if kind not in chosen]
        fits: list[Kind] = [kind for kind in free if canonical(results.arena, kind, spelled) in results.axis(kind)]
        if not fits:
            return None
        chosen[fits[0]] = name
    return chosen if "move" in chosen else None


def _squares(
    results: Results, verdict: Verdict, chosen: Mapping[Kind, str] | None, names: Mapping[str, str]
) -> list[Square]:
    if chosen is None:
        return []
    wanted = {"countermove": "none"}
    wanted |= {kind: canonical(results.arena, kind, names[name]) for kind, name in chosen.items()}
    return [square for square in verdict.matrix if wanted.items() <= _place(square).items()]


def _place(square: Square) -> dict[str, str]:
    reply = square.reply
    return {"data": square.data, "move": square.move, "countermove": reply.countermove, "model": reply.model}


def _ours(results: Results, square: Square, what: str) -> float | None:
    if what == PAYOFF:
        return square.payoff.point if square.payoff else None
    if what == results.arena.metric:
        return square.metric
    place = _place(square)
    rows = [row for row in results.rows if row.ok and place.items() <= vars(row.setting).items()]
    values = [row.metrics[what] for row in rows if what in row.metrics]
    return fmean(values) if values else None


def _line(one: Published, square: Square) -> tuple[str, str, str, str]:
    return one.row, square.move, square.data, square.reply.model


def _leaves(tree: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(tree, Mapping):
        return [(path, tree)]
    return [leaf for name, branch in tree.items() for leaf in _leaves(branch, (*path, str(name)))]


def canonical(arena: Arena, kind: Kind, spelled: str) -> str:
    """Spell an entry of an axis as results do; what cannot be built stays as it stands."""
    try:
        return arena.methods.compose(kind, spelled).spelling
    except ConfigError:
        return spelled
