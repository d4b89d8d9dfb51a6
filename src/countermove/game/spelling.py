"""How a method is spelled: ``name(key=value, key=value)``, compositions joined by a plus.

The same spelling is used in TOML, on the command line, in ``results.csv`` and on the page:
``gray+jpeg(quality=30)``, ``error-minimizing(eps=16/255, form=class)``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from countermove.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]*")
_FRACTION = re.compile(r"(-?\d+(?:\.\d+)?)\s*/\s*(\d+)")
MAX_DEPTH = 50
"""Lists, and tables of an audit file, are nested no deeper."""

MAX_BITS = 64
"""Whole numbers of an audit file are no larger."""

_EXAMPLE = "write it like jpeg(quality=30) or gray+jpeg"


@dataclass(frozen=True)
class Named:
    """A method's name with the settings that were given for it, as spelled by the user."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def parse(text: str) -> tuple[Named, ...]:
    """Read a spelling into its parts, in the order in which they are applied.

    Raises:
        ConfigError: when the text is not a name with optional settings.
    """
    parts = _split(text, "+")
    return tuple(_parse_one(part.strip(), text) for part in parts)


def spell(parts: Sequence[Named]) -> str:
    """Write parts the canonical way: keys sorted, radii as k/255 where that is exact."""
    return "+".join(_spell_one(part) for part in parts)


def parse_value(text: str) -> Any:
    """Read one setting: true, false, none, integers, decimals, fractions such as 8/255, else a string."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if text.startswith("[") and text.endswith("]"):
        inner = text[1:-1].strip()
        return [parse_value(item) for item in _split(inner, ",")] if inner else []
    constants = {"true": True, "false": False, "none": None}
    if text.lower() in constants:
        return constants[text.lower()]
    fraction = read_fraction(text)
    if fraction is not None:
        return fraction
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read_fraction(text: str) -> float | None:
    """Return 8/255 as a number, None when the text is no fraction."""
    match = _FRACTION.fullmatch(text.strip())
    try:
        return float(Fraction(match[1]) / int(match[2])) if match else None
    except (ArithmeticError, ValueError):  # by zero, too large, or of thousands of digits
        return None


def spell_value(value: Any) -> str:
    """Write one setting so that `parse_value` reads it back.

    Raises:
        ConfigError: when it is no number, bool, None, text or list of these, or a text with both kinds of quotes.
    """
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return spell_number(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(spell_value(item) for item in value) + "]"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise ConfigError(f"{value!r} cannot be a setting: use numbers, true or false, texts, and lists of these")
    if value and not re.search(r"[\s,()+=\[\]\"']", value) and parse_value(value) == value:
        return value
    if '"' in value and "'" in value:
        raise ConfigError(f"{value!r} cannot be a setting: a text may hold one kind of quotes, not both")
    quote = "'" if '"' in value else '"'
    return f"{quote}{value}{quote}"


def spell_number(value: float) -> str:
    """Write a number as k/255 where that is what it is and is shorter (0.4 stays 0.4), else as Python does."""
    shortest = repr(value)
    k = round(value * 255) if 0 < value <= 1 else 0
    fraction = f"{k}/255"
    return fraction if k and k / 255 == value and len(fraction) < len(shortest) else shortest


def why_outsized(value: Any) -> str:
    """Return what of a value read from TOML is too much: its nesting, or a whole number; nothing when it is fine."""
    layer = [value]
    for _ in range(MAX_DEPTH + 1):
        if any(isinstance(one, int) and one.bit_length() > MAX_BITS for one in layer):
            return f"a whole number has more than {MAX_BITS} bits"
        layer = [
            inner
            for outer in layer
            if isinstance(outer, (list, dict))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return ""
    return f"tables or lists are nested more than {MAX_DEPTH} deep"


def _parse_one(text: str, whole: str) -> Named:
    match = _NAME.match(text)
    if not match:
        raise ConfigError(f"cannot read {whole!r} as a method: {text!r} is no name; {_EXAMPLE}")
    rest = text[match.end() :].strip()
    if not rest:
        return Named(match[0])
    if not (rest.startswith("(") and rest.endswith(")")):
        raise ConfigError(f"cannot read {whole!r}: {rest!r} after {match[0]!r}; {_EXAMPLE}")
    settings: dict[str, Any] = {}
    for item in filter(str.strip, _split(rest[1:-1], ",")):
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise ConfigError(f"cannot read {item.strip()!r} in {whole!r}: settings are key=value; {_EXAMPLE}")
        if key in settings:
            raise ConfigError(f"{key!r} is given twice in {whole!r}")
        settings[key] = parse_value(value)
    return Named(match[0], settings)


def _spell_one(part: Named) -> str:
    if not part.settings:
        return part.name
    inner = ", ".join(f"{key}={spell_value(part.settings[key])}" for key in sorted(part.settings))
    return f"{part.name}({inner})"


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator that stands outside brackets and quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for i, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "([":
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigError(f"brackets are nested more than {MAX_DEPTH} deep in {text[:60]!r}…; {_EXAMPLE}")
        elif character in ")]":
            depth -= 1
            if depth < 0:
                raise ConfigError(f"cannot read {text!r}: a bracket is closed that was not opened; {_EXAMPLE}")
        elif character == separator and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    if depth or quote:
        raise ConfigError(f"cannot read {text!r}: a bracket or a quote is not closed; {_EXAMPLE}")
    return [*parts, text[start:]]
