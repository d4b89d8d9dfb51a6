"""The arena on pictures: a network that was pre-trained on some classes learns others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from countermove.errors import ConfigError, DataError, WeightsError
from countermove.game.config import make_config
from countermove.game.results import Results, Row, load_results
from countermove.game.run import play, resolve
from countermove.game.store import RunFolder
from countermove.nets.features import logits_and_features
from countermove.pixels.bundled import CLASSES, read_mini
from countermove.pixels.randomness import generator
from countermove.report.inert import why_not_inert
from countermove.tasks.bases import FACTS
from countermove.tasks.data.pictures import BundledPictures
from countermove.tasks.fitting import answers
from countermove.tasks.models.small_network import SmallNetwork
from countermove.tasks.networks import PictureRows, build_classifier
from countermove.tasks.play import MOVED
from countermove.tasks.task import Pictures, PictureTask

SMALL = SmallNetwork(network="small-cnn(width=0.25)", classes=("airplane", "automobile", "frog"), epochs=2)
MODEL = "small-network(classes=[airplane, automobile, frog], epochs=2, full_lr=0.003, network='small-cnn(width=0.25)')"
DATA = "pictures(classes=[horse, truck], rows=200)"
FULL, REWOUND = "full(lr=0.003)", "critical-layers(by=rewinding, lr=0.003, share=0.6, steps=2)"
CHEAP = ["mask(sampler=bernoulli, scale=1)", "bitfit"] + (["lora(rank=2)"] if find_spec("peft") else [])


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what is pre-trained here out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("COUNTERMOVE_CACHE", str(folder))
        yield folder


def audit(**changes: object) -> dict[str, object]:
    table: dict[str, object] = {
        "arena": "tasks",
        "data": [DATA],
        "moves": ["none"],
        "countermoves": [FULL, REWOUND, *CHEAP],
        "models": [MODEL],
        "seeds": [0],
        "training": {"epochs": 3, "batch_size": 16},
        "engine": {"threads": 1},
    }
    return {**table, **changes}


@pytest.fixture(scope="module")
def run(own_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return play(resolve(make_config(audit())), tmp_path_factory.mktemp("pictures")).run


@pytest.fixture(scope="module")
def results(run: RunFolder) -> Results:
    found = load_results(run)
    assert all(row.ok for row in found.rows), [row.record.get("error") for row in found.rows if not row.ok]
    return found


def row(results: Results, reply: str) -> Row:
    spelled = results.arena.methods.compose("countermove", reply).spelling
    return next(r for r in results.rows if r.setting.countermove == spelled)


def test_a_network_learns_classes_that_it_has_not_seen(results: Results) -> None:
    full = row(results, FULL)
    assert full.metrics["accuracy"] > 0.7
    assert full.payoff == 0
    assert row(results, "none").metrics["accuracy"] < full.metrics["accuracy"]
    assert full.record["price"]["clean_examples"] == 200
    for one in results.rows:
        assert len(one.record["units"]["ids"]) == len(BundledPictures(classes=("horse", "truck"))().test)
        assert one.metrics["accuracy"] == pytest.approx(np.mean(one.record["units"]["outcome"]))


def test_cheap_ways_change_and_store_less(results: Results) -> None:
    price = {reply: row(results, reply).record["price"] for reply in (FULL, REWOUND, *CHEAP)}
    whole = row(results, FULL).metrics
    assert price[FULL]["parameters_changed"] == pytest.approx(whole["parameters"], rel=0.05)
    for reply in (REWOUND, *CHEAP):
        assert 0 < price[reply]["parameters_changed"] < price[FULL]["parameters_changed"]
        assert 0 < price[reply]["bytes_stored"] < price[FULL]["bytes_stored"]
    assert price[REWOUND]["samples"] > price[FULL]["samples"] == 3 * 200


def test_the_page_shows_where_it_moved(run: RunFolder, results: Results) -> None:
    panels = results.arena.panels(run, results)
    assert len(panels) == 2
    assert not any(why_not_inert(panel.html) for panel in panels)
    assert sum(name.startswith(MOVED) for name in row(results, FULL).record["tables"]) > 2


def test_a_network_is_pre_trained_once_and_taken_up(own_cache: Path, results: Results) -> None:
    folder = SMALL.folder()
    assert folder.is_relative_to(own_cache)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert SMALL.folder() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    assert facts["train_accuracy"][-1] > 0.4, "of three classes"
    others = [SmallNetwork(build=1), SmallNetwork(epochs=3), SmallNetwork(classes=("cat", "dog")), SMALL]
    assert len({other.content() for other in others}) == len(others)
    assert SMALL.content() == SmallNetwork(**{**vars(SMALL), "full_lr": 1.0}).content(), "its weights are the same"


def test_only_the_output_layer_is_new(results: Results) -> None:
    first, new = build_classifier(SMALL.folder(), 4, source=generator(0, "head"))
    second, _ = build_classifier(SMALL.folder(), 4, source=generator(1, "head"))
    differ = {name for name, tensor in first.state_dict().items() if not torch.equal(tensor, second.state_dict()[name])}
    assert differ == {f"{new[0]}.weight", f"{new[0]}.bias"}
    pictures = torch.rand(3, 3, 32, 32, generator=generator(2))
    seen = [logits_and_features(network, pictures) for network in (first, second)]
    assert seen[0][0].shape == (3, 4)
    assert torch.equal(seen[0][1], seen[1][1])


def test_the_bundled_pictures_of_some_classes() -> None:
    task = BundledPictures(classes=("truck", "bird"), rows=50)()
    pictures, labels, ids = read_mini("train")
    assert (task.classes, len(task.train)) == (("truck", "bird"), 50)
    for at in (0, 20, 49):
        where = ids.index(task.train.ids[at])
        assert torch.equal(task.train.pictures[at], torch.from_numpy(pictures[where].transpose(2, 0, 1).copy()))
        assert task.classes[task.train.labels[at]] == CLASSES[labels[where]]
    assert not set(task.train.ids) & set(task.test.ids)
    largest = max(task.test.labels.count(label) for label in (0, 1))  # pyright: ignore[reportAttributeAccessIssue]
    assert task.chance == largest / len(task.test)
    assert set(BundledPictures().classes).isdisjoint(SmallNetwork().classes)


def test_pictures_are_answered_in_their_order() -> None:
    task = BundledPictures(classes=("truck", "bird"), rows=300)()
    rows = PictureRows.of(task.train)

    def brightest(pictures: torch.Tensor) -> torch.Tensor:
        return pictures.mean((2, 3))

    network = torch.nn.Module()
    network.forward = brightest
    assert torch.equal(answers(network, rows), brightest(rows.pictures.float() / 255).argmax(1))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"models": ["small-bert"]}, "texts and pictures in audits of their own"),
        ({"data": ["planted-words"]}, "is for pictures"),
        ({"data": ["pictures(classes=[cat])"]}, "at least two different"),
        ({"data": ["pictures(classes=[cat, cow])"]}, "at least two different"),
        ({"data": ["pictures(rows=-1)"]}, "not below 0"),
        ({"models": ["small-network(epochs=0)"]}, "above 0"),
        ({"models": ["small-network(network=small-cmn)"]}, "did you mean 'small-cnn'"),
    ],
)
def test_bad_audits_are_refused_before_anything_is_computed(changes: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        resolve(make_config(audit(**changes)))


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than the"):
        BundledPictures(rows=99_999)()
    with pytest.raises(WeightsError, match="holds no network for pictures"):
        build_classifier(tmp_path, 2, source=generator(0))
    none = torch.zeros(0, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(DataError, match="ids unique"):
        Pictures(pictures=none, labels=[1], ids=["a"])
    empty = Pictures(pictures=none, labels=[], ids=[])
    with pytest.raises(DataError, match="at least two classes"):
        PictureTask(name="x", classes=("a", "b"), train=empty, test=empty)
