"""Going on with clean pictures: what is shared, what it costs, what changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unlearnable.test_robust_training import plan_of, reply

from countermove.errors import ConfigError
from countermove.game.config import make_config
from countermove.game.results import Results, load_results
from countermove.game.run import play, resolve
from countermove.unlearnable.countermeasures.fine_tuning import FineTuned
from countermove.unlearnable.data.cifar import Cifar10Mini
from countermove.unlearnable.methods import METHODS

OWN = "data=cifar10-mini, epochs=1, skip=100"
FULL = f"fine-tuning(clean=200, {OWN})"
MASK = f"fine-tuning(adaptation='mask(sampler=bernoulli, scale=3.0)', clean=200, {OWN})"
BIASES = f"fine-tuning(adaptation=bitfit, clean=200, {OWN})"
GRAY = f"gray+fine-tuning(clean=200, {OWN})"
HEAD = f"fine-tuning(adaptation='critical-layers(share=0.4)', clean=200, eps=4/255, {OWN})"

REWOUND = f"fine-tuning(adaptation='critical-layers(by=rewinding, share=0.4, steps=3)', clean=200, {OWN})"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    audit = {
        "arena": "unlearnable",
        "data": ["cifar10-mini"],
        "moves": ["random(form=class)"],
        "countermoves": ["none", FULL, MASK, BIASES, GRAY, HEAD, REWOUND],
        "models": ["small-cnn(width=0.1)"],
        "seeds": [0],
        "training": {"epochs": 1},
        "engine": {"threads": 1},
    }
    run = play(resolve(make_config(audit)), tmp_path_factory.mktemp("fine-tuned")).run
    found = load_results(run)
    assert all(row.ok for row in found.rows), [row.record.get("error") for row in found.rows if not row.ok]
    return found


def price(results: Results, reply: str) -> dict[str, float]:
    spelled = METHODS.compose("countermove", reply).spelling
    move = METHODS.compose("move", "random(form=class)").spelling
    rows = [r for r in results.rows if (r.setting.move, r.setting.countermove) == (move, spelled)]
    return dict(rows[0].price)


def test_what_is_trained_first_is_shared_by_all_that_go_on_from_it(results: Results) -> None:
    keys = {
        (row.setting.move, row.setting.countermove): row.record["needs"]["trained"]
        for row in results.rows
        if "trained" in row.record["needs"]
    }
    by_move: dict[str, set[str]] = {}
    for (move, reply_), key in keys.items():
        if not reply_.startswith("gray"):
            by_move.setdefault(move, set()).add(key)
    assert all(len(found) == 1 for found in by_move.values()), "one for each move"
    gray = {key for (_, reply_), key in keys.items() if reply_.startswith("gray")}
    assert not gray & set.union(*by_move.values()), "gray trains another one"


def test_the_price_is_the_fine_tunings_alone(results: Results) -> None:
    full, mask, biases = (price(results, one) for one in (FULL, MASK, BIASES))
    for one in (full, mask, biases):
        assert one["samples"] == 200
        assert one["clean_examples"] == 200
    none = next(r for r in results.rows if r.setting.countermove == "none").record["price"]
    assert full["parameters_changed"] == none["parameters_changed"], "all of the network"
    assert 0 < biases["parameters_changed"] < full["parameters_changed"] / 5
    assert mask["bytes_stored"] < full["bytes_stored"] / 8
    assert price(results, HEAD)["samples"] == 200 * 6 + 200, "an adversary of five steps, and a look at every layer"
    assert price(results, REWOUND)["samples"] >= 200 + 3 * 64 + 200 * 2, "a copy is trained and rewound"


def test_own_pictures_are_the_ones_that_were_asked_for() -> None:
    after = reply(plan_of(), with_reply=FineTuned(clean=50, data="cifar10-mini", skip=100))  # pyright: ignore
    assert after.fine_tuning is not None
    assert (after.fine_tuning.examples.pictures == Cifar10Mini()().train.pictures[100:150]).all()
    assert after.fine_tuning.clean == 50
    assert len(after.received) == 30, "they are not among the received ones"
    received = reply(plan_of(), with_reply=FineTuned(clean=0, eps=8 / 255))  # pyright: ignore
    assert received.fine_tuning is not None
    assert received.fine_tuning.examples is received.received
    assert received.fine_tuning.clean == 0


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"clean": 1}, "at least 2"),
        ({"clean": 0}, "give eps"),
        ({"epochs": 0}, "at least 1"),
        ({"adaptation": "freeze"}, "unknown adaptation"),
        ({"data": "cifar"}, "did you mean"),
    ],
)
def test_settings_that_make_no_sense(settings: dict, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        FineTuned(**settings)


def test_it_stands_once_in_a_reply(tmp_path: Path) -> None:
    one = FineTuned(clean=50, data="cifar10-mini", skip=100)
    with pytest.raises(ConfigError, match="stands twice"):
        reply(reply(plan_of(), with_reply=one), with_reply=one)  # pyright: ignore
