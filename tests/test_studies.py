"""Every study is playable as it stands, and its published numbers belong to squares that it plays."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from typer.testing import CliRunner

from countermove.cli.audit import find_audit
from countermove.cli.main import app
from countermove.errors import DataError
from countermove.game.arena import Arena, Rules, arena_class
from countermove.game.config import AuditConfig, load_config
from countermove.game.methods import KINDS, Kind
from countermove.game.run import resolve
from countermove.report.published import canonical
from countermove.studies import studies

ROOT = Path(__file__).parents[1]
REAL = Path(os.environ.get("COUNTERMOVE_DATA") or ROOT / "../shared/data").resolve()
SIZES: tuple[Literal["mini", "paper"], ...] = ("mini", "paper")
PICTURES_AND_SPEECH = ("pp-pictures", "pp-speech", "pp-trainers", "pp-profilers", "pp-captions")
OWN = ("aip-posters", *PICTURES_AND_SPEECH, "ir-grocery", "ir-keypoints", "ir-landmarks", "ir-owners")
"""Studies that play what a paper claims at mini size only."""
PAPER_STUDIES = [
    name for name in studies() if name.startswith(("em-", "iss-", "aip-", "pp-", "ir-")) and name not in OWN
]
FURTHER = {
    "accuracy",
    "moved_class_accuracy",
    "accuracy_moved_test",
    "verification_auc",
    "prediction_shift",
    "hr_before",
    "hr_after",
    "hr_change",
    "clean_accuracy",
    "strong_accuracy",
    "attention_on_additions",
    "map_before",
    "map_after",
    "ssim",
}
"""Metrics that may stand on the way to a published number."""
WANTED = (
    *(f"em-{name}" for name in "fig-1 table-1 table-2 fig-2cd fig-3a fig-3b fig-3c fig-5 fig-6 fig-8 fig-9".split()),
    *(f"em-{name}" for name in "table-3 table-5 faces".split()),
    *(f"iss-table-3.{number}" for number in range(2, 17)),
    *(f"iss-fig-3.{number}" for number in (3, 4)),
    *(f"aip-table-2.{number}" for number in range(3, 9)),
    "aip-fig-2.5",
    *(f"pp-table-4.{number}" for number in range(3, 12)),
    *(f"pp-fig-4.{number}" for number in (8, 9)),
    *(f"ir-table-5.{number}" for number in (1, 2, 4, 5, 6, 8)),
)


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERMOVE_DATA", str(REAL))
    monkeypatch.setenv("COUNTERMOVE_CACHE", str(tmp_path / "cache"))


def leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, branch in tree.items():
        if isinstance(branch, dict):
            yield from leaves(branch, (*path, name))
        else:
            yield (*path, name), branch


def arena_of(config: AuditConfig) -> Arena:
    return arena_class(config.arena)(Rules())


def spelled(config: AuditConfig) -> dict[Kind, set[str]]:
    """Return the canonical entries of every axis; none and the diagnostic are played without being named."""
    methods = arena_of(config).methods
    axes: dict[Kind, set[str]] = {
        kind: {methods.compose(kind, text).spelling for text in texts} for kind, texts in config.axes().items()
    }
    axes["move"].add("none")
    axes["countermove"] |= {"none", "left-out"}
    return axes


def test_every_table_and_figure_has_a_study() -> None:
    assert set(WANTED) <= set(studies())


@pytest.mark.parametrize("name", studies())
@pytest.mark.parametrize("size", SIZES)
def test_every_method_exists_and_takes_its_settings(name: str, size: Literal["mini", "paper"]) -> None:
    path = studies()[name]
    sizes = tomllib.loads(path.read_text(encoding="utf-8")).get("sizes")
    config = load_config(path, size=size if sizes else None)
    axes = spelled(config)
    for kind, texts in config.axes().items():
        assert len(axes[kind] - {"none", "left-out"}) == len(set(texts) - {"none"}), f"{kind}: an entry stands twice"
    assert config.name == name


@pytest.mark.parametrize("name", PAPER_STUDIES)
def test_a_study_of_a_paper_says_which_and_has_both_sizes(name: str) -> None:
    for size in SIZES:
        study = load_config(studies()[name], size=size).study
        assert study is not None
        assert study.size == size
        assert study.title
        assert "arXiv:" in study.paper or "thesis, chapter" in study.paper
        assert study.item.startswith(("Table", "Figure", "Section"))


def squares(config: AuditConfig) -> Iterator[tuple[tuple[str, ...], dict[Kind, str], float]]:
    """Yield every published number with its path and what of it is on which axis."""
    assert config.study is not None
    axes, arena = spelled(config), arena_of(config)
    for path, value in leaves(config.study.published):
        chosen: dict[Kind, str] = {}
        for word in path:
            text = config.study.names.get(word, word)
            free: list[Kind] = [kind for kind in KINDS if kind not in chosen]
            fits: list[Kind] = [kind for kind in free if canonical(arena, kind, text) in axes[kind]]
            if fits:
                chosen[fits[0]] = word
        yield path, chosen, value


@pytest.mark.parametrize("name", PAPER_STUDIES)
def test_every_published_number_has_a_square_at_paper_size(name: str) -> None:
    for path, chosen, value in squares(load_config(studies()[name], size="paper")):
        assert set(path) - FURTHER == set(chosen.values()), path
        assert "move" in chosen, path
        assert 0 <= value <= 1 or "prediction_shift" in path or "hr_change" in path, path


@pytest.mark.parametrize("name", PAPER_STUDIES)
def test_published_numbers_stand_beside_ours_at_mini_size(name: str) -> None:
    found = list(squares(load_config(studies()[name], size="mini")))
    played = [path for path, chosen, _ in found if "move" in chosen and set(path) - FURTHER == set(chosen.values())]
    assert bool(played) == bool(found)


@pytest.mark.parametrize("name", PAPER_STUDIES)
@pytest.mark.parametrize("size", SIZES)
def test_every_word_of_the_paper_stands_for_something_that_is_played(name: str, size: Literal["mini", "paper"]) -> None:
    config = load_config(studies()[name], size=size)
    assert config.study is not None
    axes, arena = spelled(config), arena_of(config)
    for word, text in config.study.names.items():
        assert any(canonical(arena, kind, text) in axes[kind] for kind in KINDS), f"{word!r}: {text!r} is not played"


def test_the_papers_words_may_stand_on_the_axes(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        """
        data = "cifar10-mini"
        moves = ["EM", "random"]
        countermoves = "Gray"
        models = "small-cnn"
        [study]
        title = "t"
        paper = "p"
        names = { EM = "error-minimizing", Gray = "gray" }
        [sizes.paper.study.names]
        EM = "error-minimizing(surrogate=resnet-18)"
        [sizes.mini]
        """,
        encoding="utf-8",
    )
    mini, paper = (load_config(path, size=size) for size in SIZES)
    assert (mini.moves, mini.countermoves) == (("error-minimizing", "random"), ("gray",))
    assert paper.moves == ("error-minimizing(surrogate=resnet-18)", "random")
    assert load_config(path, sets=["moves=EM"]).moves == ("error-minimizing",)
    assert [config.study and config.study.size for config in (mini, paper)] == ["mini", "paper"]


@pytest.mark.parametrize("name", PAPER_STUDIES)
def test_the_grid_at_mini_size_is_accepted(name: str) -> None:
    config = load_config(studies()[name], size="mini", sets=["seeds=1"])
    try:
        grid = resolve(config)
    except DataError as error:
        if REAL.is_dir():  # then nothing may be missing, and the error is the study's
            raise
        pytest.skip(f"needs the development data: {error}")
    assert len(grid.cells) >= len(config.data) * len(config.moves)
    assert {cell.setting.seed for cell in grid.cells if cell.setting} == {0}


def test_a_name_with_a_dot_is_a_study() -> None:
    assert find_audit("iss-table-3.2") == studies()["iss-table-3.2"]
    told = CliRunner().invoke(app, ["audit", "iss-table-3.11", "--size", "mini", "--seeds", "1", "--dry-run", "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.output)["out"] == "runs/iss-table-3.11"


@pytest.mark.parametrize(("told", "played"), [("2", [0, 1]), ("1-2", [1, 2]), ("0,4,7", [0, 4, 7])])
def test_seeds_on_the_command_line_are_a_count_a_range_or_a_list(told: str, played: list[int]) -> None:
    call = ["audit", "iss-table-3.11", "--seeds", told, "--dry-run", "--json"]
    answer = CliRunner().invoke(app, call)
    assert answer.exit_code == 0, answer.output
    labels = [task["label"] for task in json.loads(answer.output)["tasks"]]
    assert sorted({int(label.rpartition("seed ")[2]) for label in labels}) == played


def test_results_that_are_claimed_are_there() -> None:
    rows = json.loads(CliRunner().invoke(app, ["ls", "studies", "--json"]).output)
    claimed = {row["name"]: row["results"] for row in rows if row["results"]}
    for name, folder in claimed.items():
        assert folder == f"docs/results/{name}"
        assert (ROOT / folder / "results.csv").is_file(), f"{name} claims results that are not in {folder}"
    there = {path.parent.name for path in (ROOT / "docs" / "results").glob("*/results.csv")}
    assert there & set(studies()) == set(claimed)
