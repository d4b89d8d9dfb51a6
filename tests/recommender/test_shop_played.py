"""A whole audit on a made-up shop: what is shared, what is kept, what is concluded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from countermove.errors import ConfigError
from countermove.game.config import make_config
from countermove.game.results import Results, Row, load_results
from countermove.game.run import Summary, play, resolve
from countermove.game.store import RunFolder
from countermove.game.verdict import judge
from countermove.pixels.squeezes import squeeze_uint8
from countermove.recommender.arena import Recommender
from countermove.recommender.data.planted import Planted
from countermove.recommender.methods import METHODS
from countermove.recommender.play import read_ranker
from countermove.recommender.shop import public
from countermove.report.inert import why_not_inert

NETWORK = "small-pooled(width=0.25)"
FEATURES = f"feature_epochs=2, features='{NETWORK}', groups=4"
VBPR = f"vbpr(epochs=6, factors=4, {FEATURES}, visual=8)"
ALEX = f"alexrank({FEATURES})"
TABLE: dict[str, Any] = {
    "arena": "recommender",
    "data": "planted(cold=6, items=80, side=16, users=60)",
    "moves": ["insa(eps=32/255, steps=10)", "expa(steps=5)", "c-sema"],
    "countermoves": ["jpeg", "jpeg(on=all)", "gatekeeper", "random-slot"],
    "models": [ALEX, VBPR],
    "seeds": 1,
    "training": {"candidates": 40, "epochs": 10, "factors": 8},
    "engine": {"threads": 1},
}
INSA = "insa(steps=10)"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, Results]:
    summary = play(resolve(make_config(TABLE)), tmp_path_factory.mktemp("run") / "audit")
    return summary, load_results(summary.run)


def row(results: Results, move: str, countermove: str, model: str) -> Row:
    (found,) = [
        r
        for r in results.rows
        if (r.setting.move, r.setting.countermove) == (move, countermove) and r.setting.model.startswith(model)
    ]
    return found


def test_every_cell_is_played(played: tuple[Summary, Results]) -> None:
    assert [r.record.get("error") for r in played[1].rows if not r.ok] == []


def test_the_same_command_again_does_nothing(played: tuple[Summary, Results]) -> None:
    before = sorted(path.name for path in (played[0].run.path / "artifacts").iterdir())
    again = play(resolve(make_config(TABLE)), played[0].run.path)
    assert sorted(path.name for path in (again.run.path / "artifacts").iterdir()) == before


def test_rankers_that_share_an_extractor_share_its_features_and_expa(played: tuple[Summary, Results]) -> None:
    results = played[1]
    arena = results.arena
    assert isinstance(arena, Recommender)
    cells = {r.setting: arena.cell(r.setting) for r in results.rows}
    crafted = {
        move: {task.key for setting, cell in cells.items() if setting.move == move and (task := cell.need("move"))}
        for move in (INSA, "expa(steps=5)", "c-sema")
    }
    assert {move: len(keys) for move, keys in crafted.items()} == {INSA: 2, "expa(steps=5)": 1, "c-sema": 1}
    rankers = {task.key: task for cell in cells.values() if (task := cell.need("ranker"))}
    assert len({task.need("features") for task in rankers.values()}) == 1


def test_a_reference_has_the_same_countermove(played: tuple[Summary, Results]) -> None:
    results = played[1]
    setting = row(results, INSA, "jpeg", "vbpr").setting
    reference = results.arena.reference(setting)
    assert (reference.move, reference.countermove, reference.model) == ("none", "jpeg", setting.model)
    assert row(results, "none", "jpeg", "vbpr").payoff == 0


def test_the_payoff_is_the_share_of_users_who_have_it_after_and_not_before(played: tuple[Summary, Results]) -> None:
    found = row(played[1], INSA, "none", "alexrank")
    assert found.payoff is not None
    assert found.metrics["hr_after"] - found.metrics["hr_before"] <= found.payoff + 1e-9
    assert found.payoff <= found.metrics["hr_after"] + 1e-9
    assert found.metrics["hr_after"] > found.metrics["hr_before"], "the insider gains on the planted shop"


def test_a_random_slot_leaves_nothing_to_any_promotion(played: tuple[Summary, Results]) -> None:
    for r in played[1].rows:
        if r.setting.countermove == "random-slot":
            assert r.payoff == 0
            assert r.metrics["hr_before"] == r.metrics["hr_after"]


def test_a_gatekeeper_reports_whom_it_refused(played: tuple[Summary, Results]) -> None:
    found = row(played[1], INSA, "gatekeeper", "vbpr").metrics
    assert 0 <= found["refused_honest"] <= 1
    assert found["refused_promoted"] >= found["refused_honest"]


def test_squeezing_the_catalogue_costs_nothing_when_only_uploads_are_squeezed(played: tuple[Summary, Results]) -> None:
    assert row(played[1], "none", "jpeg", "vbpr").price["clean_cost"] == 0


def test_the_verdict_is_drawn_and_the_panels_are_inert(played: tuple[Summary, Results]) -> None:
    summary, results = played
    verdict = judge(results)
    assert {move.move for move in verdict.moves} == {INSA, "expa(steps=5)", "c-sema"}
    panels = results.arena.panels(RunFolder(summary.run.path), results)
    titles = [panel.title for panel in panels]
    assert "Journeys through the lists" in titles
    assert "Squeezes by level" in titles
    assert f"The shop: {results.config.data[0]}" in titles
    assert sum(title.startswith("Where an item goes") for title in titles) == 2
    assert sum(title.startswith("Pictures: ") for title in titles) >= 4
    assert [why_not_inert(panel.html) for panel in panels if why_not_inert(panel.html)] == []


def test_access_says_what_a_mover_knew(played: tuple[Summary, Results]) -> None:
    arena = played[1].arena
    setting = row(played[1], INSA, "none", "vbpr").setting
    wanted = {
        "insa": "white",
        "insa(knowledge=lists)": "gray",
        "expa": "gray",
        "taamr": "gray",
        "c-sema": "near-black",
        "none": "",
    }
    for move, access in wanted.items():
        assert arena.access(type(setting)(**{**vars(setting), "move": move})) == access


def test_the_undefended_ranker_is_not_charged_to_a_defence_that_fits_another() -> None:
    table = {**TABLE, "countermoves": ["amr"], "models": [VBPR]}
    grid = resolve(make_config(table))
    cell = next(c for c in grid.cells if c.setting and (c.setting.move, c.setting.countermove) == (INSA, "amr"))
    charged = [task for task in cell.charged_to("trainer").values() if task.kind == "ranker"]
    assert charged == [cell.need("ranker")]
    assert cell.need("move") is not None
    assert cell.need("move").need("ranker") != cell.need("ranker")  # pyright: ignore[reportOptionalMemberAccess]


ADAPTED = [
    "robust-features(adaptation=bitfit, examples=30)",
    "robust-features(adaptation='critical-layers(by=rewinding, share=0.5, steps=2)', examples=30)",
    "amr(adaptation='critical-layers(layers=[projection, looks])')",
    "amr(adaptation=bitfit, examples=50)",
]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Results:
    table = {**TABLE, "moves": ["expa(steps=5)"], "countermoves": ["robust-features", *ADAPTED], "models": [VBPR]}
    return load_results(play(resolve(make_config(table)), tmp_path_factory.mktemp("adapted") / "audit").run)


def test_what_a_cheap_reply_changes_is_its_price(adapted: Results) -> None:
    assert [r.record.get("error") for r in adapted.rows if not r.ok] == []
    arena = adapted.arena
    assert isinstance(arena, Recommender)
    shop = arena.shop(adapted.config.data[0])
    biases, layers, looks, items = (
        row(adapted, "expa(steps=5)", METHODS.compose("countermove", reply).spelling, "vbpr").price for reply in ADAPTED
    )
    plain = row(adapted, "expa(steps=5)", "none", "vbpr").record["price"]
    assert biases["clean_examples"] == layers["clean_examples"] == 30
    assert biases["samples"] == 2 * 30 * 6, "two epochs, an adversary of five steps"
    assert layers["samples"] > biases["samples"], "measuring is paid"
    assert items["clean_examples"] == 50
    assert looks["clean_examples"] == len(shop.train)
    assert items["samples"] == 6 * 50 * 2
    assert looks["parameters_changed"] == 32 * (8 + 1), "visual factors of 32 features, and the visual bias"
    for one in (biases, layers, looks, items):
        assert 0 < one["parameters_changed"] < plain["parameters_changed"] / 2
        assert 0 < one["bytes_stored"] < plain["bytes_stored"]
        assert one["seconds"] > 0


def test_what_goes_on_goes_on_from_what_is_there_anyway(adapted: Results) -> None:
    arena = adapted.arena
    cells = {r.setting.countermove: arena.cell(r.setting) for r in adapted.rows if r.setting.move == "none"}
    plain = cells["none"].need("ranker")
    assert plain is not None
    for reply in ADAPTED:
        ranker = cells[METHODS.compose("countermove", reply).spelling].need("ranker")
        assert ranker is not None
        if reply.startswith("amr"):
            assert ranker.need("ranker") == plain
            assert ranker.need("features") == plain.need("features")
        else:
            features = ranker.need("features")
            assert features is not None
            assert features.need("features") == plain.need("features")
    fresh = cells["robust-features"].need("ranker")
    assert fresh is not None
    assert plain.need("features") not in fresh.charged_to("trainer").values(), "a fresh one needs no plain one"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"countermoves": ["amr"]}, "vbpr"),
        ({"countermoves": ["amr(adaptation=mask)+robust-features"], "models": [VBPR]}, "plain features"),
        ({"training": {"candidates": 0}}, "candidates = 0"),
        ({"training": {"candidate": 10}}, "candidates"),
        ({"models": ["vbpr+alexrank"]}, "joins several"),
        ({"moves": ["inas"]}, "insa"),
        ({"moves": ["expa(hook=item-999)"]}, "hook = 'item-999'"),
        ({"models": ["vbpr(features=small-cmn)"]}, "small-cnn"),
    ],
)
def test_a_wrong_audit_is_refused_before_anything_is_computed(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        resolve(make_config({**TABLE, **changes}))


def test_more_candidates_than_items_fail_with_a_reason(tmp_path: Path) -> None:
    table = {**TABLE, "models": [ALEX], "moves": ["none"], "training": {"candidates": 500, "epochs": 1}}
    summary = play(resolve(make_config(table)), tmp_path / "run")
    errors = {r.record.get("error", "") for r in load_results(summary.run).rows}
    assert any("candidates = 500" in error for error in errors)


def test_several_merchants_at_once_share_the_places(tmp_path: Path) -> None:
    table = {**TABLE, "models": [ALEX], "moves": [INSA], "countermoves": ["none"]}
    table["training"] = {**TABLE["training"], "together": 6}
    summary = play(resolve(make_config(table)), tmp_path / "run")
    found = row(load_results(summary.run), INSA, "none", "alexrank")
    assert found.metrics["hr_after"] <= 5 / 6 + 1e-9, "six items cannot all be among five"


def test_honest_pictures_beside_the_promoted_one_hold_it_back(tmp_path: Path) -> None:
    table = {**TABLE, "models": [ALEX], "moves": [INSA], "countermoves": ["none"]}
    reached = []
    for pictures in (1, 4):
        table["training"] = {**TABLE["training"], "pictures": pictures}
        summary = play(resolve(make_config(table)), tmp_path / str(pictures))
        reached.append(row(load_results(summary.run), INSA, "none", "alexrank").metrics["prediction_shift"])
    assert 0 < reached[1] < reached[0]


def test_items_with_several_pictures_stand_in_lists_with_all_of_them(tmp_path: Path) -> None:
    data = "planted(cold=6, items=80, side=16, users=60, views=3)"
    table = {**TABLE, "data": data, "models": [ALEX], "moves": [INSA], "countermoves": ["jpeg(on=all)"]}
    summary = play(resolve(make_config(table)), tmp_path / "run")
    results = load_results(summary.run)
    found, arena = row(results, INSA, "none", "alexrank"), results.arena
    assert isinstance(arena, Recommender)
    needs, shop = found.record["needs"], Planted(cold=6, items=80, side=16, users=60, views=3)()
    ranker = read_ranker(arena, found.setting, "none", summary.run.artifact(needs["ranker"]))
    moved = load_file(summary.run.artifact(needs["move"]) / "promoted.safetensors")["pictures"]
    jpeg = arena.plan("jpeg(on=all)").new
    assert len(jpeg) == 1
    for reply, squeezes in (("none", ()), ("jpeg(on=all)", jpeg)):
        catalogue, shifts, found = ranker.catalogue, [], row(results, INSA, reply, "alexrank")
        if squeezes:
            lists = summary.run.artifact(found.record["needs"]["lists"]) / "lists.safetensors"
            catalogue = load_file(lists)["catalogue"]
        judge_of = ranker.recatalogued(catalogue)
        for i, item in enumerate(shop.cold.tolist()):
            others = shop.further[shop.further_of == item]
            assert len(others) == 2
            clean, promoted = (
                ranker.embed_uint8(squeeze_uint8(torch.cat([own[None], others]), *squeezes)).mean(0, keepdim=True)
                for own in (shop.pictures[item], moved[i])
            )
            shifts.append(float((judge_of.visual(promoted) - judge_of.visual(clean)).mean()))
            torch.testing.assert_close(catalogue[item], clean[0], atol=1e-5, rtol=1e-5)
        assert found.metrics["prediction_shift"] == pytest.approx(sum(shifts) / len(shifts), abs=1e-5)
        assert found.metrics["prediction_shift"] > 0
    table["training"] = {**TABLE["training"], "pictures": 4}
    again = load_results(play(resolve(make_config(table)), tmp_path / "run").run)
    assert {r.ok for r in again.rows} == {False}, "not even where all artifacts are there"
    assert any("pictures = 4 is refused: items of planted have up to 3" in r.record["error"] for r in again.rows)


def test_who_knows_no_ranker_sees_what_everybody_sees() -> None:
    shop = Planted()()
    seen = public(shop)
    assert torch.equal(seen.popularity, shop.popularity)
    assert seen.train[:, 0].unique().tolist() == [0]
    assert set(seen.test.tolist()) == set(seen.validation.tolist()) == {-1}
    assert torch.equal(seen.pictures, shop.pictures)


def test_a_classifier_that_only_the_mover_needs_is_charged_to_the_mover() -> None:
    taamr = f"taamr(feature_epochs=1, groups=3, network='{NETWORK}')"
    table = {**TABLE, "countermoves": ["none"], "models": [ALEX], "moves": [taamr]}
    cell = next(c for c in resolve(make_config(table)).cells if c.setting and c.setting.move.startswith("taamr"))
    kinds = [task.kind for task in cell.charged_to("mover").values()]
    assert sorted(kinds) == ["features", "move"]
    assert [task.kind for task in cell.charged_to("trainer").values()].count("features") == 1


def test_a_squeeze_beside_a_refit_does_not_fit_again() -> None:
    table = {**TABLE, "countermoves": ["amr", "amr+jpeg", "amr+jpeg(quality=50)"], "models": [VBPR]}
    cells = [c for c in resolve(make_config(table)).cells if c.setting and c.setting.countermove.startswith("amr")]
    assert len({c.need("ranker") for c in cells}) == 1
