"""Audit files: strict, with an answer for every misspelling, and written back without loss."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermove.errors import ConfigError
from countermove.game.config import (
    MAX_BYTES,
    MAX_SEEDS,
    AuditConfig,
    apply_sets,
    dump_config,
    load_config,
    make_config,
)

MINIMAL: dict[str, Any] = {"data": "purse", "moves": "loaded", "countermoves": "shake", "models": "thumb"}
FILE = """
arena = "coin"
data = "purse"
moves = ["loaded", {name = "shaved", angle = 30}]
countermoves = ["shake"]
models = "thumb"
seeds = 3
[training]
rounds = 5
sleep = 0.5
[sizes.mini]
seeds = 1
training = {rounds = 2}
[sizes.paper]
models = ["thumb", "machine"]
"""


@pytest.fixture
def audit_file(tmp_path: Path) -> Path:
    path = tmp_path / "coins.toml"
    path.write_text(FILE)
    return path


def changed(**changes: Any) -> AuditConfig:
    return make_config({**MINIMAL, **changes})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"countermove": "gray"}, r"unknown key 'countermove': did you mean 'countermoves'"),
        ({"engine": {"worker": 2}}, r"unknown key 'engine.worker': did you mean 'workers'"),
        ({"engine": {"adress": "auto"}}, r"unknown key 'engine.adress': did you mean 'address'"),
        ({"engine": {"name": "rya"}}, r"engine.name = 'rya' is refused: .*'local' or 'ray'"),
        ({"engine": {"address": "ray://head:10001"}}, r"an address is host:port or auto"),
        ({"engine": {"memory": "2 apples"}}, r"engine.memory = '2 apples' is refused: .*\"2GiB\""),
        ({"engine": {"gpus": 1.5}}, r"more than one GPU is a whole number"),
        ({"engine": {"timeout": 0}}, r"engine.timeout = 0 is refused"),
        ({"study": {"title": "t", "paper": "p", "items": "x"}}, r"unknown key 'study.items': did you mean 'item'"),
        ({"study": {"title": "t"}}, r"the key 'study.paper' is missing"),
        ({"zzz": 1}, r"unknown key 'zzz': known: arena, countermoves"),
        ({"moves": 3}, r"moves.0 = 3 is refused"),
        ({"moves": [["loaded"]]}, r"moves.0 = \['loaded'\] is refused"),
        ({"moves": {"angle": 3}}, r"a table here needs a name"),
        ({"moves": {"name": "loaded", "deep": {"x": 1}}}, r"cannot be a setting"),
        ({"arena": 3}, r"arena = 3 is refused"),
        ({"name": "../up"}, r"name = '../up' is refused"),
        ({"device": "tpu"}, r"device = 'tpu' is refused: .*'auto', 'cpu' or 'cuda'"),
        ({"engine": {"workers": 0}}, r"engine.workers = 0 is refused"),
        ({"engine": {"name": "cloud"}}, r"engine.name = 'cloud' is refused"),
        ({"training": 3}, r"training = 3 is refused"),
        ({"engine": 3}, r"engine = 3 is refused"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        changed(**changes)


@pytest.mark.parametrize("axis", ["data", "moves", "countermoves", "models"])
def test_every_axis_must_be_there(axis: str) -> None:
    table = {key: value for key, value in MINIMAL.items() if key != axis}
    with pytest.raises(ConfigError, match=f"the key '{axis}' is missing"):
        make_config(table)


def test_a_table_and_a_text_say_the_same() -> None:
    table = changed(moves=[{"name": "loaded", "bias": 0.4, "note": "a, b"}, "shaved"])
    text = changed(moves=['loaded(bias=0.4, note="a, b")', "shaved"])
    assert table == text
    assert changed(moves="loaded") == changed(moves=["loaded"])


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        (3, (0, 1, 2)),
        ([4, 7], (4, 7)),
        ("0-2", (0, 1, 2)),
        ("0,4, 7-8", (0, 4, 7, 8)),
        ("5", (5,)),
    ],
)
def test_seeds_have_several_spellings(seeds: Any, expected: tuple[int, ...]) -> None:
    assert changed(seeds=seeds).seeds == expected


@pytest.mark.parametrize(
    "seeds",
    [0, -1, [], "2-1", "a", "", "0-", "-1", [0, 0], "0-2,1", [-1], True, 1.5, ["a"], MAX_SEEDS + 1, "0-99999999999999"],
)
def test_wrong_seeds_are_refused(seeds: Any) -> None:
    with pytest.raises(ConfigError, match="seeds"):
        changed(seeds=seeds)


def test_a_size_replaces_entries(audit_file: Path) -> None:
    mini, paper = load_config(audit_file, size="mini"), load_config(audit_file, size="paper")
    assert load_config(audit_file) == mini
    assert mini.seeds == (0,)
    assert mini.training == {"rounds": 2, "sleep": 0.5}
    assert mini.models == ("thumb",)
    assert paper.seeds == (0, 1, 2)
    assert paper.training == {"rounds": 5, "sleep": 0.5}
    assert paper.models == ("thumb", "machine")
    assert mini.moves == ("loaded", "shaved(angle=30)")
    assert mini.name == "coins"


@pytest.mark.parametrize("sizes", ["sizes = 3", "[sizes.huge]\nseeds = 1", "[sizes]\nmini = 3"])
def test_sizes_are_two_tables(tmp_path: Path, sizes: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f"{sizes}\n" if sizes.startswith("sizes") else f'moves = "loaded"\n{sizes}\n')
    with pytest.raises(ConfigError, match=r"\[sizes.mini\] and \[sizes.paper\]"):
        load_config(path)


def test_a_size_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[sizes.mini]\nseeds = 1\n")
    with pytest.raises(ConfigError, match="has no size 'paper': it has mini"):
        load_config(path, size="paper")


@pytest.mark.parametrize(
    ("override", "field", "expected"),
    [
        ("seeds=0-2", "seeds", (0, 1, 2)),
        ("seeds=2", "seeds", (0, 1)),
        ("seeds=[4, 5]", "seeds", (4, 5)),
        ("moves=loaded(bias=0.4)", "moves", ("loaded(bias=0.4)",)),
        ('moves=["loaded", "shaved"]', "moves", ("loaded", "shaved")),
        ("training.rounds=9", "training", {"rounds": 9, "sleep": 0.5}),
        ("training.eps=8/255", "training", {"rounds": 2, "sleep": 0.5, "eps": 8 / 255}),
        ("training.deep.er=x y", "training", {"rounds": 2, "sleep": 0.5, "deep": {"er": "x y"}}),
        ("name=other", "name", "other"),
    ],
)
def test_overrides(audit_file: Path, override: str, field: str, expected: Any) -> None:
    assert getattr(load_config(audit_file, sets=[override]), field) == expected


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("seeds", "write key=value"),
        ("=3", "write key=value"),
        ("name.x=3", "'name' is no table"),
        ("engine.workers=many", "engine.workers = 'many' is refused"),
        ("worker=3", "unknown key 'worker'"),
    ],
)
def test_wrong_overrides_are_refused(audit_file: Path, override: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_config(audit_file, sets=[override])


def test_overrides_leave_the_table_alone() -> None:
    table = {"training": {"rounds": 1}}
    assert apply_sets(table, ["training.rounds=2"]) == {"training": {"rounds": 2}}
    assert table == {"training": {"rounds": 1}}


plain = st.text(max_size=12)
spelled = st.lists(plain, min_size=1, max_size=4)
settings_values = st.recursive(
    plain | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=6,
)
tables = st.dictionaries(plain, settings_values, max_size=4)
studies = st.fixed_dictionaries({"title": plain, "paper": plain, "item": plain, "note": plain, "published": tables})


@given(
    table=st.fixed_dictionaries(
        {
            "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
            "arena": plain,
            "data": spelled,
            "moves": spelled,
            "countermoves": spelled,
            "models": spelled,
            "seeds": st.lists(st.integers(0, 10**6), min_size=1, max_size=5, unique=True),
            "device": st.sampled_from(["auto", "cpu", "cuda"]),
            "training": tables,
            "engine": st.fixed_dictionaries(
                {"workers": st.integers(1, 64), "threads": st.none() | st.integers(1, 64)},
            ),
            "study": st.none() | studies,
        }
    )
)
def test_what_was_written_is_read_back(table: dict[str, Any]) -> None:
    config = make_config(table)
    text = dump_config(config)
    assert make_config(tomllib.loads(text)) == config


def test_a_file_is_read_back(tmp_path: Path, audit_file: Path) -> None:
    config = load_config(audit_file, size="paper")
    again = tmp_path / "again.toml"
    again.write_text(dump_config(config))
    assert load_config(again) == config


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"moves = [", "is not valid TOML"),
        (b"a = 1\na = 2", "is not valid TOML"),
        (b"\xff\xfe\x00", "is not a text file in UTF-8"),
        (b"x = " + b"[" * 50_000, "is not valid TOML"),
        (b"#" * (MAX_BYTES + 1), "an audit file has at most 1,000,000"),
        (b"", "the key 'data' is missing"),
    ],
)
def test_what_is_no_audit_file_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the audit file .*No such file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"cannot read the audit file .*directory"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 * 2**30), ("500 MB", 500_000_000), ("1.5k", 1500), (4096, 4096), ("4096", 4096), ("64KiB", 65536)],
)
def test_memory_is_read_as_bytes_and_written_back(text: str | int, size: int, tmp_path: Path) -> None:
    config = changed(engine={"name": "ray", "memory": text, "gpus": 0.25, "timeout": 60, "address": "10.0.0.1:6379"})
    assert config.engine.memory == size
    (tmp_path / "again.toml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.toml").engine == config.engine
