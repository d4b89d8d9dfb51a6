"""Lists and hits without sorting, against sorting by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from countermove.errors import DataError
from countermove.recommender import ranking
from countermove.recommender.ranker import DotRanker
from countermove.recommender.ranking import Lists, hits_together, make_lists
from countermove.recommender.shop import Shop

TESTED, CANDIDATE, OUTSIDE = 0, 1, 2
"""In this order of equal scores."""


@dataclass(frozen=True)
class Case:
    """scores: integers [U, I], so that ties are many; candidates: [U, n], -1 where there is none; test: [U]."""

    scores: list[list[int]]
    candidates: list[list[int]]
    test: list[int]
    outside: list[list[int]]

    def lists(self) -> Lists:
        shop = shop_of(len(self.scores), len(self.scores[0]), self.test)
        ranker = ranker_of(torch.tensor(self.scores, dtype=torch.float32))
        return make_lists(ranker, shop, torch.tensor(self.candidates, dtype=torch.int32))

    def promoted(self) -> Tensor:
        return torch.tensor(self.outside, dtype=torch.float32)

    def ordered(self, user: int, *columns: int) -> list[tuple[int, int, int]]:
        """Return a user's list with items from outside put in: (minus score, kind, which), sorted."""
        inside = [(-self.scores[user][item], CANDIDATE, item) for item in self.candidates[user] if item >= 0]
        tested = [(-self.scores[user][item], TESTED, item) for item in self.test[user : user + 1] if item >= 0]
        put_in = [(-self.outside[user][column], OUTSIDE, column) for column in columns]
        return sorted([*inside, *tested, *put_in])

    def place(self, user: int, kind: int, which: int, *columns: int) -> int:
        """Return how many items stand before one of them."""
        return [entry[1:] for entry in self.ordered(user, *columns)].index((kind, which))


def shop_of(users: int, items: int, test: list[int]) -> Shop:
    return Shop(
        name="made-up",
        users=tuple(map(str, range(users))),
        items=tuple(map(str, range(items))),
        pictures=torch.zeros(items, 3, 8, 8, dtype=torch.uint8),
        train=torch.zeros(0, 2, dtype=torch.int64),
        validation=torch.full((users,), -1),
        test=torch.tensor(test),
        cold=torch.zeros(0, dtype=torch.int64),
    )


def ranker_of(scores: Tensor) -> DotRanker:
    """Return a ranker that gives user u and item i the score scores[u, i]."""
    users, items = scores.shape
    return DotRanker(
        network=nn.Identity(),
        projection=torch.eye(items),
        scale=None,
        seekers=scores,
        catalogue=torch.eye(items),
        user_factors=torch.zeros(users, 1),
        item_factors=torch.zeros(items, 1),
        item_bias=torch.zeros(items),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    users, items, n, cold = (draw(st.integers(1, top)) for top in (4, 7, 6, 5))
    score = st.integers(-2, 2)
    scores = draw(st.lists(st.lists(score, min_size=items, max_size=items), min_size=users, max_size=users))
    outside = draw(st.lists(st.lists(score, min_size=cold, max_size=cold), min_size=users, max_size=users))
    candidates, test = [], []
    for _ in range(users):
        order = draw(st.permutations(range(items)))
        test.append(order[0] if draw(st.booleans()) else -1)
        left = sorted(order[1 : 1 + draw(st.integers(0, n))])
        candidates.append([*left, *[-1] * (n - len(left))])
    return Case(scores, candidates, test, outside)


LENGTHS = range(1, 10)
"""The longest list of a case has 7 incumbents, so some lengths are longer than any list."""


@given(cases())
def test_hits_and_ranks_of_an_item_put_in_alone_are_those_of_sorting(case: Case) -> None:
    lists, outside = case.lists(), case.promoted()
    users, columns = range(len(case.scores)), range(len(case.outside[0]))
    places = [[case.place(u, OUTSIDE, c, c) for c in columns] for u in users]
    assert lists.ranks(outside).tolist() == places
    for length in LENGTHS:
        assert lists.hits(outside, length).tolist() == [[place < length for place in row] for row in places]


@given(cases())
def test_hits_of_the_tested_item_are_those_of_sorting(case: Case) -> None:
    lists, outside = case.lists(), case.promoted()
    users, columns = range(len(case.scores)), range(len(case.outside[0]))
    assert lists.has_test.tolist() == [item >= 0 for item in case.test]

    def beside(u: int, length: int, *put_in: int) -> bool:
        return case.test[u] >= 0 and case.place(u, TESTED, case.test[u], *put_in) < length

    for length in LENGTHS:
        assert lists.test_hits(length).tolist() == [beside(u, length) for u in users]
        by_hand = [[beside(u, length, c) for c in columns] for u in users]
        assert lists.test_hits(length, outside).tolist() == by_hand


@given(cases(), st.integers(1, 6))
def test_hits_of_items_put_in_together_are_those_of_sorting(case: Case, together: int) -> None:
    lists, outside = case.lists(), case.promoted()
    columns = list(range(len(case.outside[0])))
    groups = [columns[first : first + together] for first in range(0, len(columns), together)]
    for length in LENGTHS:
        by_hand = [
            [case.place(u, OUTSIDE, c, *group) < length for group in groups for c in group]
            for u in range(len(case.scores))
        ]
        assert hits_together(lists, outside, length, together).tolist() == by_hand


@given(cases())
def test_lists_hold_what_was_asked_in_order(case: Case) -> None:
    lists = case.lists()
    for u, row in enumerate(lists.scores.tolist()):
        entries = case.ordered(u)
        assert row == [-entry[0] for entry in entries] + [-torch.inf] * (len(row) - len(entries))
        if case.test[u] >= 0:
            assert float(lists.tested[u]) == case.scores[u][case.test[u]]
            assert int(lists.before[u]) == case.place(u, TESTED, case.test[u])


def test_ties_go_to_the_tested_item_then_to_incumbents_then_to_the_earlier_of_a_group() -> None:
    lists = Case([[3, 3, 1]], [[1, 2]], [0], [[3, 3, 3]]).lists()
    outside = torch.full((1, 3), 3.0)
    assert lists.test_hits(1).tolist() == [True]
    assert lists.test_hits(1, outside).tolist() == [[True] * 3]
    assert lists.ranks(outside).tolist() == [[2, 2, 2]]
    assert lists.hits(outside, 2).tolist() == [[False] * 3]
    assert lists.hits(outside, 3).tolist() == [[True] * 3]
    assert hits_together(lists, outside, 3, 3).tolist() == [[True, False, False]]


@given(cases(), st.integers(1, 6))
def test_an_item_that_is_kept_out_is_in_nobodys_list_and_pushes_nothing(case: Case, together: int) -> None:
    """Its score is minus infinity. However many places a list has left, it is not in it."""
    lists, outside = case.lists(), case.promoted()
    without = outside.clone()
    without[:, 0] = -torch.inf
    group = list(range(1, min(together, outside.shape[1])))
    for length in LENGTHS:
        assert not lists.hits(without, length)[:, 0].any()
        assert torch.equal(lists.test_hits(length, without)[:, 0], lists.test_hits(length))
        found = hits_together(lists, without, length, together)
        assert not found[:, 0].any()
        if group:
            alone = hits_together(lists, outside[:, group], length, max(2, len(group)))
            assert torch.equal(found[:, group], alone), "those beside it stand as if it were not there"


def test_users_are_taken_in_portions_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    source = torch.Generator().manual_seed(0)
    scores = torch.randn(13, 9, generator=source)
    candidates = torch.stack([torch.randperm(8, generator=source)[:4] + 1 for _ in range(13)])
    shop, ranker = shop_of(13, 9, [0] * 13), ranker_of(scores)
    whole = make_lists(ranker, shop, candidates)
    monkeypatch.setattr(ranking, "USERS_AT_ONCE", 5)
    again = make_lists(ranker, shop, candidates)
    assert torch.equal(whole.scores, again.scores)
    assert torch.equal(whole.tested, again.tested)
    assert torch.equal(whole.before, again.before)


def test_an_item_of_the_shop_put_in_from_outside_scores_as_in_its_list(shop: Shop) -> None:
    """A cold item that is scored by its picture alone meets incumbents that were scored from the catalogue."""
    scores = torch.randint(-3, 3, (12, 20), generator=torch.Generator().manual_seed(1)).float()
    ranker = ranker_of(scores)
    candidates = torch.stack([shop.warm[:6]] * 12)
    lists = make_lists(ranker, replace(shop, test=torch.full((12,), -1)), candidates)
    cold = ranker.visual(ranker.catalogue[shop.cold])
    for u in range(12):
        for c, item in enumerate(shop.cold.tolist()):
            before = int((scores[u, shop.warm[:6]] >= scores[u, item]).sum())
            assert int(lists.ranks(cold)[u, c]) == before


def test_scores_that_are_no_numbers_are_refused() -> None:
    scores = torch.zeros(2, 3)
    scores[1, 2] = torch.nan
    with pytest.raises(DataError, match="NaN; the ranker diverged"):
        make_lists(ranker_of(scores), shop_of(2, 3, [0, 0]), torch.tensor([[1, 2], [1, 2]]))
