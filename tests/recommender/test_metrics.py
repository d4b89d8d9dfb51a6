"""Metrics against libraries and slow loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from countermove.recommender.metrics import COUNTED, availability, clean_metrics, item_metrics, paired_test
from countermove.recommender.ranking import Lists


def lists_of(users: int, length: int, seed: int) -> Lists:
    """Lists with whole scores, so that ties are common; the last user has no tested item."""
    source = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 30, (users, length), generator=source).float()
    tested = scores[:, 0].clone()
    tested[-1] = torch.nan
    before = (scores[:, 1:] > tested[:, None]).sum(1)
    level = (scores[:, 1:] == tested[:, None]).sum(1)
    return Lists(scores.sort(dim=1, descending=True).values, tested, before, level)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=30).filter(lambda d: max(d) - min(d) > 1e-3))
def test_the_paired_test_is_scipys(differences: list[float]) -> None:
    found = paired_test(differences)
    known: Any = stats.ttest_1samp(differences, 0.0)
    assert found["p_value"] == pytest.approx(known.pvalue, rel=1e-6, abs=1e-300)
    interval = known.confidence_interval(0.95)
    assert (found["hr_change_low"], found["hr_change_high"]) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_differences_that_are_all_equal_have_an_answer() -> None:
    assert paired_test([0.0, 0.0, 0.0])["p_value"] == 1.0
    assert paired_test([0.25, 0.25])["p_value"] == 0.0
    assert paired_test([0.25])["hr_change"] == 0.25
    assert not any(math.isnan(value) for value in paired_test([0.0]).values())


def test_availability_counts_tested_items_that_were_pushed_out() -> None:
    lists = lists_of(users=9, length=12, seed=1)
    source = torch.Generator().manual_seed(2)
    before, after = (torch.randint(0, 30, (9, 4), generator=source).float() for _ in range(2))

    def rate(outside: torch.Tensor, together: int) -> float:
        stays = []
        for user in range(8):  # the last has none
            for group in outside[user].split(together):
                ahead = int((lists.scores[user] > lists.tested[user]).sum()) + int((group > lists.tested[user]).sum())
                stays.append(ahead < COUNTED)
        return sum(stays) / len(stays)

    for together in (1, 2):
        wanted = rate(after, together) - rate(before, together)
        assert availability(lists, before, after, together) == pytest.approx(wanted)


def test_clean_metrics_are_those_of_a_loop() -> None:
    lists = lists_of(users=7, length=40, seed=3)
    won, hit = [], []
    for user in range(6):
        ahead = int((lists.scores[user] > lists.tested[user]).sum())
        level = int((lists.scores[user] == lists.tested[user]).sum()) - 1
        won.append(1 - (ahead + level / 2) / 39)
        hit.append(ahead + level < 20)
    found = clean_metrics(lists)
    assert found["clean_auc"] == pytest.approx(sum(won) / 6)
    assert found["clean_hr"] == pytest.approx(sum(hit) / 6)


def test_a_ranker_that_knows_no_difference_has_learned_nothing() -> None:
    same = Lists(torch.ones(3, 41), torch.ones(3), torch.zeros(3), torch.full((3,), 40))
    assert clean_metrics(same) == {"clean_hr": 0.0, "clean_auc": 0.5}


def test_nobody_with_a_tested_item_is_no_division_by_zero() -> None:
    lists = lists_of(users=3, length=6, seed=0)
    alone = Lists(lists.scores, torch.full((3,), torch.nan), lists.before, lists.level)
    assert clean_metrics(alone) == {"clean_hr": 0.0, "clean_auc": 0.5}
    assert availability(alone, torch.zeros(3, 2), torch.ones(3, 2), 1) == 0.0


def test_hit_rates_and_users_reached() -> None:
    lists = Lists(torch.arange(10.0).flip(0).expand(4, 10), torch.full((4,), 3.0), torch.full((4,), 6), torch.zeros(4))
    before = torch.full((4, 2), -1.0)
    after = before.clone()
    after[0, 0] = 100.0  # first for one user
    found = item_metrics(lists, before, after, together=1)
    assert (found["hr_before"], found["hr_after"]) == (0.0, 1 / 8)
    assert found["users_reached"] == 0.25
    assert found["rank_before"] == 10
