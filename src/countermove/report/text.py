"""The verdict in a terminal, made for 80 to 120 columns."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from countermove.game.cheapest import cheapest_breaking
from countermove.game.ledger import moments
from countermove.game.results import Results
from countermove.game.verdict import MoveVerdict, Square, Verdict
from countermove.report.names import Names
from countermove.report.numbers import amount_words, interval, number, point, price_words, reply_words
from countermove.report.published import Beside, beside, published, size_words
from countermove.report.source import Report

NAME_WIDTH, SQUARE_WIDTH = 22, 15
STATES = {
    "holds": "bold red",
    "weakened": "yellow",
    "broken": "green",
    "did not work": "dim",
    "inconclusive": "magenta",
}


def text(results: Results, verdict: Verdict, *, width: int = 100, color: bool = False) -> str:
    """Return the matrix, the verdict rows and the flags as text of at most `width` columns."""
    return _printed(renderable(results, verdict, width=width), width, color)


def compare_text(reports: Sequence[Report], *, width: int = 100, color: bool = False) -> str:
    """Return the values of several runs side by side as text of at most `width` columns."""
    return _printed(compare_renderable(reports, width=width), width, color)


def renderable(results: Results, verdict: Verdict, *, width: int = 100) -> RenderableType:
    """Return what `text` shows, for a rich console that is at least `width` columns wide."""
    parts: list[RenderableType] = []
    names = Names.of(results)
    for data in results.axis("data"):
        for model in results.axis("model"):
            parts += _matrix(results, verdict, data, model, names, width)
    parts += [_verdict(results, verdict, data, names, width) for data in results.axis("data")]
    parts += _cheapest(results, verdict, names, width)
    parts += _over_time(results, names, width)
    parts += _published(results, verdict, width)
    if verdict.flags:
        parts.append(_flags(verdict, names))
    return Group(*parts)


def compare_renderable(reports: Sequence[Report], *, width: int = 100) -> RenderableType:
    """Return what `compare_text` shows."""
    table = Table(box=box.SIMPLE_HEAD, title="What is left of each move", title_justify="left", title_style="bold")
    table.add_column("move", ratio=1)
    for report in reports:
        table.add_column(Text(report.name), ratio=1)
    verdicts = [{(move.data, move.move): move for move in report.verdict.moves} for report in reports]
    several = len({data for verdict in verdicts for data, _ in verdict}) > 1
    column = max(12, (width - 2) // (len(reports) + 1) - 2)
    for data, move in dict.fromkeys(key for verdict in verdicts for key in verdict):
        name = fit(move, column) + (fit(f"\non {data}", column) if several else "")
        table.add_row(Text(name), *(_compared(verdict.get((data, move)), column) for verdict in verdicts))
    return table


def fit(name: str, width: int) -> str:
    """Break a long spelling between its parts, so that no line is wider than `width`; a longer part is folded."""
    lines = [""]
    for part in re.split(r"(?=\+|\()|(?<=, )|(?<= )", name):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
        while len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return "\n".join(line.rstrip() for line in lines)


def _printed(what: RenderableType, width: int, color: bool) -> str:
    buffer = io.StringIO()
    system = "standard" if color else None
    console = Console(file=buffer, width=width, color_system=system, force_terminal=color, legacy_windows=False)
    console.print(what)
    return re.sub(r"[ \t]+$", "", buffer.getvalue(), flags=re.MULTILINE)


def _matrix(
    results: Results, verdict: Verdict, data: str, model: str, names: Names, width: int
) -> Iterator[RenderableType]:
    squares = {(s.move, s.reply): s for s in verdict.matrix if s.data == data and s.reply.model == model}
    if not squares:
        return
    replies = list(dict.fromkeys(reply for _, reply in squares))
    best = {(m.move, m.reply) for m in verdict.moves if m.data == data and m.value is not None}
    metric = results.arena.metric.replace("_", " ")
    yield Text(f"{names.words(data)}, {names.words(model)}", style="bold")
    yield Text(f"Left of each move (payoff, 95 % interval, {metric}); < marks the best reply", style="dim")
    room = max(1, (width - NAME_WIDTH - 3) // SQUARE_WIDTH)
    for start in range(0, len(replies), room):
        some = replies[start : start + room]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("move", width=NAME_WIDTH)
        for reply in some:
            head = Text(fit(names.words(reply.countermove), SQUARE_WIDTH - 1))
            if not any(s.eligible for s in squares.values() if s.reply == reply):
                head.append("\n(not counted)", style="dim")
            table.add_column(head, width=SQUARE_WIDTH - 1)
        for move in results.axis("move"):
            cells = [_square(squares.get((move, reply)), (move, reply) in best, metric) for reply in some]
            table.add_row(Text(fit(names.words(move), NAME_WIDTH)), *cells)
        yield table


def _square(square: Square | None, best: bool, metric: str) -> Text:
    if square is None:
        return Text("-", style="dim")
    short = metric.replace("accuracy", "acc")
    if square.payoff is None:
        return Text(f"{short} {number(square.metric)}", style="dim")
    cell = Text(point(square.payoff) + (" <" if best else ""), style="bold" if best else "")
    cell.append(f"\n{interval(square.payoff)}\n{short} {number(square.metric)}", style="dim")
    return cell


def _verdict(results: Results, verdict: Verdict, data: str, names: Names, width: int) -> Table:
    title = "Verdict" if len(results.axis("data")) == 1 else f"Verdict on {names.words(data)}"
    table = Table(
        box=box.SIMPLE_HEAD, title=Text(title), title_justify="left", title_style="bold", padding=(0, 1, 0, 0)
    )
    table.pad_edge = False
    name = max(16, (width - 40) // 3)
    table.add_column("move", width=name)
    table.add_column("left", width=SQUARE_WIDTH - 1)
    table.add_column("best reply", width=name)
    table.add_column("its price", min_width=16, ratio=1)
    models = len(results.axis("model"))
    for move in (move for move in verdict.moves if move.data == data):
        left = Text(move.state, style=STATES[move.state])
        if move.value:
            left.append(f"\n{point(move.value)}", style="bold").append(
                f"\n{interval(move.value)}", style="not bold dim"
            )
        price = price_words(move.price, results.arena.metric) if move.reply else []
        reply = Text(fit(names.words(reply_words(move.reply, models)), name))
        if move.blind is not None and move.blind_reply != move.reply:
            blind = (
                f"blindly: {reply_words(move.blind_reply, models)}, leaves {point(move.blind)} {interval(move.blind)}"
            )
            reply.append("\n" + fit(names.words(blind), name), style="dim")
        table.add_row(Text(fit(names.words(move.move), name)), left, reply, Text("\n".join(price) or "-"))
    return table


def _cheapest(results: Results, verdict: Verdict, names: Names, width: int) -> Iterator[RenderableType]:
    found = cheapest_breaking(verdict, results.arena.yardstick)
    models, name = len(results.axis("model")), max(16, (width - 46) // 2)
    for data in dict.fromkeys(one.data for one in found):
        on = "" if len(results.axis("data")) == 1 else f" on {names.words(data)}"
        title = Text(f"The cheapest reply that still breaks a move{on}")
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", padding=(0, 1, 0, 0))
        table.pad_edge = False
        table.add_column("move", width=name)
        table.add_column("cheapest in", width=18)
        table.add_column("reply", width=name)
        table.add_column("its price", min_width=12)
        table.add_column("leaves", width=6)
        mine = [one for one in found if one.data == data]
        for i, one in enumerate(mine):
            first = i == 0 or mine[i - 1].move != one.move
            table.add_row(
                Text(fit(names.words(one.move), name) if first else ""),
                one.price.replace("_", " "),
                Text(fit(names.words(reply_words(one.reply, models)), name)),
                amount_words(one.price, one.amount),
                point(one.payoff),
            )
        yield table


def _over_time(results: Results, names: Names, width: int) -> Iterator[RenderableType]:
    found = moments(results)
    for data in dict.fromkeys(moment.data for moment in found):
        mine = [moment for moment in found if moment.data == data]
        dates = list(dict.fromkeys(moment.trained for moment in mine))
        title = f"Left over time: {names.words(data)}"
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
        name = max(16, width - 14 - 10 * len(dates))
        table.add_column("published", min_width=9)
        table.add_column("move", width=name)
        for date in dates:
            table.add_column(f"trained\n{date}", min_width=max(7, len(date)))
        left = {(moment.move, moment.trained): moment.left for moment in mine}
        for out, move in dict.fromkeys((moment.published, moment.move) for moment in mine):
            told = [left.get((move, date)) for date in dates]
            cells = ["-" if one is None else point(one) for one in told]
            table.add_row(out, Text(fit(names.words(move), name)), *cells)
        yield table


def _published(results: Results, verdict: Verdict, width: int) -> Iterator[RenderableType]:
    tables = beside(published(results, verdict))
    if results.config.study is None or not tables:
        return
    yield Text("Published beside measured", style="bold")
    yield Text(f"published / ours; ours: {size_words(results.config.study, results)}", style="dim")
    for table in tables:
        yield from _beside(table, results, width)


def _beside(beside: Beside, results: Results, width: int) -> Iterator[RenderableType]:
    """Set one kind of number out, as many countermoves side by side as there is room for."""
    axes = [axis for axis in ("data", "model") if len(results.axis(axis)) > 1]
    room = max(1, (width - NAME_WIDTH - 3) // SQUARE_WIDTH)
    for start in range(0, len(beside.columns), room):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(Text(fit(beside.what.replace("_", " "), NAME_WIDTH)), width=NAME_WIDTH)
        for name, _ in beside.columns[start : start + room]:
            table.add_column(Text(fit(name, SQUARE_WIDTH - 1)), width=SQUARE_WIDTH - 1)
        for line in beside.lines:
            head = Text(fit(line.name, NAME_WIDTH))
            for axis in axes:
                head.append("\n" + fit(getattr(line, axis), NAME_WIDTH), style="dim")
            cells = line.cells[start : start + room]
            table.add_row(head, *(Text(f"{one.published} / {number(one.ours, 3)}" if one else "") for one in cells))
        yield table


def _flags(verdict: Verdict, names: Names) -> RenderableType:
    lines: list[RenderableType] = [Text("Flags", style="bold")]
    for flag in verdict.flags:
        code = f"{flag.code} (inconclusive)" if flag.fatal else flag.code
        line = Text(code, style="bold magenta" if flag.fatal else "bold")
        lines.append(Padding(line.append(f": {names.words(flag.text)}", style="not bold default"), (0, 0, 0, 2)))
    return Group(*lines)


def _compared(move: MoveVerdict | None, width: int) -> Text:
    if move is None:
        return Text("not played", style="dim")
    cell = Text(move.state, style=STATES[move.state])
    if move.value is not None and move.reply is not None:
        cell.append(f"\n{point(move.value)} {interval(move.value)}", style="not dim default")
        cell.append("\n" + fit(f"against {move.reply.countermove}", width), style="dim")
    return cell
