"""The learning rate's curve, and what a recipe refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermove.errors import ConfigError
from countermove.game.methods import build
from countermove.learning.recipe import Recipe
from countermove.learning.stopping import early_epoch


def test_the_learning_rate_rises_from_near_zero_and_falls_to_near_zero() -> None:
    recipe = Recipe(lr=0.4, warmup=0.25)
    rates = [recipe.lr_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.4 / 26)
    assert rates[24] == pytest.approx(0.4 * 25 / 26)
    assert rates[25] == pytest.approx(0.4)
    assert rates[62] == pytest.approx(0.2, abs=0.01)
    assert rates[99] == pytest.approx(0.0, abs=0.4 * 0.001)
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)


def test_without_warmup_it_begins_at_its_height() -> None:
    recipe = Recipe(lr=0.1, warmup=0.0)
    assert recipe.lr_at(0, 10) == pytest.approx(0.1)
    assert recipe.lr_at(5, 10) == pytest.approx(0.05)


@given(
    lr=st.floats(1e-4, 10),
    warmup=st.floats(0, 0.99),
    steps=st.integers(1, 300),
    data=st.data(),
)
def test_the_learning_rate_stays_above_zero_and_below_its_height(
    lr: float, warmup: float, steps: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, steps - 1))
    rate = Recipe(lr=lr, warmup=warmup).lr_at(step, steps)
    assert 0 < rate <= lr


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"epochs": 0}, "at least one epoch"),
        ({"epochs": -1}, "epochs = -1 is refused"),
        ({"batch_size": 1}, "at least two pictures"),
        ({"lr": 0.0}, "lr above 0"),
        ({"lr": float("nan")}, "lr = nan is refused"),
        ({"lr": float("inf")}, "lr = inf is refused"),
        ({"momentum": 1.0}, "below 1"),
        ({"momentum": -0.1}, "momentum = -0.1 is refused"),
        ({"weight_decay": -1e-4}, "weight_decay = -0.0001 is refused"),
        ({"warmup": 1.0}, "below 1"),
        ({"crop": -1}, "crop = -1 is refused"),
        ({"epoch": 3}, "no setting 'epoch'.*did you mean 'epochs'"),
        ({"epochs": "many"}, "epochs = 'many' is refused"),
        ({"epochs": 2.5}, "epochs = 2.5 is refused"),
    ],
)
def test_nonsense_is_refused_by_name(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        build(Recipe, settings, what="[training]")


def test_a_recipe_is_identified_by_every_setting() -> None:
    base = Recipe()
    others = [
        Recipe(epochs=21),
        Recipe(batch_size=65),
        Recipe(lr=0.2),
        Recipe(momentum=0.8),
        Recipe(weight_decay=0.0),
        Recipe(warmup=0.1),
        Recipe(crop=3),
        Recipe(flip=False),
    ]
    assert len(others) == len(base.identity())
    assert all(other.identity() != base.identity() for other in others)
    assert Recipe(**base.identity()) == base


@pytest.mark.parametrize(
    ("curve", "stop"),
    [
        ([0.3, 0.6, 0.605, 0.606, 0.9], 1),  # two epochs without a gain of 0.01: back to the last that had one
        ([0.3, 0.6, 0.605, 0.62, 0.7], 4),  # one weak epoch is forgiven
        ([0.5, 0.5, 0.5], 0),
        ([0.1, 0.2, 0.3], 2),
        ([0.9, 0.5, 0.95, 0.95, 0.94], 2),
        ([0.9], 0),
        ([0.0, 0.009, 0.018, 0.5], 3),  # gains count against the last good epoch, so 0 to 0.018 is one
    ],
)
def test_early_stopping_on_curves_made_by_hand(curve: list[float], stop: int) -> None:
    assert early_epoch(curve) == stop


def test_early_stopping_can_be_more_patient_and_less_greedy() -> None:
    curve = [0.3, 0.6, 0.605, 0.606, 0.9]
    assert early_epoch(curve, patience=3) == 4
    assert early_epoch(curve, gain=0.0005) == 4
