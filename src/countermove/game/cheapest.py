"""The cheapest reply that still breaks a move, by every price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from countermove.game.arena import Yardstick
from countermove.game.verdict import BROKEN, Estimate, MoveVerdict, Reply, Square, Verdict

PRICES = ("seconds", "samples", "parameters_changed", "bytes_stored", "clean_examples")
"""What a reply is made cheap in; what it costs on clean data is a rule of the game already."""


@dataclass(frozen=True, kw_only=True)
class Cheapest:
    """One reply that leaves a move less than a fifth of its aim, and takes less than all others that do.

    price:  what it is cheapest in.
    amount: of that, beyond countermove none, on average over seeds.
    payoff: what it leaves.
    """

    data: str
    move: str
    price: str
    amount: float
    reply: Reply
    payoff: Estimate


def cheapest_breaking(verdict: Verdict, yardstick: Yardstick) -> tuple[Cheapest, ...]:
    """Return the cheapest breaking reply to every move by every price in which the breaking replies differ.

    Moves that did not work, or whose audit proves nothing, have none. Of equally cheap replies the one that leaves less
    is named.
    """
    found: list[Cheapest] = []
    for move in verdict.moves:
        if move.state in ("did not work", "inconclusive"):
            continue
        breaking = _breaking(move, verdict.matrix, yardstick)
        for price in PRICES:
            priced = [square for square in breaking if price in square.price]
            if len({square.price[price] for square in priced}) > 1 or len(priced) == 1:
                best = min(priced, key=lambda square: (square.price[price], _left(square)))
                amount, payoff = best.price[price], best.payoff
                assert payoff is not None, "it breaks the move"
                found.append(
                    Cheapest(
                        data=move.data, move=move.move, price=price, amount=amount, reply=best.reply, payoff=payoff
                    )
                )
    return tuple(found)


def _breaking(move: MoveVerdict, squares: Sequence[Square], yardstick: Yardstick) -> list[Square]:
    whole = move.naive.point if yardstick.relative and move.naive is not None else 1.0
    mine = [square for square in squares if (square.data, square.move) == (move.data, move.move) and square.eligible]
    return [square for square in mine if square.payoff is not None and square.payoff.point < BROKEN * whole]


def _left(square: Square) -> float:
    return square.payoff.point if square.payoff is not None else 1.0
