"""A whole audit on planted profiles: what is shared, what is kept, what is concluded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from countermove.errors import ConfigError
from countermove.game.arena import Rules
from countermove.game.cell import Setting
from countermove.game.config import make_config
from countermove.game.results import Results, Row, load_results
from countermove.game.run import Summary, play, resolve
from countermove.game.verdict import judge
from countermove.profiles.arena import Profiles
from countermove.profiles.artifacts import half_of_background, stored_additions
from countermove.profiles.methods import METHODS
from countermove.profiles.panels import wilson
from countermove.report.inert import why_not_inert

DATA = "planted-profiles(fewest=4, lean=1.2, profiles=80)"
LOOKS = "small(epochs=4, network='small-cnn(width=0.25)')"
OTHER = "small(build=1, epochs=4, network='small-cnn(width=0.25)')"
DEEP, ATT, VOTE = (
    METHODS.compose("model", f'{name}(epochs=20, features="{LOOKS}")').spelling
    for name in ("deep-sets", "att-mil", "majority-vote")
)
POISON = METHODS.compose("move", "poisoned-training(pivot='nat-i(choice=best)')").spelling
REWOUND = METHODS.compose(
    "countermove", "adversarial-training(adaptation='critical-layers(by=rewinding, share=0.6, steps=3)')"
).spelling
TABLE: dict[str, Any] = {
    "arena": "profiles",
    "data": DATA,
    "moves": [
        "random-items",
        "adv-n(steps=10)",
        "adv-pi(steps=5)",
        "nat-i",
        "nat-i(choice=best)",
        "nat-i(box=gray)",
        f'nat-i(box=near-black, features="{OTHER}")',
        POISON,
    ],
    "countermoves": [
        "back-off",
        "jpeg(quality=40)+outliers",
        "adversarial-training",
        "adversarial-training(known=[random-items], share=0.5)",
        "adversarial-training(adaptation=bitfit)",
        REWOUND,
        "detector(epochs=30)",
        "detector(drop=false, epochs=30)",
        "self-training",
    ],
    "models": [DEEP, ATT],
    "seeds": 1,
    "engine": {"threads": 1},
}
BEST, ADV = "nat-i(choice=best)", "adv-n(steps=10)"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, Results]:
    torch.set_num_threads(1)
    summary = play(resolve(make_config(TABLE)), tmp_path_factory.mktemp("run") / "audit")
    return summary, load_results(summary.run)


def row(results: Results, move: str, countermove: str = "none", model: str = DEEP) -> Row:
    found = results.row(Setting("profiles", results.axis("data")[0], move, countermove, model, 0))
    assert found is not None
    assert found.ok, found.record.get("error")
    return found


def test_every_cell_is_played(played: tuple[Summary, Results]) -> None:
    _, results = played
    assert {r.status for r in results.rows} == {"ok"}
    assert len(results.rows) == 9 * 10 * 2


def test_units_are_the_test_profiles_and_payoffs_their_losses(played: tuple[Summary, Results]) -> None:
    _, results = played
    data = Profiles(Rules()).profiles(results.axis("data")[0])
    moved, clean = row(results, BEST), row(results, "none")
    assert list(moved.record["units"]["ids"]) == [data.profile_ids[i] for i in data.test.tolist()]
    accuracy = float(np.mean(moved.record["units"]["outcome"]))
    assert accuracy == moved.metrics["accuracy"]
    reference = clean.metrics["accuracy"]
    assert moved.payoff == pytest.approx((reference - accuracy) / (reference - data.chance))
    assert clean.metrics["accuracy"] == clean.metrics["clean_accuracy"]
    assert reference > data.chance + 0.2


def test_accuracies_follow_from_the_probabilities(played: tuple[Summary, Results]) -> None:
    _, results = played
    data = Profiles(Rules()).profiles(results.axis("data")[0])
    found = row(results, ADV)
    own = np.array(found.record["tables"]["probability"])
    assert found.metrics["clean_accuracy"] == pytest.approx((own[:, 0] > 0.5).mean())
    assert found.metrics["accuracy"] == pytest.approx((own[:, 1] > 0.5).mean())
    labels = data.labels[data.test].numpy()
    second = np.where(labels == 1, own[:, 1], 1 - own[:, 1])
    assert found.metrics["auc"] == pytest.approx(roc_auc_score(labels, second))
    strong = np.argsort(-own[:, 0], kind="stable")[: round(0.3 * len(own))]
    assert found.metrics["strong_accuracy"] == pytest.approx((own[strong, 1] > 0.5).mean())


def test_pivots_work_and_a_white_box_more_than_chance_items(played: tuple[Summary, Results]) -> None:
    _, results = played
    assert row(results, BEST).metrics["accuracy"] < row(results, "random-items").metrics["accuracy"] - 0.1
    assert row(results, ADV).metrics["accuracy"] < 0.5
    assert row(results, "nat-i").metrics["accuracy"] < row(results, "none").metrics["accuracy"]


def test_back_off_undoes_exactly_what_doubled_a_profile(played: tuple[Summary, Results]) -> None:
    _, results = played
    clean, backed = row(results, "none"), row(results, BEST, "back-off")
    assert list(backed.record["units"]["outcome"]) == list(clean.record["units"]["outcome"])
    assert backed.payoff == 0
    lengths = np.array(row(results, BEST).record["tables"]["length"])
    assert (lengths[:, 1] == 2 * lengths[:, 0]).all()
    halved = np.array(backed.record["tables"]["length"])
    assert (halved[:, 1] == lengths[:, 0]).all()
    assert (halved[:, 0] < lengths[:, 0]).all()


def test_attention_is_reported_where_items_are_weighed(played: tuple[Summary, Results]) -> None:
    _, results = played
    assert 0 < row(results, BEST, model=ATT).metrics["attention_on_additions"] < 1
    assert "attention_on_additions" not in row(results, BEST).metrics
    assert "attention_on_additions" not in row(results, "none", model=ATT).metrics


def test_a_detector_that_knows_the_pivot_finds_it(played: tuple[Summary, Results]) -> None:
    _, results = played
    found = row(results, ADV, "detector(drop=false, epochs=30)")
    assert found.metrics["detection_auc"] > 0.9
    assert found.metrics["onset_error"] < 2
    assert found.metrics["addition_auc"] > 0.9
    assert found.metrics["accuracy"] == row(results, ADV).metrics["accuracy"]
    acting = row(results, ADV, "detector(epochs=30)")
    assert acting.metrics["accuracy"] > found.metrics["accuracy"] + 0.2


def test_adversarial_training_costs_samples_and_clean_profiles(played: tuple[Summary, Results]) -> None:
    _, results = played
    trained = row(results, BEST, "adversarial-training")
    assert trained.price["samples"] > 0
    assert trained.price["clean_examples"] > 0
    assert trained.metrics["accuracy"] > row(results, BEST).metrics["accuracy"]
    adapted = row(results, BEST, "adversarial-training(adaptation=bitfit)")
    assert adapted.price["clean_examples"] == trained.price["clean_examples"]
    assert 0 < adapted.price["parameters_changed"] < row(results, BEST).record["price"]["parameters_changed"] / 4
    assert adapted.price["bytes_stored"] > 0, "the change, beside the profiler that was there before"
    measured = row(results, BEST, REWOUND)
    assert 0 < measured.price["parameters_changed"] <= 0.6 * row(results, BEST).record["price"]["parameters_changed"]
    assert measured.price["samples"] > adapted.price["samples"], "measuring is paid"


def test_poison_is_in_the_training_and_nobody_moves_later(played: tuple[Summary, Results]) -> None:
    _, results = played
    found = row(results, POISON)
    lengths = np.array(found.record["tables"]["length"])
    assert (lengths[:, 0] == lengths[:, 1]).all()
    assert found.metrics["accuracy"] == found.metrics["clean_accuracy"]
    assert found.metrics["accuracy"] < row(results, "none").metrics["accuracy"]


def test_shared_work_is_done_once(played: tuple[Summary, Results]) -> None:
    summary, results = played
    arena = Profiles(Rules(threads=1))
    cells = [arena.cell(r.setting) for r in results.rows]
    deep = [cell for cell in cells if cell.setting is not None and cell.setting.model == DEEP]
    extractors = {need.key for cell in cells for need in cell.needs if need.kind == "extractor"}
    assert len(extractors) == 1
    plain = {
        cell.need("profiler").key  # pyright: ignore[reportOptionalMemberAccess]
        for cell in deep
        if cell.setting is not None
        and cell.setting.countermove in ("none", "back-off", "outliers", "self-training")
        and cell.setting.move != POISON
    }
    assert len(plain) == 1
    again = play(resolve(make_config(TABLE)), summary.run.path)
    assert not again.done


def test_who_pays_for_what(played: tuple[Summary, Results]) -> None:
    _, results = played
    arena = Profiles(Rules(threads=1))
    cell = arena.cell(row(results, "nat-i(box=gray)").setting)
    mover = {task.kind for task in cell.charged_to("mover").values()}
    assert mover == {"move", "profiler", "extractor"}
    trainer = {task.label for task in cell.charged_to("trainer").values()}
    assert not any("0.5 of the profiles" in label for label in trainer)


def test_access_is_the_box(played: tuple[Summary, Results]) -> None:
    _, results = played
    arena = Profiles(Rules(threads=1))

    def of(move: str, model: str = DEEP) -> str:
        return arena.access(Setting("profiles", results.axis("data")[0], move, "none", model, 0))

    assert (of("none"), of("nat-i"), of("nat-i(box=gray)"), of("random-items")) == ("", "white", "gray", "near-black")
    other = f'nat-i(model="{VOTE}")'
    assert (of(other), of(other, VOTE)) == ("near-black", "white")


def test_additions_are_stored_with_where_they_came_from(played: tuple[Summary, Results]) -> None:
    summary, results = played
    data = Profiles(Rules()).profiles(results.axis("data")[0])
    kept = stored_additions(summary.run.artifacts / row(results, BEST).record["needs"]["move"])
    assert torch.equal(kept.items, data.items[kept.source])
    assert torch.isin(kept.source, data.background).all()


def test_the_verdict_and_the_panels(played: tuple[Summary, Results]) -> None:
    summary, results = played
    assert "inconclusive" not in judge(results).sentence.lower()
    panels = results.arena.panels(summary.run, results)
    titles = [panel.title for panel in panels]
    assert any(title.startswith("How profiles are read") for title in titles)
    assert any(title.startswith("Did a pivot take place") for title in titles)
    assert f"Profiles: {BEST}" in titles
    for panel in panels:
        assert why_not_inert(panel.html) == "", panel.title
        assert "Not shown" not in panel.summary, panel


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": {"epochs": 3}}, "no \\[training\\] table"),
        ({"moves": ["nat-i(box=grey)"]}, "gray"),
        ({"moves": ["adv-n(additions=0)"]}, "additions"),
        ({"moves": ["nat-i(choice=worst)"]}, "pool"),
        ({"moves": ["nat-i(model=deepsets)"]}, "deep-sets"),
        ({"countermoves": ["back-off(share=1)"]}, "share"),
        ({"countermoves": ["detector+detector(drop=false)"]}, "twice"),
        ({"countermoves": ["adversarial-training(known=[none])"]}, "known"),
        ({"moves": ["poisoned-training(pivot=none)"]}, "pivot"),
        ({"models": ["deep-sets(features=bigg)"]}, "small"),
    ],
)
def test_a_wrong_configuration_fails_before_anything_is_played(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(make_config(TABLE | change))


@pytest.mark.parametrize(("right", "count"), [(0, 8), (4, 8), (25, 28), (28, 28)])
def test_wilsons_interval_is_the_textbooks(right: int, count: int) -> None:
    z, p = 1.959963984540054, right / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    assert wilson(p, count) == pytest.approx((max(0, middle - half), min(1, middle + half)), abs=1e-9)
    assert binomtest(right, count).k == right


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"moves": ["adv-n"]}, "only nat-i can add"),
        ({"countermoves": ["jpeg"]}, "for picture"),
        ({"models": ["deep-sets"]}, "reads picture"),
        ({"moves": ["nat-i(box=near-black)"]}, "reads picture"),
    ],
)
def test_what_is_made_for_another_medium_is_refused(change: dict[str, Any], message: str) -> None:
    table = TABLE | {
        "data": "planted-profiles(medium=table, profiles=40)",
        "moves": ["nat-i"],
        "countermoves": ["none"],
        "models": ["deep-sets(epochs=2, features=table)"],
    }
    with pytest.raises(ConfigError, match=message):
        resolve(make_config(table | change))


def test_without_items_to_add_there_is_no_control() -> None:
    arena = Profiles(Rules())
    assert arena.controls("planted-profiles(background=0)") == ()
    assert len(arena.controls("planted-profiles")) == 1


def test_trainers_and_movers_choose_from_different_halves() -> None:
    data = Profiles(Rules()).profiles(DATA)
    halves = [half_of_background(data, trainers=trainers).background for trainers in (True, False)]
    assert torch.equal(torch.cat(halves).sort().values, data.background.sort().values)
    assert abs(len(halves[0]) - len(halves[1])) <= 1
    assert all(
        len(half_of_background(data, trainers=t).kinds) == len(h) for t, h in zip((True, False), halves, strict=True)
    )


def test_self_training_keeps_the_poison(played: tuple[Summary, Results]) -> None:
    _, results = played
    poisoned, retrained = row(results, POISON), row(results, POISON, "self-training")
    clean = row(results, "none", "self-training")
    assert retrained.metrics["accuracy"] < (poisoned.metrics["accuracy"] + clean.metrics["accuracy"]) / 2 + 0.1


def test_the_key_of_a_poison_follows_the_pivot_within(monkeypatch: pytest.MonkeyPatch) -> None:
    def key() -> str:
        cell = Profiles(Rules(threads=1)).cell(Setting("profiles", DATA, POISON, "none", DEEP, 0))
        return cell.key

    before = key()
    monkeypatch.setattr("countermove.profiles.pivots.nat_i.NatI.version", 99)
    assert key() != before
