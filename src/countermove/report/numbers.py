"""How numbers are written for people. results.csv has its own, exact form."""

from __future__ import annotations

from collections.abc import Mapping

from countermove.game.verdict import Estimate, Reply

ABSENT = "-"


def number(value: float | None, digits: int = 2) -> str:
    """Write a number with fixed digits, without a negative zero; a dash where there is none."""
    if value is None:
        return ABSENT
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def interval(estimate: Estimate | None) -> str:
    """Write the 95 % interval, nothing where there is none."""
    return f"[{number(estimate.low, estimate.digits)}, {number(estimate.high, estimate.digits)}]" if estimate else ""


def point(estimate: Estimate | None) -> str:
    """Write an estimate's point."""
    return number(estimate.point, estimate.digits) if estimate else ABSENT


def reply_words(reply: Reply | None, models: int) -> str:
    """Name a reply; the model is said only where the run has several."""
    if reply is None:
        return ABSENT
    return reply.countermove if models < 2 else f"{reply.countermove} with {reply.model}"


def price_words(price: Mapping[str, float], metric: str) -> list[str]:
    """Say what a reply costs beyond countermove none, what is zero left out."""
    words = [_price_word(name, value, metric) for name, value in price.items()]
    return [word for word in words if word]


def amount_words(price: str, value: float) -> str:
    """Write one price, zero as such."""
    return _price_word(price, value, "") or "nothing"


def _price_word(name: str, value: float, metric: str) -> str:
    if name == "seconds":
        return f"{value:+.1f} s" if abs(value) >= 0.05 else ""
    if name == "clean_cost":
        named = metric.replace("_", " ").removeprefix("clean ")
        return f"{-value:+.3f} clean {named}" if abs(value) >= 0.0005 else ""
    if not value:
        return ""
    if name == "bytes_stored":
        return f"{'-' if value < 0 else '+'}{_bytes(abs(value))} kept"
    return f"{value:+,.0f} {name.replace('_', ' ')}"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
