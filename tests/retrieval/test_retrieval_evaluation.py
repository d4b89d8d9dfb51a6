"""Average precision of both protocols by hand, against a slow loop, and what must not change it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.randomness import generator
from countermove.retrieval.collection import Wanted
from countermove.retrieval.evaluation import evaluate, ranking, ranks_of


def wanted(positive: list[int], ignored: list[int] | None = None) -> Wanted:
    return Wanted(positive=torch.tensor(positive).long(), ignored=torch.tensor(ignored or []).long())


def judged(results: str, **settings: Any) -> Any:
    """Judge one list of results: + wanted, - not, ? ignored, from the best to the worst."""
    count = len(results)
    want = wanted(*[[i for i, mark in enumerate(results) if mark == kind] for kind in "+?"])
    return evaluate(-torch.arange(count, dtype=torch.float64)[None], [want], torch.arange(count), **settings)


@pytest.mark.parametrize(
    ("results", "trapezoid", "plain"),
    [
        ("+-", 1.0, 1.0),
        ("-+", (0 / 1 + 1 / 2) / 2, 1 / 2),
        ("+-+", ((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 2, (1 + 2 / 3) / 2),
        ("-+--+", ((0 + 1 / 2) / 2 + (1 / 4 + 2 / 5) / 2) / 2, (1 / 2 + 2 / 5) / 2),
        ("?+?-?+", ((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 2, (1 + 2 / 3) / 2),
        ("--+", (0 / 2 + 1 / 3) / 2, 1 / 3),
    ],
)
def test_average_precision_by_hand(results: str, trapezoid: float, plain: float) -> None:
    assert judged(results).mean_ap == pytest.approx(trapezoid, abs=1e-12)
    assert judged(results, protocol="plain").mean_ap == pytest.approx(plain, abs=1e-12)


@pytest.mark.parametrize(
    ("results", "first", "precision"),
    [("-+--+", 1, 0), ("-+--+", 5, 2 / 5), ("-+------------", 10, 1 / 2), ("?+?+--+", 2, 1), ("+" * 12, 10, 1)],
)
def test_precision_among_the_first_ends_at_the_last_hit(results: str, first: int, precision: float) -> None:
    assert judged(results, places=[first]).mean_precision == {first: pytest.approx(precision)}


def slow(scores: list[float], positive: set[int], ignored: set[int], protocol: str) -> float:
    """Average precision as one would say it aloud."""
    area = place = hits = 0
    for column in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if column in ignored:
            continue
        before = hits / place if place else 1.0
        place += 1
        if column in positive:
            hits += 1
            area += hits / place if protocol == "plain" else (before + hits / place) / 2
    return area / len(positive)


@given(
    st.integers(1, 12), st.integers(1, 4), st.randoms(use_true_random=False), st.sampled_from(["trapezoid", "plain"])
)
def test_average_precision_against_a_loop(count: int, queries: int, luck: Any, protocol: Any) -> None:
    indexed = [10 + 3 * i for i in range(count)]
    luck.shuffle(indexed)
    scores = [luck.sample(range(1000), count) for _ in range(queries)]
    kinds = [[luck.choice("+-?") for _ in range(count)] for _ in range(queries)]
    want = [wanted(*[[indexed[i] for i in range(count) if of[i] == kind] for kind in "+?"]) for of in kinds]
    ap = evaluate(torch.tensor(scores).double(), want, torch.tensor(indexed), protocol=protocol).ap
    for row, of in enumerate(kinds):
        positive, ignored = ({i for i in range(count) if of[i] == kind} for kind in "+?")
        if positive:
            assert float(ap[row]) == pytest.approx(slow(scores[row], positive, ignored, protocol), abs=1e-12)
        else:
            assert math.isnan(ap[row])


def test_a_query_that_wants_nothing_is_in_no_mean() -> None:
    scores = torch.tensor([[2.0, 1.0], [2.0, 1.0]])
    quality = evaluate(scores, [wanted([]), wanted([1])], torch.arange(2))
    assert quality.ap.isnan().tolist() == [True, False]
    assert quality.mean_ap == pytest.approx(0.25)
    assert quality.mean_precision == {1: 0, 5: 0.5, 10: 0.5}


def test_ranks_go_up_where_junk_is_taken_out() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.7]])
    assert ranks_of(scores).tolist() == [[3, 0, 2, 1]]
    assert ranks_of(scores, ignored=torch.tensor([[False, True, False, False]])).tolist() == [[2, -1, 1, 0]]


def test_equal_scores_do_not_reward_the_order_of_the_collection() -> None:
    """An engine that says nothing must be at chance for groups that stand first."""
    count = 400
    scores = torch.zeros(1, count)
    ap = evaluate(scores, [wanted(list(range(40)))], torch.arange(count)).mean_ap
    assert 0.05 < ap < 0.2
    assert ranking(scores)[0].sort().values.tolist() == list(range(count))
    assert torch.equal(ranking(scores), ranking(scores))


def test_better_ranks_are_never_worse() -> None:
    source = generator(0, "monotone")
    scores = torch.rand(1, 20, generator=source, dtype=torch.float64)
    want = [wanted([3, 7, 11])]

    def ap(values: Tensor) -> float:
        return evaluate(values, want, torch.arange(20)).mean_ap

    raised = scores.clone()
    raised[0, [3, 7, 11]] += 0.3
    assert ap(raised) > ap(scores)
    assert ap(raised + 1) == ap(raised)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wanted": [wanted([5])]}, "not indexed"),
        ({"wanted": [wanted([1], [1])]}, "one of them only"),
        ({"scores": torch.full((1, 3), torch.nan)}, "NaN"),
    ],
)
def test_what_cannot_be_judged_is_refused(change: dict[str, Any], message: str) -> None:
    given = {"scores": torch.rand(1, 3), "wanted": [wanted([1])], "indexed": torch.arange(3), **change}
    with pytest.raises(DataError, match=message):
        evaluate(**given)


def test_an_unknown_protocol_and_no_places_are_refused() -> None:
    with pytest.raises(ConfigError, match="trapezoid"):
        judged("+-", protocol="trapezoidal")
    with pytest.raises(ConfigError, match="1 or more"):
        judged("+-", places=[0])
