"""A whole audit on planted people: what is shared, what is kept, what is concluded."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from countermove.errors import ConfigError
from countermove.faces.arena import Faces
from countermove.faces.extractor import embed, read_extractor
from countermove.faces.methods import METHODS
from countermove.game.arena import Rules
from countermove.game.cell import Setting, Task
from countermove.game.config import make_config
from countermove.game.results import PRICE, Results, Row, load_results
from countermove.game.run import Summary, play, resolve
from countermove.game.store import RunFolder
from countermove.game.verdict import judge
from countermove.nets.weights import load_weights
from countermove.pixels.rounding import to_float
from countermove.pixels.ssim import ssim
from countermove.report.inert import why_not_inert

DATA = "planted-faces(people=48)"
SMALL = "dim=16, epochs=4, network='small-cnn(width=0.25)'"
OWN, OTHER = f"small({SMALL})", f"small(build=1, {SMALL})"
NEAREST, NEWER, LINEAR = (
    METHODS.compose("model", f'{head}(extractor="{extractor}")').spelling
    for head, extractor in (("nearest", OWN), ("nearest", OTHER), ("linear", OWN))
)
MASKS = METHODS.compose(
    "countermove", "adaptive(adaptation='mask(sampler=bernoulli, scale=3)', epochs=2, examples=40, photos=2)"
).spelling
TABLE: dict[str, Any] = {
    "arena": "faces",
    "data": DATA,
    "moves": ["random-noise", "pgd(steps=5)", f'opom(extractors=["{OTHER}"], steps=4)'],
    "countermoves": [
        "jpeg(quality=30)",
        "leaked(photos=2)",
        "leaked(photos=99)",
        "adaptive(epochs=2, photos=2)",
        "adaptive(epochs=2, photos=2)+top-2",
        MASKS,
        "adaptive(adaptation=bitfit, epochs=2, photos=2)",
        "adaptive(epochs=2, known=[random-noise], photos=2)",
        "purifier(epochs=1, photos=2, width=4)",
        "detector(epochs=1, network='small-pooled(width=0.25)', photos=2)",
    ],
    "models": [NEAREST, NEWER, LINEAR],
    "seeds": 1,
    "engine": {"threads": 1},
}
NOISE, PGD, OPOM = "random-noise", "pgd(steps=5)", "opom("


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, Results]:
    summary = play(resolve(make_config(TABLE)), tmp_path_factory.mktemp("run") / "audit")
    return summary, load_results(summary.run)


def rows(results: Results, move: str = "", countermove: str = "", model: str = "") -> list[Row]:
    """Return all rows whose spellings begin so; `none` and whole spellings of countermoves are meant exactly."""
    return [
        r
        for r in results.rows
        if r.setting.move.startswith(move)
        and (r.setting.countermove == countermove or not countermove)
        and r.setting.model.startswith(model)
    ]


def row(results: Results, move: str, countermove: str, model: str) -> Row:
    (found,) = rows(results, move, countermove, model)
    return found


def cells(results: Results) -> dict[Setting, Task]:
    arena = results.arena
    assert isinstance(arena, Faces)
    return {r.setting: arena.cell(r.setting) for r in results.rows}


def behind(task: Task) -> dict[str, Task]:
    """Return every artifact that a task needs, directly or not, by key."""
    found = {need.key: need for need in task.needs}
    for need in task.needs:
        found |= behind(need)
    return found


def test_every_cell_is_played(played: tuple[Summary, Results]) -> None:
    assert [r.record.get("error") for r in played[1].rows if not r.ok] == []
    asked = [r for r in played[1].rows if r.setting.move != "pgd" and r.setting.countermove != "leaked(photos=5)"]
    assert len(asked) == (len(TABLE["moves"]) + 1) * (len(TABLE["countermoves"]) + 1) * 3
    control = {(r.setting.move, r.setting.countermove, r.setting.model) for r in played[1].rows if r not in asked}
    for model in played[1].axis("model"):
        assert ("pgd", "leaked(photos=5)", model) in control


def test_the_same_command_again_does_nothing(played: tuple[Summary, Results]) -> None:
    before = {path: path.stat().st_mtime_ns for path in played[0].run.path.rglob("*.safetensors")}
    again = play(resolve(make_config(TABLE)), played[0].run.path)
    assert again.done == []
    assert {path: path.stat().st_mtime_ns for path in again.run.path.rglob("*.safetensors")} == before


def test_a_cloak_that_does_not_know_the_model_is_crafted_once_for_all(played: tuple[Summary, Results]) -> None:
    crafted = {move: {r.record["needs"]["move"] for r in rows(played[1], move)} for move in (NOISE, OPOM, PGD)}
    assert {move: len(keys) for move, keys in crafted.items()} == {NOISE: 1, OPOM: 1, PGD: 2}
    assert all("move" not in r.record["needs"] for r in rows(played[1], "none"))


def test_an_extractor_is_trained_once_though_it_is_surrogate_and_model(played: tuple[Summary, Results]) -> None:
    extractors = {
        key for cell in cells(played[1]).values() for key, task in behind(cell).items() if task.kind == "extractor"
    }
    assert len(extractors) == 2
    weights = list(played[0].run.path.rglob("weights.safetensors"))
    kinds = {task.kind for cell in cells(played[1]).values() for task in behind(cell).values()}
    assert kinds == {"extractor", "move", "known", "adapted", "purifier", "detector"}
    trained = {
        key
        for cell in cells(played[1]).values()
        for key, task in behind(cell).items()
        if task.kind in ("extractor", "adapted", "purifier", "detector")
    }
    assert len(weights) == len(trained)


def test_what_the_trainer_cloaks_is_shared_by_all_that_learn_from_it(played: tuple[Summary, Results]) -> None:
    known = {
        key: task for cell in cells(played[1]).values() for key, task in behind(cell).items() if task.kind == "known"
    }
    by_move: dict[str, int] = {}
    for task in known.values():
        move = task.payload["move"]["spelling"].split("(")[0]
        by_move[move] = by_move.get(move, 0) + 1
    assert by_move == {"random-noise": 1, "opom": 1, "pgd": 2}, "a cloak on the trainer's own extractor has several"
    adapted = {
        (r.setting.countermove, r.setting.move, r.record["needs"]["adapted"])
        for r in played[1].rows
        if "adapted" in r.record["needs"] and r.setting.model == NEAREST
    }
    met = {(move, key) for reply, move, key in adapted if "known" not in reply and "adaptation" not in reply}
    assert len({key for _, key in met}) == len({move for move, _ in met}) == 4, "one for each cloak it meets, and none"
    assert len({key for reply, _, key in adapted if "known" in reply}) == 1, "who knows a cloak need not meet one"


def test_a_reference_is_where_nobody_does_anything(played: tuple[Summary, Results]) -> None:
    results = played[1]
    for r in results.rows:
        reference = results.arena.reference(r.setting)
        assert (reference.move, reference.countermove) == ("none", "none")
        assert (reference.data, reference.model, reference.seed) == (r.setting.data, r.setting.model, r.setting.seed)
        assert results.row(reference) is not None


def test_the_payoff_is_the_error_beyond_what_it_is_without_the_move(played: tuple[Summary, Results]) -> None:
    results = played[1]
    for r in results.rows:
        found = results.row(results.arena.reference(r.setting))
        assert found is not None
        without = 1 - float(np.mean(found.record["units"]["outcome"]))
        assert r.payoff == pytest.approx(r.metrics["protection"] - without)
        assert found.metrics["clean_error"] == pytest.approx(without)
    assert {r.payoff for r in rows(results, "none", "none")} == {0}
    pgd = row(results, PGD, "none", NEAREST)
    assert pgd.payoff is not None
    assert pgd.payoff > 0.1, "the cloak that knows the extractor works on the planted people"


def test_units_are_movers(played: tuple[Summary, Results]) -> None:
    results = played[1]
    arena = results.arena
    assert isinstance(arena, Faces)
    faces = arena.faces(results.config.data[0])
    names = [faces.people[m] for m in faces.movers.tolist()]
    for r in results.rows:
        units = r.record["units"]
        assert units["ids"] == names
        assert all(0 <= share <= 1 for share in units["outcome"])
        assert r.metrics["protection"] == pytest.approx(1 - np.mean(units["outcome"]))
        clean, moved = np.array(r.record["tables"]["by_person"]).T
        assert moved.tolist() == units["outcome"]
        assert r.metrics["clean_error"] == pytest.approx(1 - clean.mean())
        assert r.record["chance"] == pytest.approx(1 / 8)


class Fresh:
    """The same cell computed again from the artifacts, world by world with scikit-learn."""

    def __init__(self, run: RunFolder, arena: Faces, r: Row) -> None:
        self.faces = faces = arena.faces(r.setting.data)
        needs = r.record["needs"]
        extractor = read_extractor(arena.extractor(r.setting.model), "test")[1]
        embedder = extractor.blank(faces, seed=r.setting.seed)
        load_weights(embedder, run.artifacts / needs["extractor"] / "weights.safetensors")
        stored = load_file(run.artifacts / needs["move"] / "photos.safetensors") if "move" in needs else {}
        clean = faces.photos[faces.published]
        self.published = stored.get("photos", clean)
        if stored:
            assert torch.equal(stored["rows"], faces.published)
        self.clean, self.moved, self.tests = (
            embed(embedder.eval(), photos) for photos in (clean, self.published, faces.photos[faces.tested])
        )
        self.owner, self.tested = faces.person[faces.published], faces.person[faces.tested]

    def right(self, mover: int) -> Tensor:
        """Return which test photos are named rightly when one person moves; nobody does for -1."""
        world = torch.where((self.owner == mover)[:, None], self.moved, self.clean)
        model = KNeighborsClassifier(1).fit(world.double().numpy(), self.owner.numpy())
        return torch.from_numpy(np.asarray(model.predict(self.tests.double().numpy()))) == self.tested

    def metrics(self) -> dict[str, float]:
        own, others, clean = [], [], []
        for mover in self.faces.movers.tolist():
            right, theirs = self.right(mover).double(), self.tested == mover
            own.append(float(right[theirs].mean()))
            others.append(float(right[~theirs].mean()))
            clean.append(float(self.right(-1)[theirs].double().mean()))
        return {
            "protection": 1 - float(np.mean(own)),
            "clean_error": 1 - float(np.mean(clean)),
            "others_accuracy": float(np.mean(others)),
        }


@pytest.mark.parametrize("move", ["none", NOISE, PGD, OPOM])
@pytest.mark.parametrize("model", [NEAREST, NEWER])
def test_the_metrics_are_those_of_a_fresh_computation(move: str, model: str, played: tuple[Summary, Results]) -> None:
    summary, results = played
    arena = results.arena
    assert isinstance(arena, Faces)
    found = row(results, move, "none", model)
    assert dict(found.metrics) == pytest.approx(Fresh(summary.run, arena, found).metrics())


def test_photos_that_all_leak_leave_nothing_to_any_cloak(played: tuple[Summary, Results]) -> None:
    for r in rows(played[1], "", "leaked(photos=99)", "nearest"):
        assert r.payoff == 0
        assert r.metrics["protection"] == r.metrics["clean_error"]
    some = [r.payoff or 0 for r in rows(played[1], PGD, "leaked(photos=2)", "nearest")]
    none = [r.payoff or 0 for r in rows(played[1], PGD, "none", "nearest")]
    assert sum(some) < sum(none)


def test_a_detector_reports_and_names_as_without_it(played: tuple[Summary, Results]) -> None:
    results = played[1]
    (spelled,) = {r.setting.countermove for r in results.rows if r.setting.countermove.startswith("detector")}
    for r in rows(results, "", spelled):
        assert r.record["units"] == row(results, r.setting.move, "none", r.setting.model).record["units"]
        assert {"detector_auc", "detector_recall", "detector_false_alarms"} <= set(r.metrics)
        if r.setting.move == "none":
            assert r.metrics["detector_auc"] == pytest.approx(0.5)
            assert r.metrics["detector_recall"] == r.metrics["detector_false_alarms"]
    assert all("detector_auc" not in r.metrics for r in results.rows if r.setting.countermove != spelled)


def test_two_names_are_at_least_as_good_as_one(played: tuple[Summary, Results]) -> None:
    two, adapted = "adaptive(epochs=2, photos=2)+top-2", "adaptive(epochs=2, photos=2)"
    for r in rows(played[1], "", two):
        for alone in ("none", adapted):
            (one,) = [
                o
                for o in rows(played[1], "", alone)
                if (o.setting.move, o.setting.model) == (r.setting.move, r.setting.model)
            ]
            assert r.metrics["protection"] <= one.metrics["protection"] + 1e-9
            assert r.metrics["clean_error"] <= one.metrics["clean_error"] + 1e-9


def test_access_says_what_a_mover_knew(played: tuple[Summary, Results]) -> None:
    results = played[1]
    opom = row(results, OPOM, "none", NEAREST).setting.move
    for model, move, access in (
        (NEAREST, "none", ""),
        (NEAREST, NOISE, "near-black"),
        (NEAREST, PGD, "white"),
        (LINEAR, PGD, "white"),
        (NEAREST, opom, "near-black"),
        (NEWER, opom, "white"),
        (NEWER, f"in-turn(cloaks=['none', '{PGD}'])", "white"),
        (NEWER, "in-turn(cloaks=['none', fawkes])", "near-black"),
        ("nearest", "fawkes", "white"),
        ("nearest(extractor=margin)", "lowkey", "near-black"),
        ("nearest(extractor=strong)", "lowkey", "white"),
    ):
        setting = Setting("faces", results.config.data[0], move, "none", model, 0)
        assert results.arena.access(setting) == access, (model, move)


def test_critical_layers_of_an_extractor_are_measured_on_the_trainers_photos(tmp_path: Path) -> None:
    ways = ("critical-layers(share=0.6)", "critical-layers(by=rewinding, share=0.6, steps=3)")
    replies = [
        METHODS.compose("countermove", f"adaptive(adaptation='{way}', epochs=1, examples=40, photos=1)").spelling
        for way in ways
    ]
    table = {**TABLE, "moves": [NOISE], "countermoves": replies, "models": [NEAREST]}
    results = load_results(play(resolve(make_config(table)), tmp_path / "audit").run)
    gradients, rewinding = (row(results, NOISE, reply, NEAREST).price for reply in replies)
    arena = results.arena
    assert isinstance(arena, Faces)
    blank = read_extractor(OWN, "test")[1].blank(arena.faces(results.config.data[0]), seed=0)
    size = sum(parameter.numel() for parameter in blank.parameters())
    for one in (gradients, rewinding):
        assert 0 < one["parameters_changed"] <= 0.6 * size
    assert rewinding["samples"] > gradients["samples"] > 40


def test_the_price_is_what_a_reply_costs_beyond_none(played: tuple[Summary, Results]) -> None:
    results = played[1]
    for r in results.rows:
        assert set(r.price) == set(PRICE)
        if r.setting.countermove == "none":
            assert all(r.price[name] == 0 for name in PRICE)
    arena = results.arena
    assert isinstance(arena, Faces)
    faces = arena.faces(results.config.data[0])
    blank = read_extractor(OWN, "test")[1].blank(faces, seed=0)
    size = sum(parameter.numel() for parameter in blank.parameters())

    def price(move: str, reply: str, model: str = NEAREST) -> dict[str, float]:
        return dict(row(results, move, reply, model).price)

    adaptive, public = price(NOISE, "adaptive(epochs=2, photos=2)"), len(faces.public)
    assert adaptive["parameters_changed"] == size
    assert adaptive["clean_examples"] == public
    assert adaptive["samples"] == 2 * (public + 2 * 40), "two epochs on all clean and two cloaked ones of each"
    assert adaptive["seconds"] > 0
    assert 4 * size < adaptive["bytes_stored"] < 4 * size + 20_000, "a full copy, beside the network it began with"
    few = price(NOISE, MASKS)
    assert few["clean_examples"] == 40
    assert 2 * 40 <= few["samples"] < 2 * (40 + 40), "and it cloaks no photos that it lacks"
    assert 0 < few["bytes_stored"] < adaptive["bytes_stored"] / 8, "at most a bit for each weight"
    biases = price(NOISE, "adaptive(adaptation=bitfit, epochs=2, photos=2)")
    assert biases["parameters_changed"] == sum(p.numel() for n, p in blank.named_parameters() if n.endswith("bias"))
    two = price(NOISE, "adaptive(epochs=2, photos=2)+top-2")
    assert two["bytes_stored"] - adaptive["bytes_stored"] == 4 * 16 * len(faces.published)
    assert price(NOISE, "leaked(photos=2)")["clean_examples"] == 2
    assert price(NOISE, "leaked(photos=99)")["clean_examples"] == 6
    assert price(NOISE, "jpeg(quality=30)")["samples"] == 0
    # what others lose is seen under the same move
    reply, none = (row(results, NOISE, c, NEAREST).metrics for c in ("jpeg(quality=30)", "none"))
    lost = none["others_accuracy"] - reply["others_accuracy"]
    assert price(NOISE, "jpeg(quality=30)")["clean_cost"] == pytest.approx(lost)
    purifier = price(NOISE, "purifier(epochs=1, photos=2, width=4)")
    assert purifier["samples"] == 2 * 2 * 40
    assert purifier["parameters_changed"] == 3 * 4 * 9 + 4 + 2 * (4 * 4 * 9 + 4) + 4 * 3 * 9 + 3
    assert purifier["clean_examples"] == 2 * 40


def test_a_trainer_who_cloaks_pays_for_it_and_the_mover_does_not(played: tuple[Summary, Results]) -> None:
    results = played[1]
    pgd = row(results, PGD, "adaptive(epochs=2, photos=2)", NEAREST)
    noise = row(results, NOISE, "adaptive(epochs=2, photos=2)", NEAREST)
    assert pgd.price["samples"] - noise.price["samples"] == 5 * 2 * 40, "five passes for every photo that it cloaks"
    for reply in dict.fromkeys(r.setting.countermove for r in rows(results, NOISE)):
        assert row(results, NOISE, reply, NEAREST).record["move_cost"]["samples"] == 0
        assert {r.record["move_cost"]["samples"] for r in rows(results, "none", reply)} == {0}
        costs = {r.record["move_cost"]["samples"] for r in rows(results, OPOM, reply)}
        assert costs == {4 * 48 + 4 * 320}, "the mask's steps, and the training of what it was made on"


def test_what_a_known_cloak_is_made_on_is_charged_to_the_trainer_alone() -> None:
    arena = Faces(Rules())
    setting = Setting("faces", DATA, NOISE, "adaptive(known=['opom(extractors=[half])'])", NEAREST, 0)
    cell = arena.cell(setting)
    assert sorted(task.kind for task in cell.charged_to("mover").values()) == ["move"]
    kinds = sorted(task.kind for task in cell.charged_to("trainer").values())
    assert kinds == ["adapted", "extractor", "extractor", "known"]


def test_the_verdict_is_drawn_and_the_panels_are_inert(played: tuple[Summary, Results]) -> None:
    summary, results = played
    verdict = judge(results)
    assert {move.move for move in verdict.moves} == {m for m in results.axis("move") if m not in ("none", "pgd")}
    panels = results.arena.panels(RunFolder(summary.run.path), results)
    assert [why_not_inert(panel.html) for panel in panels if why_not_inert(panel.html)] == []
    assert not [panel.summary for panel in panels if panel.summary.startswith("Not shown")]
    titles = [panel.title for panel in panels]
    assert "Whose rates these are" in titles
    assert f"The people: {results.config.data[0]}" in titles
    assert sum(title.startswith("Photos: ") for title in titles) >= 3


def test_what_is_stored_of_a_cloak_says_how_much_of_it_is_seen(played: tuple[Summary, Results]) -> None:
    summary, results = played
    arena = results.arena
    assert isinstance(arena, Faces)
    found = row(results, PGD, "none", NEAREST)
    facts = summary.run.manifest(found.record["needs"]["move"])["facts"]
    fresh = Fresh(summary.run, arena, found)
    clean = to_float(fresh.faces.photos[fresh.faces.published])
    similarity = ssim(to_float(fresh.published), clean)
    assert facts["ssim"] == pytest.approx(float(similarity.mean()), abs=1e-5)
    assert facts["ssim_worst"] == pytest.approx(float(similarity.min()), abs=1e-5)
    assert facts["budget"]["kept"] is True
    assert facts["budget"]["largest"] == pytest.approx(16 / 255, abs=1e-6)


@cache
def key_of(**changes: str) -> str:
    setting = {"move": NOISE, "countermove": "none", "model": NEAREST, "data": DATA} | changes
    return Faces(Rules()).cell(Setting("faces", seed=0, **setting)).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"countermove": "adaptive(known=[random-noise])"}, {"countermove": "adaptive"}),
        (
            {"countermove": "adaptive(known=[random-noise])"},
            {"countermove": "adaptive(known=['random-noise(eps=8/255)'])"},
        ),
        ({"countermove": "adaptive(known=[pgd])"}, {"countermove": "adaptive(known=['pgd(steps=19)'])"}),
        ({"countermove": "purifier"}, {"countermove": "purifier(on=gallery)"}),
        ({"countermove": "detector"}, {"countermove": "detector(quality=50)"}),
        ({"countermove": "adaptive+confidence"}, {"countermove": "adaptive+confidence(quantile=0.4)"}),
        ({"move": "in-turn(cloaks=['none', pgd])"}, {"move": "in-turn(cloaks=['none', 'pgd(steps=19)'])"}),
        ({"move": "lowkey"}, {"move": "lowkey(faithful=true)"}),
        ({"model": "nearest"}, {"model": "nearest(extractor=margin)"}),
        ({"model": "nearest"}, {"model": "linear"}),
        ({"data": DATA}, {"data": "planted-faces(people=47)"}),
    ],
)
def test_a_key_changes_with_every_setting(one: dict[str, str], other: dict[str, str]) -> None:
    assert key_of(**one) != key_of(**other)
    assert (
        key_of(**one)
        == Faces(Rules())
        .cell(
            Setting("faces", seed=0, **({"move": NOISE, "countermove": "none", "model": NEAREST, "data": DATA} | one))
        )
        .key
    )


def test_a_key_changes_with_the_version_of_a_cloak_that_the_trainer_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from countermove.faces.cloaks.opom import Opom

    setting = Setting("faces", DATA, NOISE, "adaptive(known=[opom])", NEAREST, 0)
    before = Faces(Rules()).cell(setting).key
    monkeypatch.setattr(Opom, "version", 99)
    assert Faces(Rules()).cell(setting).key != before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"training": {"epochs": 3}}, r"no \[training\] table"),
        ({"models": ["nearest+linear"]}, "joins several"),
        ({"moves": ["pgd+opom"]}, "joins several"),
        ({"moves": ["fawks"]}, "fawkes"),
        ({"moves": ["fawkes(mode=ultra)"]}, "'high'"),
        ({"countermoves": ["top-2"]}, r"adaptive\+top-2"),
        ({"countermoves": ["adaptive+adaptive"]}, "twice"),
        ({"countermoves": ["adaptive(known=[fawks])"]}, "fawkes"),
        ({"models": ["nearest(extractor=plane)"]}, "plain"),
        ({"models": ["linear(c=0)"]}, "c = 0"),
        ({"data": "planted-faces(movers=99)"}, "movers = 99"),
    ],
)
def test_a_wrong_audit_is_refused_before_anything_is_computed(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        resolve(make_config({**TABLE, **changes}))


def test_people_who_leave_nobody_to_train_on_fail_with_a_reason(tmp_path: Path) -> None:
    table = {**TABLE, "data": "planted-faces(movers=6, people=7, photos=4, side=16)", "moves": ["random-noise"]}
    table |= {"countermoves": ["none"], "models": [NEAREST]}
    errors = {
        r.record.get("error", "") for r in load_results(play(resolve(make_config(table)), tmp_path / "r").run).rows
    }
    assert any("lower movers" in error for error in errors)


def test_end_to_end_and_the_other_cloaks_are_played(tmp_path: Path) -> None:
    surrogate = f'extractors=["{OWN}"]'
    table = {
        **TABLE,
        "data": "planted-faces(movers=4, people=16, photos=6, side=24)",
        "moves": [
            f"fawkes(mode=low, steps=6, {surrogate})",
            f"fawkes-0.3(lr=100, steps=4, {surrogate})",
            f"lowkey(steps=3, {surrogate})",
            "in-turn(cloaks=[none, 'pgd(steps=3)'])",
        ],
        "countermoves": ["adaptive(epochs=1, photos=1)", "resize", "noise"],
        "models": [f'end-to-end(epochs=2, extractor="{OWN}", together=4)'],
    }
    results = load_results(play(resolve(make_config(table)), tmp_path / "run").run)
    assert [r.record.get("error") for r in results.rows if not r.ok] == []
    for r in results.rows:
        assert 0 <= r.metrics["protection"] <= 1
        if r.setting.move == "none":
            assert r.metrics["protection"] == r.metrics["clean_error"]
