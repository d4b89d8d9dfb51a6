"""Refusals meant for people: what was refused, the value, what would be accepted, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CountermoveError(Exception):
    """Something the user asked for cannot be done. The command line prints the message and exits with 2."""


class ConfigError(CountermoveError):
    """A configuration, a name or a setting is wrong. Raised before anything is computed."""


class DataError(CountermoveError):
    """Input data cannot be read, or do not fit what they are used for."""


class RunError(CountermoveError):
    """A run folder cannot be used: locked, foreign, of another version, or not writable."""


class WeightsError(CountermoveError):
    """Pre-trained weights are absent or are not the ones they claim to be."""


class DeviceError(CountermoveError):
    """The device asked for is not there."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the nearest known names, or all of them when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(n) for n in near)}?"
    if not known:
        return "nothing is known there."
    return f"known: {', '.join(known)}."
