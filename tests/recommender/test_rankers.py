"""The rankers' shortcuts against loops over users, and what fitting learns and leaves alone."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.nets.features import last_linear
from countermove.nets.registry import build_network
from countermove.pixels.randomness import generator
from countermove.recommender import visual_bpr
from countermove.recommender.fitting import Material, RankerMethod
from countermove.recommender.ranker import Aggregate, DotRanker, NearestRanker, Ranker, distances, load_ranker
from countermove.recommender.rankers import dvbpr
from countermove.recommender.rankers.alexrank import AlexRank
from countermove.recommender.rankers.amr import Amr
from countermove.recommender.rankers.dvbpr import Dvbpr
from countermove.recommender.rankers.vbpr import Vbpr
from countermove.recommender.shop import Shop
from countermove.recommender.triples import Triples

WIDTH = 32
"""Features of the network of these tests."""


def floats(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "floats"), dtype=torch.float64)


@pytest.fixture
def dot(network: nn.Module) -> DotRanker:
    """In float64: 12 users, 20 items, 5 visual and 3 item factors; cold items have none of the latter."""
    factors, bias = floats(20, 3, seed=5), floats(20, seed=6)
    for item in (8, 9, 18, 19):
        factors[item], bias[item] = 0, 0
    return DotRanker(
        network=network.double(),
        projection=floats(WIDTH, 5, seed=1),
        scale=torch.stack([floats(WIDTH, seed=2), 0.5 + floats(WIDTH, seed=2).abs()]),
        seekers=floats(12, 5, seed=3),
        catalogue=floats(20, 5, seed=4),
        user_factors=floats(12, 3, seed=7),
        item_factors=factors,
        item_bias=bias,
    )


@pytest.fixture
def nearest(network: nn.Module, shop: Shop) -> NearestRanker:
    """In float64; user 0 touched one item less than the others, so that weights differ."""
    profiles = torch.zeros(12, 20, dtype=torch.float64)
    for user, item in shop.train.tolist()[1:]:
        profiles[user, item] = 1 / 3 if user == 0 else 1 / 4
    return NearestRanker(network=network.double(), catalogue=floats(20, WIDTH, seed=8), profiles=profiles.to_sparse())


@pytest.fixture(params=["dot", "dot without scale", "nearest"])
def ranker(request: pytest.FixtureRequest) -> Ranker:
    if request.param == "dot without scale":
        return replace(request.getfixturevalue("dot"), scale=None)
    return request.getfixturevalue(request.param)


def features(network: nn.Module, pictures: Tensor) -> Tensor:
    """Return what enters the last layer, by taking that layer out."""
    headless = deepcopy(network)
    layer = last_linear(headless)
    for module in list(headless.modules()):
        for name, child in list(module.named_children()):
            if child is layer:
                setattr(module, name, nn.Identity())
    return headless(pictures)


def one_score(ranker: Ranker, user: int, feature: Tensor) -> Tensor:
    """Return what one user gives one item, known by the features [D] of its picture only; by the formula."""
    if isinstance(ranker, NearestRanker):
        row = ranker.profiles.to_dense()[user]
        far = [torch.linalg.vector_norm(feature - ranker.catalogue[item]) for item in row.nonzero().flatten()]
        return -torch.stack(far).mean()
    assert isinstance(ranker, DotRanker)
    if ranker.scale is not None:
        feature = (feature - ranker.scale[0]) / ranker.scale[1]
    return torch.dot(ranker.seekers[user], ranker.projection.t() @ feature)


def loop(ranker: Ranker, pictures: Tensor) -> list[list[Tensor]]:
    """Return scores [U][N], one at a time."""
    seen = features(ranker.network, pictures)
    return [[one_score(ranker, user, feature) for feature in seen] for user in range(ranker.users)]


@pytest.mark.parametrize("aggregate", ["sum", "sum-exp"])
def test_appeal_is_a_loop_over_users_in_value_and_gradient(
    ranker: Ranker, aggregate: Aggregate, pictures: Tensor
) -> None:
    fast_leaf, slow_leaf = pictures.clone().requires_grad_(), pictures.clone().requires_grad_()
    fast = ranker.appeal(ranker.embed(fast_leaf), aggregate)
    slow = [torch.zeros((), dtype=torch.float64) for _ in pictures]
    for row in loop(ranker, slow_leaf):
        slow = [
            total + (score.exp() if aggregate == "sum-exp" else score) for total, score in zip(slow, row, strict=True)
        ]
    slow = torch.stack(slow).log() if aggregate == "sum-exp" else torch.stack(slow)
    assert torch.allclose(fast, slow, rtol=1e-9, atol=0)
    (mine,) = torch.autograd.grad(fast.sum(), fast_leaf)
    (by_hand,) = torch.autograd.grad(slow.sum(), slow_leaf)
    for ours, theirs in zip(mine, by_hand, strict=True):
        assert float(theirs.abs().max()) > 0
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-9


def test_visual_scores_are_a_loop_over_users_in_value_and_gradient(ranker: Ranker, pictures: Tensor) -> None:
    fast_leaf, slow_leaf = pictures.clone().requires_grad_(), pictures.clone().requires_grad_()
    fast = ranker.visual(ranker.embed(fast_leaf))
    slow = torch.stack([torch.stack(row) for row in loop(ranker, slow_leaf)])
    assert torch.allclose(fast, slow, rtol=1e-9, atol=1e-12)
    weights = floats(*slow.shape, seed=11)
    (mine,) = torch.autograd.grad((fast * weights).sum(), fast_leaf)
    (by_hand,) = torch.autograd.grad((slow * weights).sum(), slow_leaf)
    assert float((mine - by_hand).abs().max() / by_hand.abs().max()) < 1e-9
    some = torch.tensor([7, 0, 3])
    assert torch.allclose(ranker.visual(ranker.embed(pictures), some), slow[some], rtol=1e-9, atol=1e-12)


def test_the_log_sum_of_exponentials_outlives_large_scores(dot: DotRanker) -> None:
    embedded = 1e3 * floats(2, 5, seed=9).float()
    large = float(dot.visual(embedded).max())
    assert large > 100, "the exponential of this is no float32"
    found = dot.appeal(embedded, "sum-exp")
    assert torch.allclose(found, dot.visual(embedded.double()).logsumexp(0).float())


def test_scores_of_the_catalogue_are_looks_and_factors(dot: DotRanker, shop: Shop) -> None:
    users, items = torch.tensor([11, 2]), torch.tensor([4, 9, 0])
    by_hand = [
        [
            dot.seekers[u] @ dot.catalogue[i] + dot.user_factors[u] @ dot.item_factors[i] + dot.item_bias[i]
            for i in items
        ]
        for u in users
    ]
    by_hand = torch.tensor(by_hand, dtype=torch.float64)
    assert torch.allclose(dot.score(users, items), by_hand)
    assert torch.allclose(dot.score(users)[:, items], by_hand)
    everyone = torch.arange(12)
    assert torch.allclose(dot.score(everyone, shop.cold), dot.visual(dot.catalogue[shop.cold]))
    assert not torch.allclose(dot.score(everyone, shop.warm), dot.visual(dot.catalogue[shop.warm]))


def test_scores_of_the_nearest_are_minus_mean_distances(nearest: NearestRanker) -> None:
    users, items = torch.tensor([11, 0]), torch.tensor([4, 9])
    by_hand = torch.stack([torch.stack([one_score(nearest, u, nearest.catalogue[i]) for i in (4, 9)]) for u in (11, 0)])
    assert torch.allclose(nearest.score(users, items), by_hand, atol=1e-6), "an item's distance to itself is 1e-6 here"
    assert torch.allclose(nearest.score(users)[:, items], nearest.score(users, items), atol=1e-6)
    assert torch.allclose(nearest.weights, nearest.profiles.to_dense().sum(0))


@pytest.mark.parametrize(("dtype", "offset", "atol"), [(torch.float64, 0, 1e-12), (torch.float32, 1000, 1e-3)])
def test_distances_are_those_of_pairs(dtype: torch.dtype, offset: float, atol: float) -> None:
    """Far from zero the squares are large against the distances; centred, the digits stay."""
    theirs, mine = (floats(n, 7, seed=n).to(dtype) + offset for n in (9, 4))
    exact = torch.cdist(theirs.double(), mine.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.allclose(distances(theirs, mine).double(), exact, rtol=1e-6, atol=atol)


def test_an_item_without_distance_has_a_finite_gradient() -> None:
    """Of its own to itself; the others' is as it was. These numbers are exact, so the distance is zero before it."""
    theirs = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]])
    mine = theirs[:1].clone().requires_grad_()
    far = distances(theirs, mine)
    assert torch.allclose(far[:, 0], torch.tensor([0.0, 4.0, 4.0, 32.0**0.5]), atol=1e-5)
    (gradient,) = torch.autograd.grad(far.sum(), mine)
    assert torch.allclose(gradient, torch.full((1, 2), -1 - 0.5**0.5))


@pytest.mark.parametrize("aggregate", ["sum", "sum-exp"])
def test_a_ranker_is_stored_and_read_to_the_last_bit(
    ranker: Ranker, aggregate: Aggregate, shop: Shop, tmp_path: Path
) -> None:
    assert isinstance(ranker, DotRanker | NearestRanker)
    ranker = replace(ranker, aggregate=aggregate)
    ranker.save(tmp_path / "ranker.safetensors")
    other = build_network("small-pooled(width=0.25)", 4, 16, generator(99)).double().eval()
    again = load_ranker(tmp_path / "ranker.safetensors", other)
    assert type(again) is type(ranker)
    assert again.aggregate == ranker.aggregate == aggregate
    assert again.users == ranker.users == 12
    everyone = torch.arange(12)
    assert torch.equal(again.score(everyone), ranker.score(everyone))
    pictures = shop.pictures[:5].double() / 255
    assert torch.equal(again.embed(pictures), ranker.embed(pictures))
    assert torch.equal(again.visual(again.embed(pictures)), ranker.visual(ranker.embed(pictures)))


def test_another_catalogue_changes_scores_of_a_copy_only(ranker: Ranker) -> None:
    everyone = torch.arange(12)
    before = ranker.score(everyone)
    moved = ranker.catalogue.clone()
    moved[8] += 1
    other = ranker.recatalogued(moved).score(everyone)
    same = [item for item in range(20) if item != 8]
    assert torch.allclose(other[:, same], before[:, same], atol=1e-6) or isinstance(ranker, NearestRanker)
    assert not torch.allclose(other[:, 8], before[:, 8])
    assert torch.equal(ranker.score(everyone), before)


def tied(dot: DotRanker) -> DotRanker:
    """Return it with scores that do not depend on the user: item i scores i % 3."""
    nothing = torch.zeros(20, 5, dtype=torch.float64)
    bias = torch.arange(20, dtype=torch.float64) % 3
    return replace(dot, catalogue=nothing, item_factors=nothing[:, :3], item_bias=bias)


def test_ranks_keep_the_order_given_among_equals(dot: DotRanker) -> None:
    assert tied(dot).rank(0, torch.tensor([6, 5, 0, 2, 4, 3])).tolist() == [5, 2, 4, 6, 0, 3]
    items = torch.randperm(20, generator=generator(0))
    scores = dot.score(torch.tensor([3]))[0].tolist()
    assert dot.rank(3, items).tolist() == sorted(items.tolist(), key=lambda item: -scores[item])


def test_recommended_are_the_best_that_the_user_did_not_touch(dot: DotRanker, shop: Shop) -> None:
    for user in (0, 5, 11):
        touched = {item for u, item in shop.train.tolist() if u == user}
        scores = dot.score(torch.tensor([user]))[0].tolist()
        free = [item for item in range(20) if item not in touched]
        by_hand = sorted(free, key=lambda item: -scores[item])
        assert dot.recommend(user, shop, 7).tolist() == by_hand[:7]
        assert dot.recommend(user, shop, 100).tolist() == by_hand
    assert tied(dot).recommend(0, shop, 4).tolist() == [5, 8, 11, 14], "user 0 touched 0 to 3"


def test_a_ranker_that_diverged_ranks_nothing(dot: DotRanker) -> None:
    dot.catalogue[3, 0] = torch.nan
    with pytest.raises(DataError, match="NaN"):
        dot.rank(0, torch.arange(20))


# Fitting.

FAST: dict[str, Any] = {"factors": 4, "visual": 4, "lr": 0.05, "batch_size": 16, "epochs": 12}
METHODS: dict[str, RankerMethod] = {
    "alexrank": AlexRank(),
    "vbpr": Vbpr(**FAST),
    "amr, features": Amr(**FAST),
    "amr, parameters": Amr(**FAST, adversary="parameters"),
    "dvbpr": Dvbpr(network="small-pooled(width=0.25)", visual=4, epochs=6, lr=0.01, batch_size=8),
}
Materials = Callable[[int], Material]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> RankerMethod:
    return METHODS[request.param]


def everything(ranker: Ranker) -> dict[str, Tensor]:
    return {**ranker.tensors(), **ranker.network.state_dict()}


def test_the_seed_decides_and_the_global_random_state_stays(method: RankerMethod, material: Materials) -> None:
    states = torch.get_rng_state(), random.getstate(), pickle.dumps(np.random.get_state())
    first, again, other = (method.fit(material(seed)) for seed in (0, 0, 1))
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1], states[2]) == (random.getstate(), pickle.dumps(np.random.get_state()))
    one, two, three = (everything(fitted.ranker) for fitted in (first, again, other))
    assert one.keys() == two.keys() == three.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert first.samples == again.samples
    if not isinstance(method, AlexRank):
        assert first.samples > 0
        assert not torch.equal(one["seekers"], three["seekers"])


def test_the_extractor_that_rankers_share_stays_as_it_is(
    method: RankerMethod, material: Materials, network: nn.Module
) -> None:
    for module in list(network.modules())[::2]:
        module.train()
    for parameter in list(network.parameters())[::2]:
        parameter.requires_grad_(False)
    modes = [module.training for module in network.modules()]
    flags = [parameter.requires_grad for parameter in network.parameters()]
    before = deepcopy(network.state_dict())
    ranker = method.fit(material(0)).ranker
    assert modes == [module.training for module in network.modules()]
    assert flags == [parameter.requires_grad for parameter in network.parameters()]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert (ranker.network is network) == (method.extractor() is not None)


def test_the_catalogue_holds_the_embedded_pictures(method: RankerMethod, material: Materials, shop: Shop) -> None:
    ranker = method.fit(material(0)).ranker
    embedded = ranker.embed_uint8(shop.pictures)
    assert torch.allclose(ranker.catalogue, embedded, rtol=1e-4, atol=1e-5)
    assert not any(tensor.requires_grad for tensor in ranker.tensors().values())
    assert ranker.aggregate == ("sum-exp" if isinstance(method, Dvbpr) else "sum")


def test_cold_items_are_known_by_their_pictures_only(method: RankerMethod, material: Materials, shop: Shop) -> None:
    ranker = method.fit(material(0)).ranker
    everyone = torch.arange(12)
    assert torch.allclose(ranker.score(everyone, shop.cold), ranker.visual(ranker.catalogue[shop.cold]), atol=1e-6)
    if isinstance(ranker, DotRanker):
        assert not ranker.item_factors[shop.cold].any()
        assert not ranker.item_bias[shop.cold].any()
        if not isinstance(method, Dvbpr):
            assert ranker.item_factors[shop.warm].any(dim=1).all()
            assert ranker.item_bias[shop.warm].any()


def test_planted_taste_is_learned(method: RankerMethod, material: Materials, shop: Shop) -> None:
    """Every user likes one colour: of untouched items, cold ones among them, those of that colour win. Chance: 1/2."""
    ranker = method.fit(material(0)).ranker
    scores = ranker.score(torch.arange(12))
    for items in (shop.cold, shop.warm):
        wins = []
        for user in range(12):
            touched = {item for u, item in shop.train.tolist() if u == user}
            free = [item for item in items.tolist() if item not in touched]
            mine, theirs = ([i for i in free if (i < 10) == own] for own in (user < 6, user >= 6))
            wins += [float(scores[user, a] > scores[user, b]) for a in mine for b in theirs]
        assert np.mean(wins) > 0.9


def test_nothing_is_learned_from_held_out_interactions(method: RankerMethod, material: Materials, shop: Shop) -> None:
    """Validation chooses among epochs, test does nothing: with one epoch neither changes what is learned."""
    if not isinstance(method, AlexRank):
        method = replace(method, epochs=1)  # pyright: ignore[reportArgumentType]
    elsewhere = replace(shop, test=shop.test.flip(0), validation=shop.validation.flip(0))
    one = method.fit(material(0)).ranker
    two = method.fit(replace(material(0), shop=elsewhere)).ranker
    assert all(torch.equal(tensor, everything(two)[name]) for name, tensor in everything(one).items())


# The pairwise loss and its adversary.

T = Triples(torch.tensor([0, 3, 0, 11]), torch.tensor([1, 5, 2, 14]), torch.tensor([12, 2, 12, 3]))


@pytest.fixture
def learned() -> visual_bpr.Parameters:
    """In float64, for the shop: 3 item factors, 4 visual ones, 6 features."""
    shapes = [(12, 3), (20, 3), (20,), (12, 4), (6, 4), (6,)]
    return visual_bpr.Parameters(*(floats(*shape, seed=k).requires_grad_() for k, shape in enumerate(shapes)))


def preferred(p: visual_bpr.Parameters, seen: Tensor) -> list[Tensor]:
    """Return how much better each triple's touched item scores, given all items' features [I, D]; by Eq. 2.2."""

    def score(u: int, i: int) -> Tensor:
        looks = torch.dot(p.seekers[u], p.projection.t() @ seen[i]) + torch.dot(p.looks, seen[i])
        return torch.dot(p.users[u], p.items[i]) + looks + p.bias[i]

    rows = torch.stack([T.users, T.liked, T.other], dim=1).tolist()
    return [score(u, i) - score(u, j) for u, i, j in rows]


def lost(preferences: list[Tensor]) -> Tensor:
    return -torch.stack(preferences).sigmoid().log().mean()


def test_what_was_learned_scores_by_the_formula(learned: visual_bpr.Parameters, shop: Shop) -> None:
    """With the visual bias, and without factors and bias of cold items."""
    seen = floats(20, 6, seed=20)
    ranker = visual_bpr._ranker(learned, nn.Identity(), seen, torch.zeros(2, 6), shop.cold)
    found = ranker.score(torch.arange(12))
    for u in range(12):
        for i in range(20):
            by_hand = torch.dot(learned.seekers[u], learned.projection.t() @ seen[i]) + torch.dot(
                learned.looks, seen[i]
            )
            if not shop.is_cold[i]:
                by_hand = by_hand + torch.dot(learned.users[u], learned.items[i]) + learned.bias[i]
            assert torch.isclose(found[u, i], by_hand)
    pairs = torch.tensor([[3, 8, 0], [19, 1, 1]])
    assert torch.allclose(ranker.pairs(torch.tensor([4, 0]), pairs), found[[4, 0]].gather(1, pairs))


def test_features_are_centred_and_have_a_mean_square_of_one_over_warm_items(material: Materials, shop: Shop) -> None:
    given = material(0)
    ranker = METHODS["vbpr"].fit(given).ranker
    assert isinstance(ranker, DotRanker)
    assert ranker.scale is not None
    assert given.table is not None
    scaled = (given.table[shop.warm] - ranker.scale[0]) / ranker.scale[1]
    assert torch.allclose(scaled.mean(0), torch.zeros(WIDTH), atol=1e-4)
    assert float(scaled.square().mean()) == pytest.approx(1, abs=1e-4)
    assert len(ranker.scale[1].unique()) == 1, "one width for all: what varies little still varies little"


def test_dvbpr_orders_by_its_networks_output(material: Materials, shop: Shop) -> None:
    """Scores leave the last layer's bias out, which is the same for all items of a user."""
    ranker = METHODS["dvbpr"].fit(material(0)).ranker
    assert isinstance(ranker, DotRanker)
    with torch.no_grad():
        output = ranker.network.eval()(shop.pictures.float() / 255)
    whole = ranker.seekers @ output.t() - ranker.score(torch.arange(12))
    assert torch.allclose(whole, whole[:, :1].expand_as(whole), atol=1e-4)
    assert float(ranker.seekers.abs().max()) > 0


def test_dvbpr_ranks_what_a_user_touched_above_what_they_did_not(shop: Shop, network: nn.Module) -> None:
    """Of a batch of two items user 0 touched one. Either it is drawn against itself, which is no pair, or it counts."""
    seekers = floats(12, 4, seed=1).float()
    with torch.no_grad():
        embedded = network(shop.pictures.float() / 255)

    def loss(train: list[list[int]], batch: list[int], seed: int) -> float:
        mine = replace(shop, train=torch.tensor(train))
        return float(dvbpr._loss(network, seekers, mine, torch.tensor(batch), generator(seed), "cpu").detach())

    wins = torch.dot(seekers[0], embedded[3] - embedded[12])
    by_hand = float(-torch.sigmoid(wins).log())
    found = [loss([[0, 3], [1, 5]], [12, 3], seed) for seed in range(20)]
    assert all(value in (0, pytest.approx(by_hand, rel=1e-4)) for value in found)
    assert 0 < np.mean([value > 0 for value in found]) < 1
    assert {loss([[0, 3], [0, 12]], [12, 3], seed) for seed in range(5)} == {0.0}, "who touched both prefers neither"


SETTINGS: dict[str, Any] = {"factors": 3, "visual": 4, "epochs": 1, "lr": 0.1, "batch_size": 4}


@pytest.mark.parametrize("reg", [0.0, 0.3])
def test_the_loss_of_vbpr_is_that_of_a_loop(learned: visual_bpr.Parameters, reg: float) -> None:
    seen = floats(20, 6, seed=20)
    found = visual_bpr.pairwise_loss(learned, T, seen, visual_bpr.Settings(reg=reg, **SETTINGS))
    rows = torch.zeros((), dtype=torch.float64)
    for u, i, j in zip(T.users, T.liked, T.other, strict=True):
        for row in (learned.users[u], learned.seekers[u], learned.items[i], learned.items[j]):
            rows = rows + (row**2).sum()
        rows = rows + learned.bias[i] ** 2 + learned.bias[j] ** 2
    by_hand = lost(preferred(learned, seen)) + reg * rows / 4
    assert torch.allclose(found, by_hand)
    for mine, theirs in zip(
        torch.autograd.grad(found, learned.all()), torch.autograd.grad(by_hand, learned.all()), strict=True
    ):
        assert torch.allclose(mine, theirs)


@pytest.mark.parametrize("eps", [0.0, 0.2])
def test_the_adversary_on_features_moves_both_items_and_raises_the_loss(
    learned: visual_bpr.Parameters, eps: float
) -> None:
    """In closed form: it takes its reach times the length of what the user looks for away, once for either item.

    Features have a mean square of one, so 6 of them are 6 ** 0.5 long, and it reaches eps times as far.
    """
    seen = floats(20, 6, seed=20)
    settings = visual_bpr.Settings(reg=0.0, eps=eps, weight=1.0, **SETTINGS)
    found = visual_bpr._against_adversary(learned, T, seen[T.liked], seen[T.other], settings)
    clean = preferred(learned, seen)
    wanted = [learned.projection @ learned.seekers[u] + learned.looks for u in T.users]
    lengths = [torch.linalg.vector_norm(row.detach()) for row in wanted]
    directions = [row.detach() / length for row, length in zip(wanted, lengths, strict=True)]
    by_hand = lost(
        [
            mine - 2 * eps * 6**0.5 * torch.dot(row, direction)
            for mine, row, direction in zip(clean, wanted, directions, strict=True)
        ]
    )
    assert torch.allclose(found, by_hand)
    assert (found > lost(clean) + 1e-3) == (eps > 0)
    gradients = torch.autograd.grad(found, learned.all())
    for mine, theirs in zip(gradients, torch.autograd.grad(by_hand, learned.all()), strict=True):
        assert torch.allclose(mine, theirs), "the change itself is not differentiated"


def test_the_adversary_on_parameters_moves_every_drawn_row_and_raises_the_loss(
    learned: visual_bpr.Parameters,
) -> None:
    seen = floats(20, 6, seed=20)
    settings = visual_bpr.Settings(reg=0.0, eps=0.2, weight=1.0, on_parameters=True, **SETTINGS)
    found = visual_bpr._against_adversary(learned, T, seen[T.liked], seen[T.other], settings)
    clean = lost(preferred(learned, seen))
    assert float((found - clean).detach()) > 1e-3
    changed = []
    for tensor, gradient in zip(learned.all(), torch.autograd.grad(clean, learned.all()), strict=True):
        whole = tensor is learned.looks  # one row; an item's bias is a row of its own
        change, rows = torch.zeros_like(gradient), tensor.detach()[None] if whole else tensor.detach()
        reach = 0.2 * sum(float(row.square().sum().sqrt()) for row in rows) / len(rows)
        for at in [...] if whole else range(len(gradient)):
            length = gradient[at].square().sum().sqrt()
            if length > 0:
                change[at] = reach * gradient[at] / length
        changed.append(tensor.detach() + change)
    assert torch.allclose(found, lost(preferred(visual_bpr.Parameters(*changed), seen)))
    kept = floats(12, 3, seed=0)
    assert torch.equal(learned.users.detach(), kept), "what is learned is not moved itself"


def test_the_whole_loss_of_amr_is_its_parts(learned: visual_bpr.Parameters) -> None:
    seen = floats(20, 6, seed=20)
    settings = visual_bpr.Settings(reg=0.1, eps=0.2, weight=0.7, **SETTINGS)
    found = visual_bpr.pairwise_loss(learned, T, seen, settings)
    plain = visual_bpr.pairwise_loss(learned, T, seen, visual_bpr.Settings(reg=0.1, **SETTINGS))
    against = visual_bpr._against_adversary(learned, T, seen[T.liked], seen[T.other], settings)
    assert torch.allclose(found, plain + 0.7 * against)


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        *[
            (build, {name: value}, f"{name} = {value}")
            for build in (Vbpr, Amr)
            for name, value in [("factors", 0), ("visual", -1), ("epochs", 0), ("lr", 0.0), ("batch_size", 0)]
        ],
        *[(Dvbpr, {name: 0}, f"{name} = 0") for name in ("visual", "epochs", "lr", "batch_size")],
        (Vbpr, {"reg": -0.1}, "-0.1"),
        (Dvbpr, {"reg": -0.1}, "-0.1"),
        (Amr, {"reg": -0.1}, "-0.1"),
        (Amr, {"eps": -0.5}, "eps = -0.5"),
        (Amr, {"weight": 0.0}, "weight = 0.0"),
        (Amr, {"weight": -1.0}, "weight = -1.0"),
        (Amr, {"adversary": "nobody"}, "unknown adversary 'nobody'; known: features, parameters"),
        (Amr, {"adversary": "parameter"}, "did you mean 'parameters'"),
        (AlexRank, {"groups": 1}, "2 taste groups"),
        (AlexRank, {"feature_epochs": 0}, "1 epoch"),
        *[(build, {"features": "small-pool"}, "did you mean 'small-pooled'") for build in (AlexRank, Vbpr, Amr)],
        (Dvbpr, {"network": "small-pool"}, "did you mean 'small-pooled'"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    build: Callable[..., object], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        build(**settings)
    assert message in str(refused.value)
