"""Taste groups, the features and where they come from."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from countermove.errors import ConfigError, DataError, WeightsError
from countermove.nets.weights import save_weights
from countermove.pixels.randomness import generator
from countermove.recommender.candidates import Factors
from countermove.recommender.extractor import Extractor, feature_table, features_of, taste
from countermove.recommender.shop import Shop

SMALL = "small-pooled(width=0.25)"
FAST = Extractor(network=SMALL, groups=2, epochs=2)


@pytest.fixture
def factors() -> Factors:
    """Red items on one side, blue ones on the other; cold ones anywhere."""
    source = generator(0, "factors")
    items = 0.1 * torch.randn(20, 4, generator=source) + torch.tensor([1.0] * 10 + [-1.0] * 10)[:, None]
    items[[8, 9, 18, 19]] = 100 * torch.randn(4, 4, generator=source)
    return Factors(torch.randn(12, 4, generator=source), items, torch.zeros(20))


def test_taste_groups_are_the_clusters_of_what_was_learned_of_items(shop: Shop, factors: Factors) -> None:
    groups = taste(shop, factors, 2, seed=0)
    assert groups.dtype == torch.int64
    assert groups[shop.cold].tolist() == [-1] * 4, "nothing was learned of cold items"
    red, blue = groups[:8], groups[10:18]
    assert len(red.unique()) == len(blue.unique()) == 1
    assert sorted([int(red[0]), int(blue[0])]) == [0, 1]
    assert torch.equal(taste(shop, factors, 5, seed=3), taste(shop, factors, 5, seed=3))
    assert sorted(taste(shop, factors, 5, seed=3).unique().tolist()) == [-1, 0, 1, 2, 3, 4]


def test_the_bias_of_an_item_is_a_part_of_its_taste(shop: Shop) -> None:
    bias = torch.tensor([5.0, -5.0] * 10)
    nothing = Factors(torch.zeros(12, 2), torch.zeros(20, 2), bias + 0.01 * torch.arange(20))
    groups = taste(shop, nothing, 2, seed=0)[shop.warm]
    assert torch.equal(groups == groups[0], bias[shop.warm] > 0)


def test_more_groups_than_items_are_refused(shop: Shop, factors: Factors) -> None:
    with pytest.raises(DataError, match="made-up has 16 items that are not cold, too few for 17 taste groups"):
        taste(shop, factors, 17, seed=0)


@pytest.mark.parametrize("names", [(), ("everything",)])
def test_categories_that_are_absent_are_refused(names: tuple[str, ...], shop: Shop, factors: Factors) -> None:
    without = replace(shop, categories=names)
    with pytest.raises(DataError, match="made-up has no categories to train features on; take labels=taste"):
        replace(FAST, labels="category").fit(without, factors, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "small-pool"}, "did you mean 'small-pooled'"),
        ({"groups": 1}, "at least 2 taste groups"),
        ({"epochs": 0}, "1 epoch"),
        ({"network": "torchvision:alexnet", "adversary": 8 / 255}, "only networks of ours are trained robustly"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Extractor(**settings)


def test_features_are_what_enters_the_last_layer(network: nn.Module, shop: Shop) -> None:
    layers = list(deepcopy(network).modules())
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    pictures = (shop.pictures[:3].float() / 255).requires_grad_()
    found = features_of(network, pictures)
    assert found.shape == (3, 32)
    assert torch.allclose(found @ last.weight.t() + last.bias, network(pictures), atol=1e-6)
    (gradient,) = torch.autograd.grad(found.square().sum(), pictures)
    assert gradient.abs().amax(dim=(1, 2, 3)).min() > 0


def test_the_table_has_a_row_an_item_and_leaves_the_network_alone(network: nn.Module, shop: Shop) -> None:
    network.train()
    before = deepcopy(network.state_dict())
    table = feature_table(network, shop.pictures)
    assert table.shape == (20, 32)
    assert table.dtype == torch.float32
    assert not table.requires_grad
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    one_by_one = [features_of(network.eval(), picture[None].float() / 255).detach() for picture in shop.pictures]
    assert torch.allclose(table, torch.cat(one_by_one), atol=1e-5), "in evaluation mode"


@pytest.mark.parametrize("labels", ["taste", "category"])
def test_a_network_is_trained_on_warm_pictures_reproducibly(labels: Any, shop: Shop, factors: Factors) -> None:
    asked = replace(FAST, labels=labels)
    state = torch.get_rng_state()
    (one, log), (two, _), (other, _) = (asked.fit(shop, factors, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert log is not None
    assert log.samples == 2 * 16, "2 epochs of 16 warm pictures"
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    repainted = shop.pictures.clone()
    repainted[shop.cold] = 0
    unseen, _ = asked.fit(replace(shop, pictures=repainted), factors, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), unseen.parameters(), strict=True))
    untrained = asked.build(shop, seed=0)
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), untrained.parameters(), strict=True))
    assert feature_table(one, shop.pictures).shape == (20, 32)


def test_items_without_a_category_are_not_trained_on(shop: Shop, factors: Factors) -> None:
    category = shop.category.clone()
    category[:5] = -1
    _, log = replace(FAST, labels="category").fit(replace(shop, category=category), factors, seed=0)
    assert log is not None
    assert log.samples == 2 * 11


def test_taste_can_be_seen_in_pictures(shop: Shop, factors: Factors) -> None:
    network, log = replace(FAST, epochs=15).fit(shop, factors, seed=0)
    assert log is not None
    assert log.train_accuracy[-1] > 0.9
    table = feature_table(network, shop.pictures)
    same = F.cosine_similarity(table[8:10].repeat(2, 1), table[[0, 1, 2, 3]]).mean()
    other = F.cosine_similarity(table[8:10].repeat(2, 1), table[[10, 11, 12, 13]]).mean()
    assert same > other, "new red items look like the red ones"


def test_training_against_an_adversary_costs_its_steps_and_gives_another_network(shop: Shop, factors: Factors) -> None:
    plain, _ = FAST.fit(shop, factors, seed=0)
    robust, log = replace(FAST, adversary=8 / 255).fit(shop, factors, seed=0)
    assert log is not None
    assert log.samples == 2 * 16 * (1 + 5)
    assert all(tensor.isfinite().all() for tensor in robust.state_dict().values())
    assert not torch.equal(feature_table(plain, shop.pictures), feature_table(robust, shop.pictures))


def test_a_network_from_elsewhere_is_never_a_random_one(
    shop: Shop, factors: Factors, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    asked = Extractor(network="torchvision:alexnet")
    with pytest.raises(WeightsError, match="alexnet"):
        asked.build(shop, seed=0)
    with pytest.raises(WeightsError, match="alexnet"):
        asked.fit(shop, factors, seed=0)


def test_a_network_from_elsewhere_sees_larger_pictures_and_is_not_trained(
    shop: Shop, factors: Factors, network: nn.Module, tmp_path: Path
) -> None:
    save_weights(network, tmp_path / "weights.safetensors")
    asked = Extractor(network=f"checkpoint:{tmp_path}/weights.safetensors(model=small-pooled, width=0.25, classes=4)")
    loaded, log = asked.fit(shop, factors, seed=0)
    assert log is None
    pictures = shop.pictures[:2]
    larger = F.interpolate(pictures.float() / 255, size=(224, 224), mode="bilinear", antialias=True)
    assert torch.allclose(feature_table(loaded, pictures), features_of(network, larger).detach(), atol=1e-5)
    assert asked.identity() == {"network": asked.network}
    assert FAST.identity().keys() == {"network", "labels", "groups", "epochs", "adversary"}
