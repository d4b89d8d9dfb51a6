"""The arena as a whole, on a tiny BERT and made-up texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from countermove.errors import ConfigError, DataError, WeightsError
from countermove.finetuning.closeness import read_checkpoint
from countermove.finetuning.delta import weights_hash
from countermove.game.config import make_config
from countermove.game.results import Results, Row, load_results
from countermove.game.run import play, resolve
from countermove.game.store import RunFolder
from countermove.game.verdict import judge
from countermove.report.inert import why_not_inert
from countermove.tasks.fitting import Recipe, Rows, fit, matthews
from countermove.tasks.panels import paired_gap
from countermove.tasks.play import MOVED

FULL, LAST, SHARE = "full(lr=0.003)", "critical-layers(last=1, lr=0.003)", "critical-layers(lr=0.003, share=0.3)"
REWOUND = "critical-layers(by=rewinding, lr=0.003, share=0.3, steps=5)"
MASK, LORA, BIASES = "mask(embeddings=true)", "lora(lr=0.01, rank=2)", "bitfit(lr=0.01)"
DATA = "planted-words(test=100, topics=2, train=200)"


def audit(tiny: Path, **changes: object) -> dict[str, object]:
    table: dict[str, object] = {
        "arena": "tasks",
        "data": [DATA],
        "moves": ["none"],
        "countermoves": [FULL, LAST, SHARE, REWOUND, MASK, LORA, BIASES],
        "models": [f"public-bert(full_lr=0.003, weights={tiny})"],
        "seeds": [0],
        "training": {"epochs": 6, "batch_size": 16},
        "engine": {"threads": 1},
    }
    return {**table, **changes}


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return play(resolve(make_config(audit(tiny))), tmp_path_factory.mktemp("tasks")).run


@pytest.fixture(scope="module")
def results(run: RunFolder) -> Results:
    found = load_results(run)
    assert all(row.ok for row in found.rows), [row.record.get("error") for row in found.rows if not row.ok]
    return found


def row(results: Results, reply: str) -> Row:
    return next(r for r in results.rows if r.setting.countermove == reply)


def test_full_fine_tuning_learns_and_is_what_all_are_measured_against(results: Results) -> None:
    full = row(results, FULL)
    assert full.metrics["accuracy"] > 0.9
    assert full.payoff == 0
    assert full.metrics["matthews"] > 0.8
    for one in results.rows:
        mean = np.mean(one.record["units"]["outcome"])
        assert one.metrics["accuracy"] == pytest.approx(mean)
        assert one.payoff == pytest.approx((full.metrics["accuracy"] - mean) / (full.metrics["accuracy"] - 0.5))


def test_the_audit_proves_something_where_full_fine_tuning_learned(results: Results) -> None:
    assert judge(results).conclusive
    assert row(results, "none").metrics["accuracy"] < 0.9, "though the output layer alone may not"


def test_what_is_stored_shrinks_from_way_to_way(results: Results) -> None:
    stored = {one.setting.countermove: one.record["price"]["bytes_stored"] for one in results.rows}
    changed = {one.setting.countermove: one.record["price"]["parameters_changed"] for one in results.rows}
    whole = row(results, FULL).metrics
    assert stored[FULL] == pytest.approx(whole["bytes_full"], rel=0.1), "a full copy and its names"
    assert changed[FULL] <= whole["parameters"]
    head = 32 * 32 + 32 + 32 * 2 + 2
    assert changed["none"] == head, "only what no network published had"
    assert changed["none"] < changed[BIASES] < changed[LAST] < changed[FULL]
    assert stored[MASK] - 4 * head < (whole["bytes_full"] - 4 * head) / 32 * 1.05 + 6000, "a bit a number at most"
    assert 0 < row(results, MASK).metrics["sparsity"] < 1


def test_measuring_sensitivity_is_paid(results: Results) -> None:
    price = {reply: row(results, reply).record["price"] for reply in (LAST, SHARE, REWOUND)}
    assert price[SHARE]["samples"] == price[LAST]["samples"] + 8 * 16
    blocks = len([name for name in row(results, LAST).record["tables"] if name.startswith(MOVED)])
    assert price[REWOUND]["samples"] == price[LAST]["samples"] + (5 + 8 * (1 + blocks)) * 16


def test_only_the_chosen_layers_move(results: Results) -> None:
    def moved(reply: str) -> dict[str, float]:
        tables = row(results, reply).record["tables"]
        return {name.removeprefix(MOVED): tables[name][0][1] for name in tables if name.startswith(MOVED)}

    assert all(share > 0 for share in moved(FULL).values())
    assert {name for name, share in moved(LAST).items() if share} == {"bert.encoder.layer.1"}
    assert not any(moved("none").values())
    assert set(moved(FULL)) >= {"bert.embeddings.word_embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1"}


def test_the_base_is_untouched_and_shared(run: RunFolder, results: Results, tiny: Path) -> None:
    bases = {one.record["needs"]["base"] for one in results.rows}
    assert len(bases) == 1
    assert weights_hash(read_checkpoint(run.artifacts / bases.pop())) == weights_hash(read_checkpoint(tiny))


def test_the_same_cell_gives_the_same_outcome(results: Results, tiny: Path, tmp_path: Path) -> None:
    again = load_results(play(resolve(make_config(audit(tiny, countermoves=[MASK, LORA]))), tmp_path).run)
    for reply in (MASK, LORA, FULL):
        assert row(again, reply).record["units"] == row(results, reply).record["units"]
        assert row(again, reply).key == row(results, reply).key


def test_the_page_shows_every_way_and_where_the_network_moved(run: RunFolder, results: Results) -> None:
    panels = results.arena.panels(run, results)
    assert len(panels) == 2
    for panel in panels:
        assert not why_not_inert(panel.html)
    for reply in (FULL, MASK, LORA):
        assert reply in panels[0].html
    assert "bert.encoder.layer.1" in panels[1].html


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"moves": ["noise"]}, "unknown move"),
        ({"countermoves": ["full+mask"]}, "joins several"),
        ({"countermoves": ["mask(sparsity=2)"]}, "refused"),
        ({"training": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"training": {"epochs": 0}}, "at least 1"),
        ({"data": ["ag-new"]}, "did you mean 'ag-news'"),
    ],
)
def test_bad_audits_are_refused_before_anything_is_computed(tiny: Path, changes: dict, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        resolve(make_config(audit(tiny, **changes)))


def test_weights_that_are_not_there_or_others_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        resolve(make_config(audit(tiny, models=["public-bert(weights=nowhere)"])))
    with pytest.raises(WeightsError, match=r"lacks config\.json"):
        resolve(make_config(audit(tiny, models=[f"public-bert(weights={tmp_path})"])))
    with pytest.raises(WeightsError, match="SHA-256"):
        resolve(make_config(audit(tiny, models=[f"public-bert(sha256=abc, weights={tiny})"])))


def test_a_layer_that_is_not_there_fails_its_cell_alone(tiny: Path, tmp_path: Path) -> None:
    missing = "critical-layers(layers=[bert.encoder.layer.7])"
    found = load_results(play(resolve(make_config(audit(tiny, countermoves=[missing]))), tmp_path).run)
    assert row(found, missing).status == "failed"
    assert "there is no layer" in row(found, missing).record["error"]
    assert row(found, FULL).ok


def test_the_paired_interval_holds_what_it_should() -> None:
    source = np.random.default_rng(0)
    full = (source.random((3, 2000)) < 0.8).astype(float)
    same = paired_gap(full, full)
    assert same == (0, 0, 0)
    worse = full.copy()
    worse[:, :100] = 0
    mean, low, high = paired_gap(worse, full)
    assert mean == pytest.approx(-full[:, :100].sum() / full.size)
    assert low < mean < high < 0
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.04 * 0.96 / 2000), rel=0.25)


def test_matthews_is_zero_where_one_side_never_varies() -> None:
    import torch

    labels = torch.tensor([0, 1, 1, 0])
    assert matthews(torch.ones(4).long(), labels) == 0
    assert matthews(labels, labels) == 1


def test_padding_changes_no_answer(tiny: Path) -> None:
    """A text is read alike alone and beside a longer one."""
    import torch

    from countermove.pixels.randomness import generator
    from countermove.tasks.fitting import answers, encoded
    from countermove.tasks.model import build_reader
    from countermove.tasks.task import Texts

    reader = build_reader(tiny, 2, source=generator(0, "head"))
    long = Texts(texts=["the river", "the river " * 12], labels=[0, 1], ids=["a", "b"])
    rows = encoded(reader, long, length=32)
    both = reader.network(**rows.batch(torch.tensor([0, 1]), "cpu")[0]).logits[0]
    alone = reader.network(**rows.batch(torch.tensor([0]), "cpu")[0]).logits[0]
    assert rows.batch(torch.tensor([0]), "cpu")[0]["input_ids"].shape[1] < rows.tokens.shape[1]
    assert torch.allclose(both, alone, atol=1e-5)
    assert answers(reader.network, rows).shape == (2,)


def test_a_training_leaves_the_global_random_state(tiny: Path) -> None:
    import torch

    from countermove.pixels.randomness import generator
    from countermove.tasks.model import build_reader

    reader = build_reader(tiny, 2, source=generator(0, "head"))
    rows = Rows(tokens=torch.full((8, 4), 7), segments=torch.zeros(8, 4).long(), labels=torch.arange(8) % 2, pad=0)
    before = torch.get_rng_state()
    fit(reader.network, rows, recipe=Recipe(epochs=1, batch_size=4), lr=1e-3, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
