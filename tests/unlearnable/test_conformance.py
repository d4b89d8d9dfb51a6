"""What every poison must keep, whoever wrote it. Countermeasures: test_countermeasures.py. Rows: rows.py."""

from __future__ import annotations

import dataclasses
import pickle
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.unlearnable.conftest import Bench
from tests.unlearnable.rows import COUNTERMOVE_ROWS, MOVE_ROWS
from torch import nn

from countermove.errors import ConfigError
from countermove.game.methods import Kind, Sheet, load
from countermove.pixels.batch import Batch
from countermove.pixels.files import read_picture, write_png
from countermove.pixels.rounding import to_float, to_uint8
from countermove.unlearnable.methods import COUNTERMOVES, METHODS, MOVES
from countermove.unlearnable.play import move_and_round
from countermove.unlearnable.poison import promised_ball

METHOD_CASES: list[tuple[Kind, str]] = [
    *(("move", name) for name in MOVES),
    *(("countermove", n) for n in COUNTERMOVES),
]
SPELLED = [
    (kind, f"{name}({row.settings})" if row.settings else name)
    for kind, table in (("move", MOVE_ROWS), ("countermove", COUNTERMOVE_ROWS))
    for name, rows in table.items()
    for row in rows
    if not getattr(row, "needs_file", False)
]
method_case = pytest.mark.parametrize(("kind", "name"), METHOD_CASES, ids=lambda x: str(x))


@method_case
def test_every_method_has_a_row(kind: Kind, name: str) -> None:
    table = {"move": MOVE_ROWS, "countermove": COUNTERMOVE_ROWS}[kind]
    assert table.get(name), f"{kind} {name!r} is not tested: add a row to tests/unlearnable/rows.py"


def test_no_row_without_a_method() -> None:
    assert set(MOVE_ROWS) <= set(MOVES)
    assert set(COUNTERMOVE_ROWS) <= set(COUNTERMOVES)


@method_case
def test_the_data_sheet_names_the_paper_and_explains_every_setting(kind: Kind, name: str) -> None:
    sheet = METHODS.sheet(kind, name)
    ours = {"move": MOVE_ROWS, "countermove": COUNTERMOVE_ROWS}[kind][name][0].ours
    assert len(sheet.summary.split()) >= 1
    assert sheet.summary[0].isupper()
    if ours:
        assert sheet.paper == ""
    else:
        assert re.search(r"\b(19|20)\d\d\b", sheet.paper), f"{name}: the docstring's first line names no paper"
        assert re.search(r"arXiv:\d{4}\.\d{4,5}|doi:", sheet.paper), f"{name}: {sheet.paper!r} cannot be looked up"
    undocumented = [field for field, _, _ in sheet.fields if not _documents(sheet, field)]
    assert not undocumented, f"{name}: the docstring does not explain {undocumented}"


def _documents(sheet: Sheet, field: str) -> bool:
    return re.search(rf"^\s*(?:\w+, )*{field}(?:, \w+)*:\s+\S", sheet.doc, re.MULTILINE) is not None


@method_case
def test_a_method_is_a_frozen_keyword_only_dataclass_with_a_version(kind: Kind, name: str) -> None:
    cls: Any = load(METHODS.target(kind, name))
    parameters = getattr(cls, "__dataclass_params__", None)
    assert parameters is not None
    assert parameters.frozen
    assert all(field.kw_only for field in dataclasses.fields(cls))
    assert type(cls.version) is int
    assert cls.version >= 1
    assert "version" not in {field.name for field in dataclasses.fields(cls)}
    if kind == "move":
        assert cls.norm in {"linf", "l2", "l0", None}
        assert type(cls.streams) is bool
        assert cls.norm is None or "eps" in {field.name for field in dataclasses.fields(cls)}


@pytest.mark.parametrize(("kind", "spelled"), SPELLED)
def test_spelled_and_read_back_it_is_the_same(kind: Kind, spelled: str) -> None:
    first = METHODS.compose(kind, spelled)
    again = METHODS.compose(kind, first.spelling)
    assert again == first
    assert again.spelling == first.spelling
    assert again.identity() == first.identity()
    assert hash(again.method) == hash(first.method)


@pytest.mark.parametrize(("kind", "spelled"), SPELLED)
def test_it_travels_to_a_worker_process(kind: Kind, spelled: str) -> None:
    method = METHODS.compose(kind, spelled).method
    assert pickle.loads(pickle.dumps(method)) == method


@pytest.mark.parametrize(("kind", "spelled"), SPELLED)
def test_settings_that_make_no_sense_are_refused(kind: Kind, spelled: str) -> None:
    name = spelled.split("(")[0]
    method = METHODS.compose(kind, spelled).method
    with pytest.raises(ConfigError, match="no setting 'colour_of_the_moon'"):
        METHODS.compose(kind, f"{name}(colour_of_the_moon=1)")
    for field in dataclasses.fields(method):
        with pytest.raises(ConfigError, match=rf"did you mean.*'{field.name}'"):
            METHODS.compose(kind, f"{name}({field.name}x=1)")
        value = getattr(method, field.name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            for bad in ("-1", "-0.5", ".nan", "inf", "many"):
                with pytest.raises(ConfigError, match=rf"{field.name}|{name}"):
                    METHODS.compose(kind, f"{name}({field.name}={bad})")
    if getattr(method, "norm", None) == "linf":
        with pytest.raises(ConfigError, match="8/255"):
            METHODS.compose(kind, f"{name}(eps=8)")


def test_shapes_labels_ids_and_input_are_kept(bench: Bench) -> None:
    batch = bench.batch
    before = batch.pictures.clone(), batch.labels.clone()
    moved = bench.moved()
    assert moved.pictures.shape == batch.pictures.shape
    assert moved.pictures.dtype == torch.float32
    assert torch.isfinite(moved.pictures).all()
    assert float(moved.pictures.min()) >= 0
    assert float(moved.pictures.max()) <= 1
    assert not moved.pictures.requires_grad
    assert torch.equal(moved.labels, batch.labels)
    assert moved.ids == batch.ids
    assert moved.classes == batch.classes
    assert torch.equal(batch.pictures, before[0])
    assert torch.equal(batch.labels, before[1])


def test_the_budget_is_kept_after_a_png_round_trip(bench: Bench, tmp_path: Path) -> None:
    poison = bench.composition.method
    stored, budget = move_and_round(poison, bench.batch, bench.context())
    assert stored.dtype == torch.uint8
    assert stored.shape == bench.batch.pictures.shape
    read = []
    for i, picture in enumerate(stored):
        path = tmp_path / f"{i}.png"
        write_png(path, picture.permute(1, 2, 0).numpy())
        read.append(torch.from_numpy(read_picture(path)).permute(2, 0, 1))
    published = torch.stack(read)
    assert torch.equal(published, stored)
    delta = to_float(published).double() - bench.batch.pictures.double()
    if bench.name == "none":
        assert not delta.any()
        return
    assert delta.any(), "the move died when it was saved with 8 bits"
    assert delta.min() < 0 < delta.max(), "one half of the noise was lost"
    ball = promised_ball(poison)
    assert (ball is None) == (budget["radius"] is None)
    if ball is not None:  # measured here once more, by other means than the ball's own
        flat = delta.flatten(1)
        sizes = {
            "linf": flat.abs().amax(1),
            "l2": flat.square().sum(1).sqrt(),
            "l0": (delta != 0).any(1).flatten(1).sum(1).double(),
        }[ball.norm]
        assert float(sizes.max()) <= ball.radius + 1e-6
        assert float(sizes.max()) > 0.3 * ball.radius, "hardly any of the budget is used"
        assert budget["kept"] is True
        assert budget["largest"] == pytest.approx(float(sizes.max()), rel=1e-4)


def test_eps_zero_changes_nothing(bench: Bench) -> None:
    if not bench.row.radius:
        assert bench.composition.method.norm is None
        return
    assert torch.equal(to_uint8(bench.moved(eps=0.0).pictures), to_uint8(bench.batch.pictures))


def test_same_seed_same_bytes_another_seed_others(bench: Bench) -> None:
    first, again, other = (bench.moved(seed=seed).pictures for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, other) != bench.row.random


def test_noise_follows_the_id_wherever_pictures_stream(bench: Bench) -> None:
    if not bench.composition.method.streams:
        needs_all = bench.row.network or bench.row.needs_file or bench.row.sees_all
        assert needs_all, "what needs no network should stream"
        return
    whole = bench.moved()
    shuffled = bench.batch.select([7, 3, 22, 0, 14, 11, 9])
    moved = bench.moved(shuffled)
    portions = [bench.moved(shuffled.select(rows)) for rows in ([0, 1], [2], [3, 4, 5, 6])]
    expected = whole.select([7, 3, 22, 0, 14, 11, 9])
    assert torch.equal(moved.pictures, expected.pictures)
    assert torch.equal(torch.cat([part.pictures for part in portions]), expected.pictures)


def test_noise_follows_ids_and_not_positions(bench: Bench) -> None:
    method = bench.composition.method
    if not method.streams or not bench.row.radius:
        return
    renamed = dataclasses.replace(bench.batch, ids=tuple(f"x{i}" for i in range(len(bench.batch))))
    follows_the_class = getattr(method, "form", "") == "class" or bench.name == "regions"
    same = torch.equal(bench.moved(renamed).pictures, bench.moved().pictures)
    assert same == follows_the_class


def test_the_surrogate_and_the_global_states_are_untouched(bench: Bench) -> None:
    network = bench.surrogate
    network.train()
    next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    next(network.parameters()).requires_grad_(False)
    before = _network_state(network), _global_states()
    bench.moved()
    assert _network_state(network) == before[0]
    assert _global_states() == before[1]
    assert torch.is_grad_enabled()


def _network_state(network: nn.Module) -> tuple[Any, ...]:
    return (
        {name: tensor.contiguous().numpy().tobytes() for name, tensor in network.state_dict().items()},
        [module.training for module in network.modules()],
        [(p.requires_grad, p.grad is None) for p in network.parameters()],
    )


def _global_states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return torch.get_rng_state().tolist(), name, np.asarray(keys).tolist(), tuple(rest), random.getstate()


def test_pictures_at_the_ends_of_the_range_stay_inside_it(bench: Bench) -> None:
    if bench.row.needs_file:  # its noise was made for the pictures as they are
        return
    batch = bench.batch.with_pictures((bench.batch.pictures > 0.5).float())
    stored, budget = move_and_round(bench.composition.method, batch, bench.context())
    assert budget["kept"] in {True, None}
    assert torch.isfinite(to_float(stored)).all()
    assert budget["radius"] is None or budget["largest"] <= budget["radius"] + 1e-6


def test_more_classes_than_pictures_are_no_problem(bench: Bench) -> None:
    if bench.row.network or bench.row.needs_file:
        return
    few: Batch = dataclasses.replace(bench.batch, classes=(*bench.batch.classes, "white", "black")).select([0, 1])
    assert bench.moved(few).pictures.shape == few.pictures.shape
