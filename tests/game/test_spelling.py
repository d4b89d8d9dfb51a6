"""Spellings are read and written without loss, and refused with an explanation."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermove.errors import ConfigError
from countermove.game.spelling import Named, parse, parse_value, read_fraction, spell, spell_number, spell_value

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,12}", fullmatch=True)
keys = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
texts = st.text(max_size=20).filter(lambda text: not ('"' in text and "'" in text))
radii = st.integers(0, 255).map(lambda k: k / 255)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | radii
scalars = numbers | st.booleans() | st.none() | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
methods = st.builds(Named, names, st.dictionaries(keys, values, max_size=4))


def same(left: Any, right: Any) -> bool:
    """Equal and of the same types: 1 is not True, and 1.0 is not 1."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


@given(st.lists(methods, min_size=1, max_size=4))
def test_what_was_spelled_is_read_back(parts: list[Named]) -> None:
    again = parse(spell(parts))
    assert [part.name for part in again] == [part.name for part in parts]
    for before, after in zip(parts, again, strict=True):
        assert before.settings.keys() == after.settings.keys()
        assert all(same(before.settings[key], after.settings[key]) for key in before.settings)


@given(st.lists(methods, min_size=1, max_size=3))
def test_the_canonical_spelling_is_a_fixed_point(parts: list[Named]) -> None:
    once = spell(parts)
    assert spell(parse(once)) == once


@given(st.dictionaries(keys, values, max_size=5))
def test_the_order_of_settings_makes_no_difference(settings: dict[str, Any]) -> None:
    turned = dict(reversed(settings.items()))
    assert spell([Named("jpeg", settings)]) == spell([Named("jpeg", turned)])


def test_every_8_bit_radius_survives_exactly() -> None:
    for k in range(1, 256):
        assert parse_value(spell_number(k / 255)) == k / 255
        assert parse_value(f"{k}/255") == k / 255


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (8 / 255, "8/255"),
        (0.5 / 255, repr(0.5 / 255)),
        (0.4, "0.4"),
        (1.0, "1.0"),
        (0.0, "0.0"),
        (-8 / 255, repr(-8 / 255)),
        (1.304, "1.304"),
        (1e308, "1e+308"),
        (math.inf, "inf"),
    ],
)
def test_numbers_are_written_as_people_write_them(number: float, text: str) -> None:
    assert spell_number(number) == text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("gray", [Named("gray")]),
        (" gray + jpeg( quality = 30 ) ", [Named("gray"), Named("jpeg", {"quality": 30})]),
        ("a(x=8/255, y=[1, 2.5], z='a+b,(c)')", [Named("a", {"x": 8 / 255, "y": [1, 2.5], "z": "a+b,(c)"})]),
        ("timm:resnet50(pretrained=true, head=none)", [Named("timm:resnet50", {"pretrained": True, "head": None})]),
        ("a(x=[], y='', )", [Named("a", {"x": [], "y": ""})]),
        ("a()", [Named("a")]),
    ],
)
def test_people_may_write_loosely(text: str, parts: list[Named]) -> None:
    assert list(parse(text)) == parts


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no name"),
        ("gray+", "is no name"),
        ("+gray", "is no name"),
        ("jpeg(quality=30", "not closed"),
        ("jpeg quality=30)", "not opened"),
        ("jpeg(quality=30)(x=1)(", "not closed"),
        ("jpeg(quality=3)0)", "not opened"),
        ("jpeg('quality=30)", "not closed"),
        ("jpeg(30)", "settings are key=value"),
        ("jpeg(=30)", "settings are key=value"),
        ("jpeg(a b=30)", "settings are key=value"),
        ("jpeg(quality=30, quality=40)", "given twice"),
        ("jpeg 30", "after 'jpeg'"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse(text)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parts = parse(text)
    except ConfigError:
        return
    assert parts


@pytest.mark.parametrize("text", ["1/0", "a/2", "1/2/3", "1/-2", "", "/", "8/255x", "9" * 400 + "/3"])
def test_what_is_no_fraction_stays_a_text(text: str) -> None:
    assert read_fraction(text) is None
    assert parse_value(text) == text


@pytest.mark.parametrize("value", [{"a": 1}, object(), b"x", "both ' and \""])
def test_what_has_no_spelling_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="cannot be a setting"):
        spell_value(value)
