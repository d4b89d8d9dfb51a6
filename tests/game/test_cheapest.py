"""The cheapest reply that still breaks a move."""

from __future__ import annotations

from countermove.game.arena import Yardstick
from countermove.game.cheapest import cheapest_breaking
from countermove.game.verdict import Estimate, MoveVerdict, Reply, Square, Verdict


def estimate(point: float) -> Estimate:
    return Estimate(point=point, low=point - 0.1, high=point + 0.1, seeds_counted=True)


def square(reply: str, left: float, *, eligible: bool = True, **price: float) -> Square:
    return Square("d", "m", Reply(reply, "net"), estimate(left), 0.5, price, 3, eligible)


def verdict(*squares: Square, state: str = "broken", naive: float = 1.0) -> Verdict:
    move = MoveVerdict("d", "m", state, estimate(naive), estimate(0.0), Reply("full", "net"), {}, None, None)
    return Verdict((move,), squares, (), "")


def cheapest(found: Verdict, yardstick: Yardstick | None = None) -> dict[str, tuple[str, float]]:
    return {c.price: (c.reply.countermove, c.amount) for c in cheapest_breaking(found, yardstick or Yardstick())}


FULL = square("full", 0.02, samples=1000, bytes_stored=900.0)
MASK = square("mask", 0.15, samples=1000, bytes_stored=30.0)
SHORT = square("short", 0.19, samples=100, bytes_stored=900.0)
WEAK = square("weak", 0.25, samples=1, bytes_stored=1.0)


def test_it_is_named_for_every_price() -> None:
    found = cheapest(verdict(FULL, MASK, SHORT, WEAK))
    assert found == {"samples": ("short", 100), "bytes_stored": ("mask", 30.0)}


def test_what_leaves_a_fifth_or_may_not_count_is_passed_over() -> None:
    banned = square("banned", 0.0, eligible=False, samples=0, bytes_stored=0.0)
    assert cheapest(verdict(WEAK, square("just", 0.2, samples=0))) == {}
    assert cheapest(verdict(FULL, MASK, banned))["bytes_stored"] == ("mask", 30.0)


def test_equally_cheap_replies_are_told_apart_by_what_they_leave() -> None:
    better = square("better", 0.01, samples=100, bytes_stored=900.0)
    assert cheapest(verdict(FULL, SHORT, better))["samples"] == ("better", 100)


def test_a_price_in_which_nothing_differs_is_left_out() -> None:
    assert "samples" not in cheapest(verdict(FULL, MASK))
    assert cheapest(verdict(FULL))["samples"] == ("full", 1000), "the only one that breaks it is the cheapest"


def test_moves_that_did_not_work_have_none() -> None:
    for state in ("did not work", "inconclusive"):
        assert cheapest(verdict(FULL, MASK, state=state)) == {}


def test_a_relative_yardstick_compares_with_the_payoff_against_none() -> None:
    small = square("small", 0.03, samples=10), square("tiny", 0.005, samples=20)
    found = cheapest(verdict(*small, naive=0.05), Yardstick(relative=True))
    assert found == {"samples": ("tiny", 20)}
