"""A whole audit on drawn scenes: what is shared, what is kept, what is concluded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from countermove.errors import ConfigError
from countermove.game.arena import Rules
from countermove.game.cell import Setting
from countermove.game.config import make_config
from countermove.game.results import Results, Row, load_results
from countermove.game.run import Summary, play, resolve
from countermove.game.verdict import judge
from countermove.report.inert import why_not_inert
from countermove.retrieval.arena import Retrieval
from countermove.retrieval.artifacts import read_index, read_pictures
from countermove.retrieval.evaluation import evaluate
from countermove.retrieval.methods import METHODS
from countermove.retrieval.play import map_chance

DATA = "planted-scenes(distractors=12, public=10, public_views=6, scenes=8, side=48, views=3)"
OWN = "small(epochs=8, network='small-cnn(width=0.5)')"
OTHER = "small(build=1, epochs=8, network='small-pooled(width=0.5)')"
NEURAL, NEWER = (METHODS.compose("model", f'neural(backbone="{b}")').spelling for b in (OWN, OTHER))
PIRE = METHODS.compose("move", f'pire-final(backbones=["{OWN}"], eps=32/255, floor=0, step=8/255, steps=12)').spelling
TABLE: dict[str, Any] = {
    "arena": "retrieval",
    "data": DATA,
    "moves": ["noise", PIRE],
    "countermoves": [
        "jpeg(quality=40)",
        "resize(on=all)",
        "crop",
        "multi-crop",
        "query-expansion(top=1)",
        "ensemble(engines=[global])",
        "adapted(epochs=2, pictures=20)",
        "purifier(epochs=1, pictures=20, width=4)",
        "purifier(epochs=1, on=all, pictures=20, width=4)",
        "leaked",
        "leaked(move=noise, share=0.5)",
    ],
    "models": [NEURAL, NEWER, "global"],
    "seeds": 1,
    "engine": {"threads": 1},
}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, Results]:
    torch.set_num_threads(1)
    table = TABLE | {"countermoves": [c for c in TABLE["countermoves"] if "adapted" not in c]}
    summary = play(resolve(make_config(table)), tmp_path_factory.mktemp("run") / "audit")
    return summary, load_results(summary.run)


FEW = METHODS.compose(
    "countermove", "adapted(adaptation='mask(sampler=bernoulli, scale=3)', epochs=2, examples=30, pictures=20)"
).spelling


MEASURED = METHODS.compose(
    "countermove",
    "adapted(adaptation='critical-layers(by=rewinding, share=0.6, steps=3)', epochs=2, examples=30, pictures=20)",
).spelling


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Results:
    torch.set_num_threads(1)
    replies = ["adapted(epochs=2, pictures=20)", FEW, MEASURED]
    table = TABLE | {"countermoves": replies, "moves": [PIRE], "models": [NEURAL]}
    return load_results(play(resolve(make_config(table)), tmp_path_factory.mktemp("run") / "audit").run)


def row(results: Results, move: str, countermove: str = "none", model: str = NEURAL) -> Row:
    found = results.row(Setting("retrieval", results.axis("data")[0], move, countermove, model, 0))
    assert found is not None
    assert found.ok, found.record.get("error")
    return found


def test_every_cell_is_played(played: tuple[Summary, Results]) -> None:
    _, results = played
    assert {r.status for r in results.rows} == {"ok"}
    assert len(results.rows) == 3 * 11 * 3


def test_units_are_queries_and_payoffs_what_they_no_longer_find(played: tuple[Summary, Results]) -> None:
    _, results = played
    moved, clean = row(results, PIRE), row(results, "none")
    mean = float(np.mean(moved.record["units"]["outcome"]))
    assert moved.metrics["map_after"] == pytest.approx(mean)
    assert clean.metrics["map_after"] == clean.metrics["map_before"] == moved.metrics["map_before"]
    assert moved.payoff == pytest.approx(1 - mean / clean.metrics["map_after"])
    assert row(results, PIRE, "jpeg(quality=40)").metrics["map_before"] != clean.metrics["map_before"]


def test_a_clean_engine_finds_and_the_white_box_blinds_it(played: tuple[Summary, Results]) -> None:
    _, results = played
    clean = row(results, "none").metrics
    assert clean["map_before"] > clean["map_chance"] + 0.2
    assert clean["ssim"] == pytest.approx(1)
    assert row(results, PIRE).metrics["map_after"] < clean["map_before"] - 0.1
    assert row(results, PIRE).metrics["map_after"] < row(results, "noise").metrics["map_after"]


def test_the_metrics_are_those_of_the_stored_index_and_queries(played: tuple[Summary, Results]) -> None:
    summary, results = played
    arena = Retrieval(Rules(threads=1))
    found = row(results, PIRE, model="global")
    collection, cell = arena.collection(results.axis("data")[0]), arena.cell(found.setting)
    need = cell.need("index")
    assert need is not None
    desk: Any = type("Desk", (), {"artifact": lambda _, task: summary.run.artifacts / task.key})()
    index = read_index(arena, need, desk)
    pictures = read_pictures(summary.run.artifacts / found.record["needs"]["move"])
    ap = evaluate(index.scores(pictures), collection.wanted[""], collection.indexed).ap
    assert found.record["units"]["outcome"] == pytest.approx(ap.tolist())


def test_leaked_answers_are_in_the_index_and_the_order_of_columns_is_kept(played: tuple[Summary, Results]) -> None:
    _, results = played
    untouched = row(results, "none", "leaked")
    assert untouched.metrics["map_before"] == row(results, "none").metrics["map_before"]
    leaked = row(results, PIRE, "leaked")
    assert leaked.metrics["map_after"] != row(results, PIRE).metrics["map_after"]
    noisy = row(results, "none", "leaked(move=noise, share=0.5)", "global").metrics["map_before"]
    assert noisy != row(results, "none", model="global").metrics["map_before"]


def test_an_edit_of_all_pictures_makes_an_index_of_its_own(played: tuple[Summary, Results]) -> None:
    _, results = played
    arena = Retrieval(Rules(threads=1))

    def index(countermove: str) -> str:
        task = arena.cell(row(results, PIRE, countermove).setting).need("index")
        assert task is not None
        return task.key

    assert index("none") == index("crop") == index("multi-crop") == index("leaked")
    assert len({index("none"), index("resize(on=all)"), index("purifier(epochs=1, on=all, pictures=20, width=4)")}) == 3


def test_an_adapted_backbone_costs_and_is_its_own(adapted: Results) -> None:
    found = row(adapted, PIRE, "adapted(epochs=2, pictures=20)")
    assert found.price["samples"] > 0
    assert found.price["clean_examples"] > 0
    assert found.price["parameters_changed"] > 0
    assert found.metrics["map_before"] != row(adapted, "none").metrics["map_before"]
    few = row(adapted, PIRE, FEW)
    assert few.price["clean_examples"] == 30
    assert 0 < few.price["samples"] < found.price["samples"]
    assert 0 < few.price["bytes_stored"] < found.price["bytes_stored"] / 8, "at most a bit for each weight"


def test_critical_layers_of_a_backbone_are_measured_on_the_owners_pictures(adapted: Results) -> None:
    found, few, whole = (row(adapted, PIRE, r) for r in (MEASURED, FEW, "adapted(epochs=2, pictures=20)"))
    assert 0 < found.price["parameters_changed"] <= 0.6 * whole.price["parameters_changed"]
    assert found.price["samples"] > few.price["samples"], "measuring is paid"


def test_access_is_white_on_the_engines_own_backbone(played: tuple[Summary, Results]) -> None:
    _, results = played
    arena = Retrieval(Rules(threads=1))
    seen = {model: arena.access(row(results, PIRE, model=model).setting) for model in results.axis("model")}
    assert list(seen.values()) == ["white", "near-black", "near-black"]
    assert arena.access(row(results, "none").setting) == ""


def test_a_backbone_may_be_stolen_from_the_engine_that_is_met(tmp_path: Path) -> None:
    move = "pire-final(backbones=['stolen(epochs=4, length=5)'], eps=32/255, floor=0, step=8/255, steps=6)"
    table = TABLE | {"moves": [move], "countermoves": ["none"], "models": ["global", NEURAL]}
    results = load_results(play(resolve(make_config(table)), tmp_path / "run").run)
    assert {one.status for one in results.rows} == {"ok"}
    arena, (spelled,) = Retrieval(Rules(threads=1)), [m for m in results.axis("move") if m != "none"]
    cells = [arena.cell(row(results, spelled, model=model).setting) for model in results.axis("model")]
    moves = [need for cell in cells if (need := cell.need("move")) is not None]
    assert len({move.key for move in moves}) == 2
    assert {arena.access(cell.setting) for cell in cells if cell.setting} == {"near-black"}
    assert [need.kind for move in moves for need in move.needs[0].needs] == ["index", "index"]


def test_the_same_command_does_nothing_again(played: tuple[Summary, Results]) -> None:
    summary, _ = played
    table = TABLE | {"countermoves": [c for c in TABLE["countermoves"] if "adapted" not in c]}
    assert not play(resolve(make_config(table)), summary.run.path).done


def test_the_verdict_and_the_panels(played: tuple[Summary, Results]) -> None:
    summary, results = played
    assert judge(results).sentence
    panels = results.arena.panels(summary.run, results)
    titles = [panel.title for panel in panels]
    assert "What queries find" in titles
    assert f"Queries: {PIRE}" in titles
    for panel in panels:
        assert why_not_inert(panel.html) == "", panel.title
        assert "Not shown" not in panel.summary, panel


def test_chance_is_that_of_random_orders() -> None:
    collection = Retrieval(Rules()).collection(DATA)
    found = map_chance(collection.wanted[""], collection, draws=400)
    assert 0.05 < found < 0.3
    assert map_chance(collection.wanted[""], collection) == pytest.approx(found, abs=0.03)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": {"epochs": 3}}, "no \\[training\\] table"),
        ({"moves": ["pire-final"]}, "global has none"),
        ({"countermoves": ["adapted"]}, "global has none"),
        ({"moves": ["pire-final(backbones=[plane])"]}, "plain"),
        ({"countermoves": ["leaked+leaked(share=0.5)"]}, "twice"),
        ({"countermoves": ["ensemble(engines=[])"]}, "engines"),
        ({"models": ["neural(backbone=target)"]}, "target"),
        ({"models": ["neural(backbone=stolen)"]}, "another engine's lists"),
    ],
)
def test_a_wrong_configuration_fails_before_anything_is_played(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(make_config(TABLE | change))
