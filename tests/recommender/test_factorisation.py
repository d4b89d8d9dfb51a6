"""A fitted VBPR that is trained further: it is the ranker it came from, and changes where it may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from countermove.errors import ConfigError
from countermove.pixels.randomness import generator
from countermove.recommender.defences.amr import AdversarialRanking
from countermove.recommender.factorisation import Factorisation, go_on
from countermove.recommender.fitting import Fitted, Material
from countermove.recommender.ranker import DotRanker
from countermove.recommender.rankers.amr import Amr
from countermove.recommender.rankers.vbpr import Vbpr
from countermove.recommender.triples import Triples, epoch_of_triples

VBPR = Vbpr(epochs=4, factors=4, visual=3, features="small-pooled(width=0.25)", batch_size=16, lr=0.05)
SETTINGS = Amr(epochs=4, factors=4, visual=3, batch_size=16, eps=0.3).settings()
TABLES = {"users": "user_factors", "items": "item_factors", "seekers": "seekers", "bias": "item_bias"}
WAYS = {
    "full": {"users", "items", "seekers", "bias", "projection", "looks"},
    "critical-layers(layers=[projection, looks])": {"projection", "looks"},
    "critical-layers(layers=[seekers])": {"seekers"},
    "mask(sparsity=0.2)": {"projection", "looks"},
    "mask(sampler=bernoulli, scale=1.0, sparsity=0.2)": {"projection", "looks"},
    "mask(embeddings=true, sparsity=0.2)": {"users", "items", "seekers", "projection", "looks"},
    "bitfit": {"bias"},
}


@pytest.fixture
def fitted(material: Callable[[int], Material]) -> Material:
    """What a ranker goes on from, with the one that was there before."""
    given = material(0)
    return replace(given, before=VBPR.fit(given).ranker)


def before_of(material: Material) -> DotRanker:
    assert isinstance(material.before, DotRanker)
    return material.before


def after(material: Material, way: str, examples: int = 0) -> tuple[Fitted, DotRanker]:
    found = go_on(material, SETTINGS, adaptation=way, examples=examples)
    assert isinstance(found.ranker, DotRanker)
    return found, found.ranker


def scaled(material: Material) -> torch.Tensor:
    scale = before_of(material).scale
    assert scale is not None
    return (material.features()[1] - scale[0]) / scale[1]


def parts(ranker: DotRanker) -> dict[str, torch.Tensor]:
    held = {part: getattr(ranker, name) for part, name in TABLES.items()}
    return {**held, "projection": ranker.projection[:, :-1], "looks": ranker.projection[:, -1]}


def test_it_is_the_ranker_it_was_made_from(fitted: Material) -> None:
    before = before_of(fitted)
    again = Factorisation(before).ranker(before, scaled(fitted), fitted.shop.cold)
    for name, tensor in before.tensors().items():
        assert torch.allclose(again.tensors()[name], tensor, atol=1e-6), name


def test_what_it_prefers_is_what_the_ranker_scores_higher(fitted: Material) -> None:
    before, features = before_of(fitted), scaled(fitted)
    t = Triples(torch.tensor([0, 3, 7]), torch.tensor([1, 4, 12]), torch.tensor([13, 15, 2]))
    found = Factorisation(before).preference(t, features[t.liked], features[t.other])
    liked, other = (before.pairs(t.users, items[:, None])[:, 0] for items in (t.liked, t.other))
    assert torch.allclose(found, liked - other, atol=1e-4)


def test_rows_decay_as_they_did_when_it_was_fitted(fitted: Material) -> None:
    before = before_of(fitted)
    t = Triples(torch.tensor([0, 3]), torch.tensor([1, 4]), torch.tensor([13, 1]))
    wanted = 0.0
    for user, liked, other in zip(t.users.tolist(), t.liked.tolist(), t.other.tolist(), strict=True):
        wanted += float(before.user_factors[user].square().sum() + before.seekers[user, :-1].square().sum())
        for item in (liked, other):
            wanted += float(before.item_factors[item].square().sum() + before.item_bias[item] ** 2)
    assert float(Factorisation(before).decay(t).detach()) == pytest.approx(wanted / 2, rel=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_changes_but_what_may(way: str, fitted: Material) -> None:
    old = {name: tensor.clone() for name, tensor in parts(before_of(fitted)).items()}
    state = torch.get_rng_state()
    found, ranker = after(fitted, way)
    assert torch.equal(torch.get_rng_state(), state), "the global random state stays"
    new = parts(ranker)
    assert {name for name in old if not torch.allclose(new[name], old[name], atol=1e-6)} == WAYS[way]
    for name, tensor in parts(before_of(fitted)).items():
        assert torch.equal(tensor, old[name]), "the ranker before it is left alone"
    assert not ranker.item_factors[fitted.shop.cold].any()
    assert torch.allclose(ranker.catalogue, ranker.project(fitted.features()[1]), atol=1e-5)
    numbers = {name: tensor.numel() for name, tensor in old.items()} | {"seekers": 12 * 3}
    assert 0 < found.change.parameters_changed <= sum(numbers[name] for name in WAYS[way])
    assert found.change.bytes_stored > 0
    assert found.change.clean_examples == len(fitted.shop.train)
    assert found.samples == 4 * 2 * len(fitted.shop.train), "every triple, and once more under the adversary"


@pytest.mark.skipif(not find_spec("peft"), reason="the package peft is not installed")
@pytest.mark.parametrize(
    ("way", "changed", "numbers"),
    [
        ("lora(rank=2)", {"projection", "looks"}, 2 * (32 + 3) + 2 * (32 + 1)),
        (
            "lora(embeddings=true, rank=2)",
            {"projection", "looks", "users", "items", "seekers"},
            2 * (32 + 3) + 2 * (32 + 1) + 2 * (12 + 4) + 2 * (20 + 4) + 2 * (12 + 3),
        ),
    ],
)
def test_low_rank_updates_of_how_pictures_are_looked_at(
    way: str, changed: set[str], numbers: int, fitted: Material
) -> None:
    old = parts(before_of(fitted))
    found, ranker = after(fitted, way)
    new = parts(ranker)
    assert {name for name in old if not torch.allclose(new[name], old[name], atol=1e-6)} == changed
    assert torch.linalg.matrix_rank(new["projection"] - old["projection"], rtol=1e-3) <= 2
    assert found.change.parameters_changed == numbers


def test_the_same_seed_gives_the_same_ranker_and_another_one_another(fitted: Material) -> None:
    way = "mask(sampler=bernoulli, scale=0.05)"
    first, second = after(fitted, way)[1], after(fitted, way)[1]
    assert torch.equal(first.projection, second.projection)
    assert not torch.equal(after(replace(fitted, seed=1), way)[1].projection, first.projection)


def test_few_interactions_are_all_that_is_drawn(fitted: Material) -> None:
    found, _ = after(fitted, "full", examples=5)
    assert found.change.clean_examples == 5
    assert found.samples == 4 * 2 * 5
    few = fitted.shop.train[torch.tensor([3, 7])]
    drawn = list(epoch_of_triples(fitted.shop, 1, generator(0), among=few))
    assert len(drawn) == 2
    for t in drawn:
        assert [int(t.users), int(t.liked)] in few.tolist()
        assert not fitted.shop.touched(t.users, t.other).any(), "no user's own item, also none that is not drawn"


def test_it_learns_against_the_adversary(fitted: Material) -> None:
    from countermove.recommender.visual_bpr import pairwise_loss

    features, shop = scaled(fitted), fitted.shop
    (t,) = epoch_of_triples(shop, len(shop.train), generator(9))

    def loss(ranker: DotRanker) -> float:
        return float(pairwise_loss(Factorisation(ranker), t, features, SETTINGS).detach())

    assert loss(after(fitted, "full(lr=0.01)")[1]) < loss(before_of(fitted)) - 0.01


def test_a_share_is_measured_and_paid(fitted: Material) -> None:
    for by, looks in (("gradients", 3 + 1), ("rewinding", 2 * 2)):
        way = f"critical-layers(by={by}, share=0.5, steps=2)"
        found, ranker = after(fitted, way)
        old, new = parts(before_of(fitted)), parts(ranker)
        changed = {name for name in old if not torch.allclose(new[name], old[name], atol=1e-6)}
        assert changed
        assert changed < set(old)
        assert found.samples > 4 * 2 * len(fitted.shop.train) + looks


def test_what_means_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="adversary=features"):
        AdversarialRanking(adversary="parameters", adaptation="bitfit")
    with pytest.raises(ConfigError, match="give an adaptation"):
        AdversarialRanking(examples=5)
    with pytest.raises(ConfigError, match="did you mean 'mask'"):
        AdversarialRanking(adaptation="masks")
