"""Drawing made-up faces. Legend: n photos of one person; a Field is [n, S, S] or [n, 1, 1].

u runs to the right and v downwards from the middle of the face, in half sides of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

LOOKS: dict[str, tuple[float, float]] = {
    "skin": (0, 1),
    "hair": (0, 1),
    "iris": (0, 1),
    "width": (0.44, 0.6),
    "jaw": (0, 0.45),
    "chin": (0.62, 0.8),
    "volume": (0.03, 0.2),
    "length": (-0.3, 0.9),
    "fringe": (-0.55, -0.3),
    "parting": (-0.5, 0.5),
    "eye_gap": (0.19, 0.27),
    "eye_size": (0.08, 0.13),
    "brow": (0.02, 0.06),
    "brow_height": (0.12, 0.19),
    "brow_tilt": (-0.3, 0.3),
    "nose": (0.16, 0.3),
    "nose_width": (0.05, 0.12),
    "mouth": (0.13, 0.26),
    "lips": (0.03, 0.07),
    "redness": (0, 1),
    "beard": (-0.8, 0.8),
}
"""What makes a person, each drawn evenly from its range: places on colour scales, lengths, slopes, strengths."""

LUCK: dict[str, tuple[float, float]] = {
    "right": (-0.12, 0.12),
    "down": (-0.12, 0.12),
    "roll": (-0.12, 0.12),
    "scale": (0.93, 1.07),
    "yaw": (-0.1, 0.1),
    "smile": (-0.5, 1.0),
    "open": (-0.05, 0.07),
    "squint": (0.5, 1),
    "lift": (-0.02, 0.03),
    "gain": (0.75, 1.15),
    "slope": (0, 0.35),
    "from": (0, 2 * np.pi),
    "warmth": (-0.06, 0.06),
    "paper": (0, 1),
    "paper_shade": (0.3, 1.2),
    "shirt": (0, 1),
    "shirt_shade": (0.2, 1.2),
}
"""What differs from photo to photo: pose, expression, light, background and shirt."""

SKINS = ((0.30, 0.19, 0.14), (0.55, 0.36, 0.26), (0.79, 0.57, 0.43), (0.95, 0.79, 0.69))
HAIRS = ((0.07, 0.06, 0.06), (0.30, 0.17, 0.09), (0.58, 0.25, 0.10), (0.85, 0.68, 0.38), (0.78, 0.78, 0.78))
IRISES = ((0.16, 0.09, 0.05), (0.30, 0.42, 0.18), (0.25, 0.45, 0.70))
HUES = ((0.75, 0.30, 0.28), (0.75, 0.68, 0.35), (0.32, 0.62, 0.38), (0.30, 0.50, 0.75), (0.60, 0.38, 0.66))
WHITE, DARK, RED = np.array([0.93, 0.92, 0.90]), np.array([0.10, 0.05, 0.05]), np.array([0.72, 0.22, 0.24])

Field = np.ndarray
Drawn = Mapping[str, Field]


def portraits(look: Mapping[str, float], luck: Drawn, side: int) -> np.ndarray:
    """Draw n photos of a person: float [n, side, side, 3], about in 0..1.

    look: a number for each of LOOKS.
    luck: numbers [n, 1, 1] for each of LUCK.
    """
    y, x = np.meshgrid(*[np.linspace(-1, 1, side)] * 2, indexing="ij")
    x, y = (x - luck["right"]) / luck["scale"], (y - luck["down"]) / luck["scale"]
    u = np.cos(luck["roll"]) * x + np.sin(luck["roll"]) * y
    v = np.cos(luck["roll"]) * y - np.sin(luck["roll"]) * x
    canvas = _Canvas(_on(HUES, luck["paper"]) * luck["paper_shade"][..., None], u.shape, 2 / side)
    _head(canvas, look, luck, u, v)
    # Turning the head moves what is in the middle of the face further than its outline.
    _features(canvas, look, luck, u + luck["yaw"] * (1 - (u / look["width"]) ** 2).clip(0, 1), v)
    toward = np.cos(luck["from"]) * u + np.sin(luck["from"]) * v
    light = luck["gain"] * (1 + luck["slope"] * toward)
    return canvas.pixels * light[..., None] * (1 + luck["warmth"][..., None] * np.array([1.0, 0.0, -1.0]))


class _Canvas:
    def __init__(self, paper: np.ndarray, shape: Sequence[int], soft: float) -> None:
        self.pixels = np.broadcast_to(paper, (*shape, 3)).copy()
        self.soft = soft

    def paint(self, distance: Field, colour: np.ndarray, strength: Field | float = 1.0) -> None:
        """Paint where the distance to an outline is negative; the edge is one pixel wide."""
        cover = (0.5 - distance / self.soft).clip(0, 1) * strength
        self.pixels += cover[..., None] * (colour - self.pixels)


def _head(canvas: _Canvas, look: Mapping[str, float], luck: Drawn, u: Field, v: Field) -> None:
    skin, hair = _on(SKINS, look["skin"]), _on(HAIRS, look["hair"])
    width, chin, top, outer = look["width"], look["chin"], 0.72, look["width"] + look["volume"]
    canvas.paint(_ellipse(u, v, outer, top + look["volume"]), hair)
    canvas.paint(_box(u, v, outer, -0.1, look["length"]), hair)
    canvas.paint(_ellipse(u, v - 1.2, 0.85, 0.42), _on(HUES, luck["shirt"]) * luck["shirt_shade"][..., None])
    canvas.paint(_box(u, v, 0.5 * width, 0, 0.92), 0.78 * skin)
    narrowing = 1 - look["jaw"] * (v / chin).clip(0, 1) ** 2
    face = _ellipse(u / narrowing, v, width, np.where(v > 0, chin, top))
    canvas.paint(face, skin)
    canvas.paint(np.maximum(face, 0.28 + 0.5 * (0.9 * width - np.abs(u)).clip(0, 0.2) - v), hair, max(0, look["beard"]))
    canvas.paint(np.maximum(face - canvas.soft, v - look["fringe"] - look["parting"] * u), hair)


def _features(canvas: _Canvas, look: Mapping[str, float], luck: Drawn, u: Field, v: Field) -> None:
    skin, hair, iris = _on(SKINS, look["skin"]), _on(HAIRS, look["hair"]), _on(IRISES, look["iris"])
    size, height = look["eye_size"], -0.12
    for sign in (-1, 1):
        s, t = u - sign * look["eye_gap"], v - height
        lids = _ellipse(s, t, 1.25 * size, 0.75 * size * luck["squint"])
        canvas.paint(lids, WHITE)
        canvas.paint(np.maximum(lids, np.hypot(s, t) - 0.6 * size), iris)
        canvas.paint(np.maximum(lids, np.hypot(s, t) - 0.28 * size), DARK)
        brow = t + look["brow_height"] + luck["lift"] - sign * look["brow_tilt"] * s + 1.2 * s**2
        canvas.paint(np.maximum(np.abs(brow) - look["brow"], np.abs(s) - 1.5 * size), 0.75 * hair)
    tip = height + look["nose"]
    canvas.paint(_box(u, v, 0.35 * look["nose_width"], height + 0.05, tip), 1.12 * skin)
    canvas.paint(_ellipse(u, v - tip, look["nose_width"], 0.035), 0.62 * skin)
    level = v - (tip + look["chin"]) / 2 + 0.06 + luck["smile"] * (u**2 - 0.015)
    lips = _ellipse(u, level, look["mouth"], look["lips"] + luck["open"].clip(0))
    canvas.paint(lips, (1 - 0.35 * (1 + look["redness"])) * skin + 0.35 * (1 + look["redness"]) * RED)
    canvas.paint(_ellipse(u, level, 0.8 * look["mouth"], 0.012 + luck["open"].clip(0)), DARK)


def _ellipse(u: Field, v: Field, a: Field | float, b: Field | float) -> Field:
    """Return about the distance to an ellipse with these half axes, negative inside."""
    return (np.sqrt((u / a) ** 2 + (v / b) ** 2) - 1) * np.minimum(a, b)


def _box(u: Field, v: Field, width: float, top: float, bottom: float) -> Field:
    """Return about the distance to |u| < width, top < v < bottom, negative inside."""
    return np.maximum(np.abs(u) - width, np.maximum(top - v, v - bottom))


def _on(scale: Sequence[Sequence[float]], place: Field | float) -> np.ndarray:
    """Return the colours at places in 0..1 on a scale of colours."""
    known = np.array(scale)
    stops = np.linspace(0, 1, len(known))
    return np.stack([np.interp(place, stops, known[:, channel]) for channel in range(3)], axis=-1)
