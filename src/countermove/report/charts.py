"""Charts as plain SVG: no library, no inline styles. Classes are coloured by page.css; every text is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from countermove.game.verdict import Estimate
from countermove.report.numbers import number

WIDTH, HEIGHT = 340, 230
LEFT, RIGHT, TOP, BOTTOM = 40, 14, 14, 40
LETTER = 6.1
"""Width of a letter of a label in the chart's units, for placing labels without measuring them."""


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A reply in the scatter: its price, the payoff that it leaves, and whether none is both cheaper and better."""

    x: float
    y: float
    low: float
    high: float
    label: str
    front: bool


@dataclass(frozen=True, kw_only=True)
class Line:
    """A series over epochs. look: "test", "train" or "clean", a class of the page's style sheet."""

    values: Sequence[float]
    look: str


@dataclass(frozen=True)
class _Frame:
    """Where numbers lie in the picture."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return round(LEFT + across * (right - LEFT), 1), round(bottom - up * (bottom - TOP), 1)


def scatter(dots: Sequence[Dot], *, x_label: str, y_label: str, description: str) -> Markup:
    """Draw payoff left against price, a whisker for each interval, a step line through the front."""
    frame = _Frame(
        _range([0.0, *(d.x for d in dots)], 0.08), _range([0.0, 1.0, *(b for d in dots for b in (d.low, d.high))], 0.05)
    )
    parts = [_axes(frame, x_label, y_label)]
    front = sorted((d for d in dots if d.front), key=lambda d: (d.x, -d.y))
    if len(front) > 1:
        path = "M" + " L".join(
            f"{frame.at(right.x, left.y)[0]},{frame.at(left.x, left.y)[1]} {_pair(frame, right.x, right.y)}"
            if i
            else _pair(frame, right.x, right.y)
            for i, (left, right) in enumerate(zip([front[0], *front], front, strict=False))
        )
        parts.append(f'<path class="front" d="{path}"/>')
    taken = [_box(*frame.at(d.x, d.y), 10, 10) for d in dots]
    for dot in sorted(dots, key=lambda d: not d.front):
        x, y = frame.at(dot.x, dot.y)
        _, top = frame.at(dot.x, dot.high)
        _, low = frame.at(dot.x, dot.low)
        look = "dot front-dot" if dot.front else "dot"
        parts.append(f'<line class="whisker" x1="{x}" x2="{x}" y1="{top}" y2="{low}"/>')
        tip = f"{dot.label}: {number(dot.y)} [{number(dot.low)}, {number(dot.high)}]"
        parts.append(f'<circle class="{look}" cx="{x}" cy="{y}" r="4.5"><title>{escape(tip)}</title></circle>')
        parts.append(_label(dot.label, x, y, taken))
    return _svg("".join(parts), description)


def curves(lines: Sequence[Line], *, y_range: tuple[float, float], x_label: str, y_label: str, desc: str) -> Markup:
    """Draw series over epochs, counted from 1."""
    longest = max((len(line.values) for line in lines), default=1)
    frame = _Frame((1, max(longest, 2)), y_range)
    parts = [_axes(frame, x_label, y_label, whole=True)]
    for line in lines:
        points = " ".join(_pair(frame, i + 1, value) for i, value in enumerate(line.values))
        if len(line.values) == 1:
            x, y = frame.at(1, line.values[0])
            parts.append(f'<circle class="dot {escape(line.look)}" cx="{x}" cy="{y}" r="3"/>')
        else:
            parts.append(f'<polyline class="curve {escape(line.look)}" points="{points}"/>')
    return _svg("".join(parts), desc)


def timeline(dates: Sequence[str], left: Sequence[Estimate | None], *, y_label: str, desc: str) -> Markup:
    """Draw what is left at each date, with its interval; nothing where it cannot be told."""
    told = [(i, estimate) for i, estimate in enumerate(left) if estimate is not None]
    bounds = [b for _, estimate in told for b in (estimate.low, estimate.high)]
    frame = _Frame((-0.5, max(1.0, len(dates) - 0.5)), _range([0.0, 1.0, *bounds], 0.05))
    parts = [_axes(frame, "trained", y_label, named=dates)]
    points = " ".join(_pair(frame, i, estimate.point) for i, estimate in told)
    parts.append(f'<polyline class="curve test" points="{points}"/>')
    for i, estimate in told:
        x, y = frame.at(i, estimate.point)
        (_, top), (_, low) = frame.at(i, estimate.high), frame.at(i, estimate.low)
        parts.append(f'<line class="whisker" x1="{x}" x2="{x}" y1="{top}" y2="{low}"/>')
        tip = f"{dates[i]}: {estimate.words}"
        parts.append(f'<circle class="dot front-dot" cx="{x}" cy="{y}" r="4.5"><title>{escape(tip)}</title></circle>')
    return _svg("".join(parts), desc)


def strip(naive: Estimate | None, value: Estimate | None) -> Markup:
    """Draw what a move had against no reply (ring), and what is left of it (dot with interval), on a line from 0 to 1.

    Decoration beside a table that holds the same numbers, so it is hidden from screen readers.
    """

    def x(payoff: float) -> float:
        return round(12 + (min(max(payoff, -0.1), 1.1) + 0.1) / 1.2 * 176, 1)

    parts = [f'<line class="strip-line" x1="{x(0)}" x2="{x(1)}" y1="14" y2="14"/>']
    parts += [f'<line class="strip-tick" x1="{x(v)}" x2="{x(v)}" y1="9" y2="19"/>' for v in (0, 0.5, 1)]
    if naive is not None and value is not None:
        parts.append(f'<line class="strip-fall" x1="{x(naive.point)}" x2="{x(value.point)}" y1="14" y2="14"/>')
    if value is not None:
        parts.append(f'<line class="strip-range" x1="{x(value.low)}" x2="{x(value.high)}" y1="14" y2="14"/>')
    if naive is not None:
        parts.append(f'<circle class="strip-naive" cx="{x(naive.point)}" cy="14" r="5"/>')
    if value is not None:
        parts.append(f'<circle class="strip-value" cx="{x(value.point)}" cy="14" r="5.5"/>')
    return Markup(f'<svg class="strip" viewBox="0 0 200 28" aria-hidden="true">{"".join(parts)}</svg>')  # noqa: S704


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return three to six round numbers in [low, high]."""
    raw = (high - low) / 4
    if raw <= 0:  # also a distance that is too small to be divided
        return [low]
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _axes(frame: _Frame, x_label: str, y_label: str, *, whole: bool = False, named: Sequence[str] | None = None) -> str:
    """Draw both axes; named: words at 0, 1, 2 ... in the place of numbers."""
    parts = []
    for value in ticks(*frame.y):
        x, y = frame.at(frame.x[0], value)
        look = "zero" if value in (0, 1) else "grid"
        parts.append(f'<line class="{look}" x1="{x}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{x - 6}" y="{y + 4}" text-anchor="end">{_tick(value)}</text>')
    marks = [(i, str(escape(name))) for i, name in enumerate(named or ())]
    for value, word in marks or [(value, _tick(value)) for value in ticks(*frame.x, whole=whole)]:
        x, y = frame.at(value, frame.y[0])
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{y}" y2="{y + 4}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{y + 16}" text-anchor="middle">{word}</text>')
    parts.append(f'<text class="name" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_label)}</text>')
    if y_label:
        parts.append(f'<text class="name" x="{LEFT}" y="{TOP - 3}">{escape(y_label)}</text>')
    return "".join(parts)


def _label(text: str, x: float, y: float, taken: list[tuple[float, float, float, float]]) -> str:
    """Place a label beside its dot where nothing stands yet; leave it out where there is no room."""
    short = text if len(text) <= 26 else text[:25] + "…"
    width = len(short) * LETTER
    for dx, dy, anchor in ((8, 4, "start"), (-8, 4, "end"), (0, -9, "middle"), (0, 17, "middle")):
        left = x + dx - {"start": 0, "end": width, "middle": width / 2}[anchor]
        box = (left, y + dy - 10, left + width, y + dy + 2)
        inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
        own = _box(x, y, 10, 10)
        if inside and not any(_touch(box, other) for other in taken if other != own):
            taken.append(box)
            return f'<text class="label" x="{x + dx}" y="{y + dy}" text-anchor="{anchor}">{escape(short)}</text>'
    return ""


def _box(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _touch(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _range(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    spare = (high - low or 1.0) * margin
    return low - (spare if low < 0 or margin > 0.06 else spare / 2), high + spare


def _pair(frame: _Frame, x: float, y: float) -> str:
    return "{},{}".format(*frame.at(x, y))


def _tick(value: float) -> str:
    if abs(value) >= 1000:
        for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= size:
                return f"{value / size:g}{unit}"
    return f"{value:g}"


def _svg(inner: str, description: str) -> Markup:
    # All text inside was escaped where it was put in.
    return Markup(  # noqa: S704
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">{inner}</svg>'
    )
