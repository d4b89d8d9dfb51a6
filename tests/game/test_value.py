"""The cross-fitted value against a slow second implementation, and against the truth it estimates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from statistics import NormalDist, fmean

import numpy as np
import pytest
from made_up_results import CHANCE, Draw, grid_of, results_of

from countermove.game import verdict as rules
from countermove.game.cell import Setting
from countermove.game.results import Results
from countermove.game.verdict import Reply, judge

COUNTERMOVES = ["none", "shake", "shake(times=1)", "shake(times=2)", "shake(times=4)", "shake(times=5)"]


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Points only: the intervals of many replications would cost most of the time."""
    rules._weights.cache_clear()
    monkeypatch.setattr(rules, "RESAMPLES", 2)
    yield
    rules._weights.cache_clear()


def noisy(units: int, seed: int = 0) -> Draw:
    """Outcomes without ties."""

    def draw(s: Setting) -> np.ndarray:
        words = hashlib.sha256(f"{seed} {s.label}".encode()).digest()[:8]
        mean = 0.9 if s.move == "none" else 0.5
        return np.random.default_rng(int.from_bytes(words, "big")).normal(mean, 0.25, units)

    return draw


def slow_payoff(results: Results, move: str, reply: Reply, seed: int, units: Sequence[int]) -> float:
    mine = results.row(Setting("coin", results.config.data[0], move, reply.countermove, reply.model, seed))
    base = results.row(Setting("coin", results.config.data[0], "none", "none", reply.model, seed))
    assert mine is not None
    assert base is not None
    mean = sum(mine.record["units"]["outcome"][i] for i in units) / len(units)
    reference = sum(base.record["units"]["outcome"][i] for i in units) / len(units)
    return (reference - mean) / (reference - CHANCE)


def slow_halves(count: int, split: int) -> tuple[list[int], list[int]]:
    order = sorted(range(count), key=lambda i: hashlib.sha256(f"{split}\x1funit-{i}".encode()).hexdigest())
    return order[: count // 2], order[count // 2 :]


def slow_value(results: Results, moves: Sequence[str], scored: str, replies: Sequence[Reply], units: int) -> float:
    """Choose on the other seeds and one half, score on the held-out seed and the other half; plain loops."""
    scores = []
    for split in range(rules.SPLITS):
        halves = slow_halves(units, split)
        for held_out in results.config.seeds:
            others = [seed for seed in results.config.seeds if seed != held_out] or [held_out]
            for tested in (0, 1):
                best, lowest = replies[0], float("inf")
                for reply in replies:
                    seen = [
                        slow_payoff(results, move, reply, seed, halves[1 - tested]) for move in moves for seed in others
                    ]
                    if fmean(seen) < lowest:
                        best, lowest = reply, fmean(seen)
                scores.append(slow_payoff(results, scored, best, held_out, halves[tested]))
    return fmean(scores)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("units", [2, 7, 40])
def test_the_value_is_what_slow_loops_give(seeds: int, units: int) -> None:
    moves = ["loaded(bias=0.4)", "shaved"]
    grid = grid_of(moves=moves, countermoves=["shake", "scale"], models=["thumb", "machine"], seeds=seeds)
    results = results_of(grid, noisy(units))
    replies = [Reply(c, m) for m in ("thumb", "machine") for c in ("none", "shake", "scale")]
    eligible = {square.reply for square in judge(results).matrix if square.eligible}
    replies = [reply for reply in replies if reply in eligible]
    for verdict in judge(results).moves:
        assert verdict.value is not None
        assert verdict.blind is not None
        assert verdict.value.point == pytest.approx(
            slow_value(results, [verdict.move], verdict.move, replies, units), rel=1e-12, abs=1e-12
        )
        assert verdict.blind.point == pytest.approx(
            slow_value(results, moves, verdict.move, replies, units), rel=1e-12, abs=1e-12
        )
        whole = {
            reply: fmean(slow_payoff(results, verdict.move, reply, seed, range(units)) for seed in results.config.seeds)
            for reply in replies
        }
        assert verdict.reply == min(whole, key=lambda reply: whole[reply])


def test_squares_are_the_mean_over_seeds() -> None:
    results = results_of(grid_of(), noisy(40))
    for square in judge(results).matrix:
        if square.move == "none":
            assert square.payoff is None
        else:
            slow = fmean(slow_payoff(results, square.move, square.reply, seed, range(40)) for seed in range(3))
            assert square.payoff is not None
            assert square.payoff.point == pytest.approx(slow, rel=1e-12, abs=1e-12)


@pytest.mark.usefixtures("few_resamples")
def test_choosing_among_equally_good_replies_is_not_rewarded() -> None:
    """Six replies leave exactly 0.5. Their raw minimum looks better than any of them; the value does not."""
    grid = grid_of(moves="loaded(bias=0.4)", countermoves=COUNTERMOVES, seeds=3)
    replies = [Reply(c, "thumb") for c in grid.config.countermoves]
    values, minima = [], []
    for replication in range(150):
        chance = np.random.default_rng(replication)

        def draw(s: Setting, chance: np.random.Generator = chance) -> np.ndarray:
            # The reference is known without noise, so the payoff is linear in the outcomes and 0.5 is exact.
            return np.full(40, 0.9) if s.move == "none" else (chance.random(40) < 0.5).astype(float)

        results = results_of(grid, draw)
        verdict = judge(results).moves[0]
        assert verdict.value is not None
        values.append(verdict.value.point)
        whole = [
            fmean(slow_payoff(results, verdict.move, reply, seed, range(40)) for seed in range(3)) for reply in replies
        ]
        minima.append(min(whole))
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    assert abs(fmean(values) - 0.5) < 3 * error
    assert fmean(minima) < 0.5 - 8 * error


def test_the_interval_covers_the_truth() -> None:
    """One reply is clearly the best and leaves 0.25; units and seeds vary. 95 % of the intervals should hold it."""
    grid = grid_of(moves=["loaded(bias=0.4)", "shaved"], countermoves=["shake"], seeds=3)
    inside, replications = 0, 60
    for replication in range(replications):
        chance = np.random.default_rng(replication)

        def draw(s: Setting, chance: np.random.Generator = chance) -> np.ndarray:
            if s.move == "none":
                return np.full(60, 0.9)
            mean = (0.7 if s.countermove == "shake" else 0.2) + chance.normal(0, 0.05)
            return (chance.random(60) < mean).astype(float)

        value = judge(results_of(grid, draw)).moves[0].value
        assert value is not None
        assert value.seeds_counted
        inside += value.low <= 0.25 <= value.high
    assert inside >= 0.88 * replications


def test_the_upper_bound_pays_for_every_reply_that_was_tried() -> None:
    for countermoves in (["none"], COUNTERMOVES):
        grid = grid_of(moves="loaded(bias=0.4)", countermoves=countermoves, seeds=3)
        value = judge(results_of(grid, noisy(40))).moves[0].value
        assert value is not None
        tail = 0.025 / len(countermoves)
        ratio = NormalDist().inv_cdf(1 - tail) / NormalDist().inv_cdf(0.975)
        assert (value.high - value.point) / (value.point - value.low) == pytest.approx(ratio)


def test_seeds_widen_the_interval_only_from_three_on() -> None:
    """Units that never vary leave no sampling error: what remains is the difference between seeds."""

    def draw(s: Setting) -> np.ndarray:
        return np.full(40, 0.9 if s.move == "none" else 0.5 + 0.1 * s.seed)

    two, three = (judge(results_of(grid_of(moves="shaved", seeds=n), draw)).moves[0].value for n in (2, 3))
    assert two is not None
    assert three is not None
    assert not two.seeds_counted
    assert two.high - two.low == pytest.approx(0, abs=1e-9)
    assert three.seeds_counted
    assert three.high - three.low > 0.2


def test_a_weak_reference_gives_a_wide_interval_and_not_a_wild_one() -> None:
    """Halves and resamples of a reference just outside the margin fall on chance itself now and then."""

    def draw(s: Setting) -> np.ndarray:
        right = 11 if s.move == "none" else 5
        return (np.random.default_rng(s.seed).permutation(50) < right).astype(float)

    value = judge(results_of(grid_of(), draw)).moves[0].value
    assert value is not None
    assert 0 < value.point < 2
    assert 0.2 < value.high - value.low < 4


def test_more_units_narrow_the_interval() -> None:
    few, many = (judge(results_of(grid_of(seeds=1), noisy(units))).moves[0].value for units in (20, 500))
    assert few is not None
    assert many is not None
    assert many.high - many.low < 0.5 * (few.high - few.low)
