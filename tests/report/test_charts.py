from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from countermove.game.verdict import Estimate
from countermove.report.charts import HEIGHT, WIDTH, Dot, Line, curves, scatter, strip, ticks

numbers = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)


@given(numbers, numbers)
def test_ticks_are_round_rising_and_inside(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    if high - low < 1e-6 * max(abs(low), abs(high), 1e-3):
        return
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    slack = (high - low) * 1e-6
    assert all(low - slack <= t <= high + slack for t in found)
    assert found == sorted(set(found))


def test_whole_ticks_are_whole() -> None:
    for last in (2, 3, 7, 10, 30, 60, 200):
        assert all(t == int(t) for t in ticks(1, last, whole=True))


@given(st.lists(st.tuples(st.floats(-10, 1e5), st.floats(-0.5, 1.5)), min_size=1, max_size=12))
def test_scatter_draws_every_dot_inside_the_picture(points: list[tuple[float, float]]) -> None:
    dots = [
        Dot(x=x, y=y, low=y - 0.1, high=y + 0.1, label=f"reply-{i}<&", front=i % 2 == 0)
        for i, (x, y) in enumerate(points)
    ]
    picture = ET.fromstring(str(scatter(dots, x_label="price", y_label="payoff", description='"quoted" <b>')))
    circles = picture.findall("circle")
    assert len(circles) == len(dots)
    for circle in circles:
        assert 0 <= float(circle.get("cx", "nan")) <= WIDTH
        assert 0 <= float(circle.get("cy", "nan")) <= HEIGHT
    assert not any("style" in element.attrib for element in picture.iter())
    assert {title.text.split(":")[0] for title in picture.iter("title") if title.text} == {dot.label for dot in dots}


def test_labels_do_not_lie_on_each_other() -> None:
    dots = [Dot(x=i % 3, y=0.5, low=0.4, high=0.6, label="same", front=True) for i in range(30)]
    picture = ET.fromstring(str(scatter(dots, x_label="", y_label="", description="")))
    labels = [(t.get("x"), t.get("y"), t.get("text-anchor")) for t in picture.findall("text[@class='label']")]
    assert 0 < len(labels) == len(set(labels)) < 30


def test_higher_payoffs_stand_higher_and_dearer_replies_to_the_right() -> None:
    dots = [
        Dot(x=1, y=0.9, low=0.8, high=1, label="a", front=False),
        Dot(x=5, y=0.1, low=0, high=0.2, label="b", front=True),
    ]
    picture = ET.fromstring(str(scatter(dots, x_label="", y_label="", description="")))
    where = {
        c[0].text[0]: (float(c.get("cx", "")), float(c.get("cy", ""))) for c in picture.iter("circle") if c[0].text
    }
    assert where["a"][0] < where["b"][0]
    assert where["a"][1] < where["b"][1]


def test_curves_have_a_point_an_epoch() -> None:
    lines = [Line(values=[0.1, 0.5, 0.9], look="test"), Line(values=[0.5], look="clean")]
    svg = str(curves(lines, y_range=(0, 1), x_label="epoch", y_label="", desc="a"))
    (points,) = re.findall(r'points="([^"]+)"', svg)
    heights = [float(pair.split(",")[1]) for pair in points.split()]
    assert len(heights) == 3
    assert heights == sorted(heights, reverse=True)
    assert math.isclose(heights[0] - heights[1], heights[1] - heights[2], abs_tol=0.2)
    assert svg.count("<circle") == 1


def test_strip_keeps_any_payoff_inside() -> None:
    for value in (-3.0, 0.0, 0.5, 7.0):
        estimate = Estimate(value, value - 1, value + 1, True)
        for circle in ET.fromstring(str(strip(estimate, estimate))).iter("circle"):
            assert 5 < float(circle.get("cx", "nan")) < 195
