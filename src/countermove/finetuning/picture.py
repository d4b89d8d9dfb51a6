"""A picture of closeness: one bar a layer on a logarithmic scale, chance as a mark. Plain SVG; needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, ROW, NAMES, TOP = 640, 18, 300, 26
LEAST = 1e-6


def layer_bars(rows: Sequence[tuple[str, float, float]], *, title: str) -> str:
    """Draw the angle of every layer, and where chance would put it.

    Args:
        rows: name, angle and angle by chance, in parts of a half turn; zero angles have no bar.
        title: what a reader of screens hears.
    """
    rows = [(name, _number(angle), _number(chance)) for name, angle, chance in rows]
    shown = [max(angle, LEAST) for _, angle, _ in rows if angle > 0] + [max(c, LEAST) for _, _, c in rows]
    low = math.floor(math.log10(min(shown, default=LEAST)))
    height = TOP + ROW * len(rows) + 6

    def x(value: float) -> float:
        share = (math.log10(max(value, LEAST)) - low) / max(1, -low)
        return round(NAMES + min(1.0, max(0.0, share)) * (WIDTH - NAMES - 16), 1)

    parts = []
    for power in range(low, 1):
        at = x(10.0**power)
        parts.append(f'<line x1="{at}" x2="{at}" y1="{TOP - 4}" y2="{height - 6}" stroke="#8886" stroke-width="1"/>')
        label = f"{10.0**power:g}"
        parts.append(f'<text x="{at}" y="{TOP - 9}" text-anchor="middle" fill="currentColor">{label}</text>')
    for i, (name, angle, chance) in enumerate(rows):
        y = TOP + ROW * i
        short = name if len(name) <= 44 else "…" + name[-43:]
        parts.append(f'<text x="{NAMES - 6}" y="{y + 12}" text-anchor="end" fill="currentColor">{escape(short)}</text>')
        if angle > 0:
            wide = round(x(angle) - NAMES, 1)
            tip = f"{escape(name)}: {angle:.6f}, by chance {chance:.3f}"
            parts.append(
                f'<rect x="{NAMES}" y="{y + 3}" width="{max(wide, 1)}" height="{ROW - 6}" fill="#2a6fb0">'
                f"<title>{tip}</title></rect>"
            )
        at = x(chance)
        parts.append(f'<line x1="{at}" x2="{at}" y1="{y + 1}" y2="{y + ROW - 1}" stroke="#c2410c" stroke-width="2"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="11" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _number(value: float) -> float:
    """Return a number that has a place; broken weights have none."""
    return 0.0 if math.isnan(value) else value
