"""The first stage: candidates against a loop, the hand-written step against autograd, triples against the log."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.randomness import generator
from countermove.recommender import candidates
from countermove.recommender.candidates import Factors, FirstStage, choose_candidates, fit_bpr
from countermove.recommender.judges import Judges
from countermove.recommender.shop import Shop
from countermove.recommender.triples import draw_triples, epoch_of_triples

STAGE = FirstStage(candidates=5, factors=4, epochs=40, batch_size=16)


def factors(seed: int) -> Factors:
    source = generator(seed, "factors")
    return Factors(*(torch.randn(*shape, generator=source) for shape in ((12, 4), (20, 4), (20,))))


def touched_by(shop: Shop, user: int) -> set[int]:
    return {item for u, item in shop.train.tolist() if u == user}


def chosen_by_hand(shop: Shop, found: Factors, user: int, n: int) -> set[int]:
    left = set(range(20)) - touched_by(shop, user) - {int(shop.test[user])} - set(shop.cold.tolist())
    scores = {i: float(found.users[user] @ found.items[i] + found.bias[i]) for i in left}
    return set(sorted(scores, key=lambda item: -scores[item])[:n])


@pytest.mark.parametrize("n", [1, 5, 11, 16])
@pytest.mark.parametrize("at_once", [1, 5, 1024])
def test_candidates_are_the_best_that_are_left(n: int, at_once: int, shop: Shop, monkeypatch: Any) -> None:
    """16 items are not cold, and a user who has a test item touched 4 of them: 11 are left, 12 without a test item."""
    monkeypatch.setattr(candidates, "USERS_AT_ONCE", at_once)
    for seed in range(3):
        found = factors(seed)
        chosen = choose_candidates(shop, found, n)
        assert chosen.dtype == torch.int32
        assert chosen.shape == (12, n)
        for user, row in enumerate(chosen.tolist()):
            items = [item for item in row if item >= 0]
            assert set(items) == chosen_by_hand(shop, found, user, n)
            assert row == sorted(items) + [-1] * (n - len(items))
            assert len(items) == min(n, 12 if user == 5 else 11)


def test_a_user_who_touched_everything_has_no_candidates(shop: Shop) -> None:
    everything = [[0, item] for item in shop.warm.tolist() if item != int(shop.test[0])]
    others = [pair for pair in shop.train.tolist() if pair[0] > 0]
    chosen = choose_candidates(replace(shop, train=torch.tensor(everything + others)), factors(0), 3)
    assert chosen[0].tolist() == [-1, -1, -1]
    assert (chosen[1:] >= 0).all()


def test_more_candidates_than_items_are_refused(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="candidates = 17 is refused: made-up has 16 items that are not cold"):
        choose_candidates(shop, factors(0), 17)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *[({name: 0}, f"{name} = 0") for name in ("candidates", "factors", "epochs", "batch_size", "together")],
        ({"lr": 0.0}, "lr must be above 0"),
        ({"reg": -0.1}, "reg not negative"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FirstStage(**settings)


def test_scores_are_dot_products_plus_bias() -> None:
    found = factors(4)
    users, items = torch.tensor([3, 0]), torch.tensor([[1, 19, 4], [0, 0, 7]])
    whole = found.scores(users)
    for row, u in enumerate(users.tolist()):
        for i in range(20):
            assert torch.isclose(whole[row, i], found.users[u] @ found.items[i] + found.bias[i])
    assert torch.allclose(found.pairs(users, items), whole.gather(1, items))


@pytest.mark.parametrize("reg", [0.0, 0.3])
def test_the_hand_written_step_is_that_of_autograd(reg: float) -> None:
    """Users, items and pairs stand in the batch several times, and item 2 on both sides."""
    u, i, j = torch.tensor([0, 0, 3, 3, 1]), torch.tensor([1, 1, 2, 4, 2]), torch.tensor([2, 2, 5, 1, 5])
    source = generator(0, "step")
    start = [torch.randn(*shape, generator=source, dtype=torch.float64) for shape in ((4, 3), (6, 3), (6,))]
    stage = FirstStage(lr=0.7, reg=reg)
    leaves = [tensor.clone().requires_grad_() for tensor in start]
    users, items, bias = leaves
    loss = torch.zeros((), dtype=torch.float64)
    for a, b, c in zip(u.tolist(), i.tolist(), j.tolist(), strict=True):
        preference = users[a] @ items[b] + bias[b] - users[a] @ items[c] - bias[c]
        drawn = (users[a], items[b], items[c], bias[b], bias[c])
        loss = loss - torch.sigmoid(preference).log() + reg / 2 * sum((row**2).sum() for row in drawn)
    gradients = torch.autograd.grad(loss, leaves)
    by_hand = [tensor - 0.7 * gradient for tensor, gradient in zip(start, gradients, strict=True)]
    moved = [tensor.clone() for tensor in start]
    candidates._step(moved[0], moved[1], moved[2], u, i, j, stage)
    for mine, theirs in zip(moved, by_hand, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-12)


def everything(found: Factors) -> list[Tensor]:
    return [found.users, found.items, found.bias]


def test_the_seed_decides_and_the_global_random_state_stays(shop: Shop) -> None:
    state = torch.get_rng_state()
    (one, seen), (two, again), (other, _) = (fit_bpr(shop, STAGE, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert seen == again == 40 * len(shop.train)
    assert all(torch.equal(a, b) for a, b in zip(everything(one), everything(two), strict=True))
    assert not torch.equal(one.items, other.items)


def test_planted_taste_is_learned(shop: Shop) -> None:
    """Untouched items of the colour that a user likes, held-out ones among them, win. Chance: 1/2."""
    for seed in range(3):
        found, _ = fit_bpr(shop, STAGE, seed=seed)
        scores = found.scores(torch.arange(12))
        wins = []
        for user in range(12):
            free = [item for item in shop.warm.tolist() if item not in touched_by(shop, user)]
            mine, theirs = ([i for i in free if (i < 10) == own] for own in (user < 6, user >= 6))
            wins += [float(scores[user, a] > scores[user, b]) for a in mine for b in theirs]
        assert np.mean(wins) > 0.9


def test_the_epoch_that_validates_best_is_kept(shop: Shop, monkeypatch: Any) -> None:
    """Epochs 5, 10, 12 are judged; the second of three wins, so it is as if one had stopped there."""
    verdicts = iter([0.2, 0.6, 0.6])
    monkeypatch.setattr(Judges, "quality", lambda *_: next(verdicts))
    kept, seen = fit_bpr(shop, replace(STAGE, epochs=12), seed=0)
    assert seen == 12 * len(shop.train)
    verdicts = iter([0.2, 0.6])
    monkeypatch.setattr(Judges, "quality", lambda *_: next(verdicts))
    stopped, _ = fit_bpr(shop, replace(STAGE, epochs=10), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(everything(kept), everything(stopped), strict=True))


def test_the_last_epoch_is_kept_where_nobody_can_judge(shop: Shop, monkeypatch: Any) -> None:
    blind = replace(shop, validation=torch.full((12,), -1))
    kept, _ = fit_bpr(blind, replace(STAGE, epochs=12), seed=0)
    rising = iter([0.1, 0.2, 0.3])
    monkeypatch.setattr(Judges, "quality", lambda *_: next(rising))
    last, _ = fit_bpr(shop, replace(STAGE, epochs=12), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(everything(kept), everything(last), strict=True))


def test_factors_that_grow_without_bound_are_refused(shop: Shop) -> None:
    with pytest.raises(DataError, match="diverged"):
        fit_bpr(shop, replace(STAGE, lr=1e6, epochs=20), seed=0)


def test_judges_count_won_comparisons(shop: Shop) -> None:
    judges = Judges(shop, 0)
    assert judges.users.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert not shop.is_cold[judges.others].any()
    scores = torch.randint(3, (12, 20), generator=generator(0)).float()
    won = [
        float(scores[user, shop.validation[user]] > scores[user, item])
        for user, row in zip(judges.users.tolist(), judges.others.tolist(), strict=True)
        for item in row
    ]
    assert judges.quality(lambda users, items: scores[users].gather(1, items)) == pytest.approx(np.mean(won))
    assert torch.equal(judges.others, Judges(shop, 0).others)
    assert not torch.equal(judges.others, Judges(shop, 1).others)
    assert Judges(replace(shop, validation=torch.full((12,), -1)), 0).quality(lambda *_: torch.zeros(0)) == 0


def test_triples_hold_an_interaction_and_an_untouched_item_that_is_not_cold(shop: Shop) -> None:
    log = {(u, i) for u, i in shop.train.tolist()}
    triples = draw_triples(shop, 5000, generator(0))
    assert len(triples.users) == len(triples.liked) == len(triples.other) == 5000
    drawn, others = Counter(), Counter()
    for u, i, j in zip(triples.users.tolist(), triples.liked.tolist(), triples.other.tolist(), strict=True):
        assert (u, i) in log
        assert (u, j) not in log
        assert j not in shop.cold.tolist()
        drawn[u, i] += 1
        others[u, j] += 1
    assert drawn.keys() == log, "every interaction is drawn"
    assert max(drawn.values()) < 2 * min(drawn.values()), "all alike: 104 times each on average"
    assert len(others) == 12 * (16 - 4), "and every untouched item: 35 times each"
    assert min(others.values()) > 10


def test_an_epoch_has_as_many_triples_as_interactions(shop: Shop) -> None:
    sizes = [len(triples.users) for triples in epoch_of_triples(shop, 20, generator(0))]
    assert sizes == [20, 20, 8]


def test_who_touched_everything_is_in_no_triple(shop: Shop) -> None:
    full = replace(shop, train=torch.tensor([[0, item] for item in shop.warm.tolist()] + [[1, 3]]))
    triples = draw_triples(full, 400, generator(0))
    assert 0 < len(triples.users) < 400
    assert triples.users.unique().tolist() == [1]


def test_membership_is_that_of_the_log(shop: Shop) -> None:
    users, items = torch.meshgrid(torch.arange(12), torch.arange(20), indexing="ij")
    log = {(u, i) for u, i in shop.train.tolist()}
    by_hand = [[(u, i) in log for i in range(20)] for u in range(12)]
    assert shop.touched(users, items).tolist() == by_hand
    assert torch.allclose(shop.profiles.to_dense(), torch.tensor(by_hand).float() / 4)
    assert shop.popularity.tolist() == [sum(row[i] for row in by_hand) for i in range(20)]
