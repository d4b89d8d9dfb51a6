"""The verdict: what is left of every move against the best reply, how sure that is, and what the reply cost.

The trainer moves last, so a move's value is its payoff against the best eligible reply. A raw minimum of noisy cells
is biased low; it is therefore cross-fitted: the reply is chosen on the other seeds and one half of the units and
scored on the held-out seed and the other half, averaged over seeds, halves and several ways to halve.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean, variance

import numpy as np
from numpy.typing import NDArray

from countermove.game.arena import Yardstick
from countermove.game.cell import Setting
from countermove.game.flags import Flag, control_flags, find_flags
from countermove.game.payoff import counted_ids, held_off, outcomes
from countermove.game.results import PRICE, Results, Row

CONFIDENCE = 0.95
RESAMPLES = 400
SPLITS = 4
ENOUGH_SEEDS = 3
MODEL_FLOOR = 0.9
HOLDS, BROKEN = 0.5, 0.2
"""A value of at least HOLDS: the move holds. Below BROKEN: broken. Of what: see `Yardstick`."""

Floats = NDArray[np.float64]
_WHOLE = -1
"""The split that splits nothing."""


@dataclass(frozen=True, order=True)
class Reply:
    """What the other side may answer: a countermove and the model it trains."""

    countermove: str
    model: str


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    seeds_counted: whether the interval holds the variance between seeds (three or more) or the sampling of units only.
    digits:        behind the point, when it is written for people.
    """

    point: float
    low: float
    high: float
    seeds_counted: bool
    digits: int = 2

    @property
    def words(self) -> str:
        """Write it with its interval."""
        return f"{self.point:.{self.digits}f} [{self.low:.{self.digits}f}, {self.high:.{self.digits}f}]"


@dataclass(frozen=True)
class Square:
    """One square of the matrix: a move against a reply."""

    data: str
    move: str
    reply: Reply
    payoff: Estimate | None
    metric: float | None
    price: Mapping[str, float]
    played: int
    eligible: bool


@dataclass(frozen=True)
class MoveVerdict:
    """What is left of one move.

    state:  "holds", "weakened", "broken", "did not work" or "inconclusive".
    naive:  the payoff against countermove none, over the eligible models.
    value:  the payoff against the best eligible reply, cross-fitted; None when it cannot be told.
    reply:  the reply that is best on all seeds and units, with its price.
    blind:  the payoff under the one reply that is best over all moves of the audit (the owner does not know the move).
    """

    data: str
    move: str
    state: str
    naive: Estimate | None
    value: Estimate | None
    reply: Reply | None
    price: Mapping[str, float]
    blind: Estimate | None
    blind_reply: Reply | None
    relative: bool = False

    @property
    def sentence(self) -> str:
        """Say it in a sentence."""
        if self.value is None or self.reply is None or self.state == "inconclusive":
            return f"{self.move}: inconclusive, see the flags."
        if self.state == "did not work":
            naive = "unknown" if self.naive is None else f"{self.naive.point:.{self.naive.digits}f}"
            return f"{self.move}: the move did not work (payoff {naive} against no countermove at all)."
        reply = "no reply at all" if self.reply.countermove == "none" else self.reply.countermove
        if self.relative:
            before = "" if self.naive is None else f" of {self.naive.point:.{self.naive.digits}f}"
            return f"{self.move}: {self.state}; a payoff of {self.value.words}{before} is left against {reply}."
        return f"{self.move}: {self.state}; {self.value.words} of its aim is left against {reply}."


@dataclass(frozen=True)
class Verdict:
    """The verdict of an audit."""

    moves: tuple[MoveVerdict, ...]
    matrix: tuple[Square, ...]
    flags: tuple[Flag, ...]
    sentence: str

    @property
    def conclusive(self) -> bool:
        """Whether the controls came out as known and the clean model learned."""
        return all(not flag.fatal for flag in self.flags)


def judge(results: Results, budgets: Mapping[str, bool] | None = None) -> Verdict:
    """Derive the verdict of a run.

    Args:
        results: the run's rows.
        budgets: whether each move (by spelling) kept its budget after the 8-bit save, where that was measured.
    """
    fatal = list(control_flags(results))
    moves: list[MoveVerdict] = []
    matrix: list[Square] = []
    pooled = _seed_variance(results.rows)
    for data in results.axis("data"):
        table = _Table(results, data, pooled)
        matrix += table.squares()
        inconclusive = any(flag.fatal and flag.data == data for flag in fatal)
        moves += [table.verdict(move, inconclusive) for move in results.config.moves if move != "none"]
    flags = [*fatal, *find_flags(results, budgets or {})]
    return Verdict(tuple(moves), tuple(matrix), tuple(flags), _sentence(moves))


class _Table:
    """All payoffs on one data set, on the same resampled units."""

    def __init__(self, results: Results, data: str, pooled: float | None) -> None:
        self.results, self.data, self.pooled = results, data, pooled
        self.seeds = results.config.seeds
        self._known: dict[tuple[str, Reply, int, int], Floats] = {}
        self.extra = set(results.arena.extra_countermoves(data))
        self.models = _eligible_models(results, data)
        self.shown = [
            Reply(countermove, model)
            for model in results.axis("model")
            for countermove in results.axis("countermove")
            if countermove not in self.extra
        ]
        # What only a control plays is no reply of this audit's trainer.
        self.replies = [reply for reply in self.shown if reply.countermove in results.config.countermoves]

    def cell(self, move: str, reply: Reply, seed: int) -> Row | None:
        row = self.results.row(
            Setting(self.results.config.arena, self.data, move, reply.countermove, reply.model, seed)
        )
        return row if row is not None and row.ok else None

    def complete(self, move: str, reply: Reply) -> bool:
        """Whether a square was played under every seed and every reference proves something."""
        rows = [self.cell(move, reply, seed) for seed in self.seeds]
        return all(row is not None and row.payoff is not None for row in rows)

    def eligible(self, reply: Reply) -> bool:
        """Whether a reply may count: a model that learns, and a clean metric that the arena demands of replies."""
        if reply.model not in self.models:
            return False
        floor = self.results.arena.reply_floor
        if floor is None:
            return True
        kept = _mean_metric(self.results, self.data, "none", reply)
        clean = _mean_metric(self.results, self.data, "none", Reply("none", reply.model))
        return kept is not None and clean is not None and kept >= floor * clean

    def squares(self) -> list[Square]:
        """Return the matrix, diagnostics included, moves in the audit's order."""
        extras = [Reply(c, m) for c in sorted(self.extra) for m in self.results.axis("model")]
        return [
            self._square(move, reply)
            for move in self.results.axis("move")
            for reply in [*self.shown, *extras]
            if any(self.cell(move, reply, seed) for seed in self.seeds)
        ]

    def _square(self, move: str, reply: Reply) -> Square:
        rows = [row for seed in self.seeds if (row := self.cell(move, reply, seed))]
        estimate = None
        if move != "none" and self.complete(move, reply):
            estimate = self._estimate(self._payoffs(move, [reply], _WHOLE).mean(axis=(1, 2, 3)), 1)
        return Square(
            self.data,
            move,
            reply,
            estimate,
            fmean(row.metrics[self.results.arena.metric] for row in rows) if rows else None,
            _mean_price(rows),
            len(rows),
            self.eligible(reply) and reply in self.replies,
        )

    def verdict(self, move: str, inconclusive: bool) -> MoveVerdict:
        replies = [reply for reply in self.replies if self.eligible(reply) and self.complete(move, reply)]
        if not replies:
            return MoveVerdict(self.data, move, "inconclusive", None, None, None, {}, None, None)
        naive = self._naive(move, replies)
        everywhere = self._payoffs(move, replies, _WHOLE)[0].mean(axis=(1, 2))
        best = replies[int(everywhere.argmin())]
        value = self._estimate(self._crossfit([move], replies)[move], len(replies))
        blind, blind_reply = self._blind(move)
        state = "inconclusive" if inconclusive else _state(self.results.arena.yardstick, naive, value)
        price = _mean_price([row for seed in self.seeds if (row := self.cell(move, best, seed))])
        relative = self.results.arena.yardstick.relative
        return MoveVerdict(self.data, move, state, naive, value, best, price, blind, blind_reply, relative)

    def _naive(self, move: str, replies: Sequence[Reply]) -> Estimate | None:
        none = [reply for reply in replies if reply.countermove == "none"]
        return self._estimate(self._payoffs(move, none, _WHOLE).mean(axis=(1, 2, 3)), 1) if none else None

    def _blind(self, move: str) -> tuple[Estimate | None, Reply | None]:
        """Score a move under the one reply that is best over all moves of the audit that were played completely."""
        eligible = [reply for reply in self.replies if self.eligible(reply)]
        moves = [m for m in self.results.config.moves if m != "none" and any(self.complete(m, r) for r in eligible)]
        replies = [reply for reply in eligible if all(self.complete(m, reply) for m in moves)]
        if not replies:
            return None, None
        over_all = np.mean([self._payoffs(m, replies, _WHOLE)[0].mean(axis=(1, 2)) for m in moves], axis=0)
        scored = self._crossfit(moves, replies)[move]
        return self._estimate(scored, len(replies)), replies[int(over_all.argmin())]

    def _crossfit(self, moves: Sequence[str], replies: Sequence[Reply]) -> dict[str, Floats]:
        """Choose one reply for all the given moves out of sample, score each move under it. Arrays: [1 + RESAMPLES]."""
        scores = {move: np.zeros(1 + RESAMPLES) for move in moves}
        seeds = range(len(self.seeds))
        for split in range(SPLITS):
            halves = {move: self._payoffs(move, replies, split) for move in moves}
            chosen_on = np.mean(list(halves.values()), axis=0)  # [B, reply, seed, half]
            for seed in seeds:
                others = [s for s in seeds if s != seed] or [seed]
                for half in (0, 1):
                    pick = chosen_on[:, :, others, 1 - half].mean(axis=2).argmin(axis=1)
                    for move in moves:
                        scores[move] += halves[move][np.arange(len(pick)), pick, seed, half]
        return {move: total / (SPLITS * len(self.seeds) * 2) for move, total in scores.items()}

    def _payoffs(self, move: str, replies: Sequence[Reply], split: int) -> Floats:
        """Return payoffs [1 + RESAMPLES, reply, seed, part]; row 0 is the sample itself, the others are resampled."""
        per_reply = []
        for reply in replies:
            per_seed = [self._resampled(move, reply, seed, split) for seed in self.seeds]
            per_reply.append(np.stack(per_seed, axis=1))
        return np.stack(per_reply, axis=1)

    def _resampled(self, move: str, reply: Reply, seed: int, split: int) -> Floats:
        """Return one cell's payoffs [1 + RESAMPLES, part]; every one is needed several times."""
        key = (move, reply, seed, split)
        if key not in self._known:
            self._known[key] = self._resample(move, reply, seed, split)
        return self._known[key]

    def _resample(self, move: str, reply: Reply, seed: int, split: int) -> Floats:
        row = self.cell(move, reply, seed)
        assert row is not None, "complete() was asked before"
        base = self.results.row(self.results.arena.reference(row.setting))
        assert base is not None, "a payoff exists, so its reference does"
        parts = _parts(tuple(counted_ids(row.record)), split)
        mine = outcomes(row.record)
        reference = outcomes({"units": {**base.record["units"], "counted": row.record["units"]["counted"]}})
        weights = _weights(len(mine))
        total = np.maximum(weights @ parts, 1)
        chance = row.record["chance"]
        means = weights @ (parts * mine[:, None]) / total
        references = held_off(weights @ (parts * reference[:, None]) / total, chance)
        return self.results.arena.payoff(means, references, chance)

    def _estimate(self, scores: Floats, replies: int) -> Estimate:
        """Return the point with its interval; the upper bound is corrected for the number of replies chosen from."""
        point, spread = float(scores[0]), float(scores[1:].std(ddof=1))
        counted = self.pooled is not None and len(self.seeds) >= ENOUGH_SEEDS
        error = (spread**2 + (self.pooled or 0.0) / len(self.seeds)) ** 0.5 if counted else spread
        tail = (1 - CONFIDENCE) / 2
        low = point - NormalDist().inv_cdf(1 - tail) * error
        high = point + NormalDist().inv_cdf(1 - tail / replies) * error
        return Estimate(point, low, high, counted, self.results.arena.yardstick.digits)


@lru_cache(maxsize=64)
def _parts(ids: tuple[str, ...], split: int) -> Floats:
    """Return 0/1 masks [N, part]: all units, or two halves by their ids, so that a unit's half never changes."""
    if split == _WHOLE:
        return np.ones((len(ids), 1))
    order = sorted(range(len(ids)), key=lambda i: hashlib.sha256(f"{split}\x1f{ids[i]}".encode()).digest())
    first = np.zeros(len(ids))
    first[order[: len(ids) // 2]] = 1
    return np.stack([first, 1 - first], axis=1)


@lru_cache(maxsize=8)
def _weights(units: int) -> Floats:
    """Return how often each unit is drawn: all ones, then RESAMPLES bootstrap draws. The same for every cell."""
    draws = np.random.default_rng(0).multinomial(units, np.full(units, 1 / units), size=RESAMPLES)
    return np.concatenate([np.ones((1, units)), draws.astype(np.float64)])


def _seed_variance(rows: Iterable[Row]) -> float | None:
    """Pool the variance of the payoff between seeds over all squares of the run; None without two seeds anywhere."""
    squares: dict[Setting, list[float]] = {}
    for row in rows:
        if row.payoff is not None and row.setting.move != "none":
            s = row.setting
            squares.setdefault(Setting(s.arena, s.data, s.move, s.countermove, s.model, 0), []).append(row.payoff)
    variances = [variance(payoffs) for payoffs in squares.values() if len(payoffs) > 1]
    return fmean(variances) if variances else None


def _eligible_models(results: Results, data: str) -> set[str]:
    clean = {m: _mean_metric(results, data, "none", Reply("none", m)) for m in results.axis("model")}
    best = max((metric for metric in clean.values() if metric is not None), default=0.0)
    return {model for model, metric in clean.items() if metric is not None and metric >= MODEL_FLOOR * best}


def _mean_metric(results: Results, data: str, move: str, reply: Reply) -> float | None:
    arena = results.config.arena
    rows = [
        results.row(Setting(arena, data, move, reply.countermove, reply.model, seed)) for seed in results.config.seeds
    ]
    values = [row.metrics[results.arena.metric] for row in rows if row is not None and row.ok]
    return fmean(values) if values else None


def _mean_price(rows: Sequence[Row]) -> dict[str, float]:
    names = [name for name in PRICE if rows and all(name in row.price for row in rows)]
    return {name: fmean(row.price[name] for row in rows) for name in names}


def _state(yardstick: Yardstick, naive: Estimate | None, value: Estimate) -> str:
    if naive is not None and naive.point < yardstick.worked:
        return "did not work"
    if yardstick.relative and naive is None:
        return "inconclusive"
    whole = naive.point if yardstick.relative and naive is not None else 1.0
    return "holds" if value.point >= HOLDS * whole else "weakened" if value.point >= BROKEN * whole else "broken"


def _sentence(moves: Sequence[MoveVerdict]) -> str:
    return " ".join(move.sentence for move in moves) or "The audit names no move, so there is nothing to judge."
