"""Drawing made-up scenes. Legend: n views of one scene; a Field is [n, S, S] or [n, 1, 1].

u runs to the right and v downwards in the scene, x and y in a view of it, in half sides of an unmoved view.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SHAPES = 16
SHAPE: dict[str, tuple[float, float]] = {
    "u": (-1.1, 1.1),
    "v": (-1.1, 1.1),
    "size": (0.12, 0.5),
    "aspect": (0.4, 1.0),
    "turn": (0, np.pi),
    "round": (0, 1),
    "pattern": (0, 4),
    "cycles": (1.5, 5),
    "paper": (0, 1),
    "ink": (0, 1),
    "shade": (0.6, 1.2),
}
"""What a shape of a scene has, each drawn evenly from its range; all scenes share one scale of colours."""

LUCK: dict[str, tuple[float, float]] = {
    "right": (-1, 1),
    "down": (-1, 1),
    "roll": (-1, 1),
    "scale": (-1, 1),
    "gain": (0.7, 1.2),
    "slope": (0, 0.3),
    "from": (0, 2 * np.pi),
    "warmth": (-0.06, 0.06),
}
"""What differs from view to view: place, turn and size, by shares of the settings, and light."""

COLOURS = np.array(
    [
        (0.82, 0.80, 0.74),
        (0.72, 0.33, 0.26),
        (0.85, 0.66, 0.32),
        (0.36, 0.52, 0.30),
        (0.30, 0.45, 0.66),
        (0.24, 0.22, 0.26),
    ]
)

Field = np.ndarray


def views(scene: np.ndarray, ground: np.ndarray, luck: Mapping[str, Field], side: int) -> np.ndarray:
    """Draw n views of a scene: float [n, side, side, 3], about in 0..1.

    scene:  [SHAPES, len(SHAPE)], numbers of its shapes in the order of SHAPE.
    ground: six shares in 0..1: two colours, a frequency, a direction, a strength and a phase of the ground's waves.
    luck:   [n, 1, 1] for right, down, roll, log scale, and the rest of LUCK.
    """
    steps = (np.arange(side) + 0.5) / side * 2 - 1
    y, x = np.meshgrid(steps, steps, indexing="ij")
    x, y = x * luck["scale"], y * luck["scale"]
    cos, sin = np.cos(luck["roll"]), np.sin(luck["roll"])
    u, v = cos * x - sin * y + luck["right"], sin * x + cos * y + luck["down"]
    soft = 2 / side * luck["scale"]
    waves = np.sin(
        (2 + 5 * ground[2]) * (np.cos(np.pi * ground[3]) * u + np.sin(np.pi * ground[3]) * v) + 6 * ground[5]
    )
    share = (0.5 + (0.2 + 0.3 * ground[4]) * waves)[..., None]
    picture = share * _colour(ground[0]) + (1 - share) * _colour(ground[1])
    for numbers in scene:
        _paint(picture, dict(zip(SHAPE, numbers, strict=True)), u, v, soft)
    toward = np.cos(luck["from"]) * x + np.sin(luck["from"]) * y
    light = luck["gain"] * (1 + luck["slope"] * toward)
    return picture * light[..., None] * (1 + luck["warmth"][..., None] * np.array([1.0, 0.0, -1.0]))


def _paint(picture: np.ndarray, shape: Mapping[str, float], u: Field, v: Field, soft: Field) -> None:
    """Paint one shape; its outline and its pattern are soft over a pixel of the view."""
    a, b = shape["size"], shape["size"] * shape["aspect"]
    cos, sin = np.cos(shape["turn"]), np.sin(shape["turn"])
    s = cos * (u - shape["u"]) + sin * (v - shape["v"])
    t = cos * (v - shape["v"]) - sin * (u - shape["u"])
    if shape["round"] < 0.5:
        outline = (np.sqrt((s / a) ** 2 + (t / b) ** 2) - 1) * b
    else:
        outline = np.maximum(np.abs(s) - a, np.abs(t) - b)
    cover = 0.5 - outline / soft
    there = np.nonzero(cover > 0)
    if not len(there[0]):
        return
    s, t, soft = s[there], t[there], soft[there[0], 0, 0]
    wave = np.pi * shape["cycles"] / b
    ink = (0.5 + _pattern(int(shape["pattern"]), wave * s, wave * t) / (wave * soft)).clip(0, 1)[:, None]
    colour = shape["shade"] * (ink * _colour(shape["ink"]) + (1 - ink) * _colour(shape["paper"]))
    picture[there] += cover[there].clip(0, 1)[:, None] * (colour - picture[there])


def _pattern(kind: int, s: Field, t: Field) -> Field:
    """Return waves: none, stripes, a checkerboard, rings."""
    if kind == 0:
        return np.ones_like(s)
    if kind == 3:
        return np.sin(np.hypot(s, t))
    return np.sin(s) * (np.sin(t) if kind == 2 else 1.0)


def _colour(place: float) -> np.ndarray:
    """Return the colour at a place in 0..1 on the scale."""
    stops = np.linspace(0, 1, len(COLOURS))
    return np.array([np.interp(place, stops, COLOURS[:, channel]) for channel in range(3)])
