"""CEDD and GIST once more, pixel by pixel, written from the descriptions and not from our code."""

from __future__ import annotations

import cmath
import math

import numpy as np

Trapezoid = tuple[float, float, float, float]
HUES: list[Trapezoid] = [
    (0, 0, 5, 10),
    (5, 10, 35, 50),
    (35, 50, 70, 85),
    (70, 85, 150, 165),
    (150, 165, 195, 205),
    (195, 205, 265, 280),
    (265, 280, 315, 330),
    (315, 330, 360, 360),
]
LEVELS = {
    0: [180.2, 23730, 61457.2, 113918.6, 179122.5, 260980.3, 341795.9, 554730],
    1: [209.3, 22490.6, 60250.9, 120705.8, 181128.1, 234132.1, 325660.6, 520702.2],
    2: [405.5, 4878, 10882.2, 18167.2, 27043.4, 38129.4, 52675.2, 79555.4],
    4: [968.9, 10725.2, 24161.2, 41555.9, 62895.6, 93066.3, 136976.1, 262897.9],
}
LEVELS[3], LEVELS[5] = LEVELS[2], LEVELS[4]


def belongs(x: float, trapezoid: Trapezoid) -> float:
    left, top, end, right = trapezoid
    if x < left or x > right:
        return 0.0
    if top <= x <= end:
        return 1.0
    return (x - left) / (top - left) if x < top else (right - x) / (right - end)


def hsv(red: int, green: int, blue: int) -> tuple[int, int, int]:
    most, least = max(red, green, blue), min(red, green, blue)
    if most == least:
        return 0, 0, most
    turn = 60 / (most - least)
    if most == red:
        hue = (0 if green >= blue else 359) + turn * (green - blue)
    elif most == green:
        hue = 119 + turn * (blue - red)
    else:
        hue = 239 + turn * (red - green)
    return int(hue + 1e-9), int(255 - 255 * least / most + 1e-9), most


def fuzzy(red: int, green: int, blue: int) -> list[float]:
    hue, saturation, value = hsv(red, green, blue)
    ten = [0.0] * 10
    for h, hues in enumerate(HUES):
        for s, grade in enumerate([(0, 0, 10, 75), (10, 75, 255, 255)]):
            for v, light in enumerate([(0, 0, 10, 75), (10, 75, 180, 220), (180, 220, 255, 255)]):
                if v == 0:
                    bin_ = 2
                elif s == 0:
                    bin_ = 1 if v == 1 else 0
                else:
                    bin_ = 3 + h % 7
                ten[bin_] += min(belongs(hue, hues), belongs(saturation, grade), belongs(value, light))
    low, high = (0, 0, 68, 188), (68, 188, 255, 255)
    pale, strong = belongs(saturation, low), belongs(saturation, high)
    dark, bright = belongs(value, low), belongs(value, high)
    shades = [min(pale, bright), min(strong, bright), min(pale, dark) + min(strong, dark)]
    out = [*ten[:3], *[0.0] * 21]
    for c in range(3, 10):
        for shade in range(3):
            out[3 * (c - 2) + shade] += ten[c] * shades[shade]
    return out


def edges(quarters: list[int]) -> list[int]:
    a1, a2, a3, a4 = quarters
    root = 2**0.5
    m = [
        2 * abs(a1 - a2 - a3 + a4),
        abs(a1 + a2 - a3 - a4),
        abs(a1 - a2 + a3 - a4),
        root * abs(a1 - a4),
        root * abs(a2 - a3),
    ]
    if max(m) < 14:
        return [0]
    return [1 + k for k in range(5) if m[k] / max(m) > (0.68 if k == 0 else 0.98)]


def slow_cedd(picture: np.ndarray) -> list[int]:
    """Of uint8 [3, H, W]."""
    height, width = picture.shape[1:]
    pixel = picture.tolist()
    blocks = 40 if min(height, width) >= 80 else 20 if min(height, width) >= 40 else 0
    tall, wide = (height // blocks, width // blocks) if blocks else (2, 2)
    tall, wide = tall - tall % 2, wide - wide % 2
    rows, columns = (blocks, blocks) if blocks else (height // 2, width // 2)
    histogram = [0.0] * 144
    for row in range(rows):
        for column in range(columns):
            sums, luma = [0, 0, 0], [0, 0, 0, 0]
            for y in range(tall):
                for x in range(wide):
                    rgb = [pixel[c][row * tall + y][column * wide + x] for c in range(3)]
                    sums = [a + b for a, b in zip(sums, rgb, strict=True)]
                    quarter = 2 * (y >= tall // 2) + (x >= wide // 2)
                    luma[quarter] += 299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2]
            quarters = [total // (1000 * tall * wide // 4) for total in luma]
            colours = fuzzy(*[total // (tall * wide) for total in sums])
            for kind in edges(quarters):
                for bin_ in range(24):
                    histogram[24 * kind + bin_] += colours[bin_]
    total = sum(histogram) or 1.0
    out = []
    for place, value in enumerate(histogram):
        gaps = [abs(value / total - level / 1e6) for level in LEVELS[place // 24]]
        out.append(gaps.index(min(gaps)))
    return out


def transform(grid: np.ndarray, *, back: bool = False) -> np.ndarray:
    """The Fourier transform of [S, S] as a sum, without an FFT."""
    size = len(grid)
    sign = 2j if back else -2j
    waves = np.array([[cmath.exp(sign * math.pi * a * b / size) for b in range(size)] for a in range(size)])
    return waves @ grid @ waves / (size**2 if back else 1)


def mirrored(grid: np.ndarray, width: int) -> np.ndarray:
    return np.pad(grid, width, mode="symmetric")


def frequency(place: int, size: int) -> int:
    return place if place < size // 2 else place - size


def slow_gist(picture: np.ndarray) -> np.ndarray:
    """Of uint8 [3, S, S]: nothing is resized."""
    side = picture.shape[1]
    gray = picture.astype(float).mean(0)
    gray = gray - gray.min()
    gray = 255 * gray / gray.max() if gray.max() else gray
    logs = mirrored(np.log(gray + 1), 5)
    size = len(logs)
    low = np.zeros((size, size))
    for y in range(size):
        for x in range(size):
            squared = frequency(y, size) ** 2 + frequency(x, size) ** 2
            low[y, x] = math.exp(-squared / (4 / math.sqrt(math.log(2))) ** 2)
    high = logs - np.real(transform(transform(logs) * low, back=True))
    contrast = np.sqrt(np.abs(transform(transform(high**2) * low, back=True)))
    even = (high / (0.2 + contrast))[5:-5, 5:-5]
    padded = mirrored(even, 32)
    size = len(padded)
    spectrum = transform(padded)
    numbers = []
    for scale in range(4):
        for turn in range(8):
            one = np.zeros((size, size))
            for y in range(size):
                for x in range(size):
                    u, v = frequency(x, size), frequency(y, size)
                    theta = math.atan2(v, u) + math.pi * turn / 8
                    theta -= 2 * math.pi if theta > math.pi else 0
                    away = math.hypot(u, v) / (size * 0.3 / 1.85**scale) - 1
                    one[y, x] = math.exp(-3.5 * away**2 - 2 * math.pi * (16 * 8**2 / 32**2) * theta**2)
            answer = np.abs(transform(spectrum * one, back=True))[32:-32, 32:-32]
            quarter = side // 4
            for row in range(4):
                for column in range(4):
                    part = answer[row * quarter : (row + 1) * quarter, column * quarter : (column + 1) * quarter]
                    numbers.append(part.mean())
    return np.array(numbers)
