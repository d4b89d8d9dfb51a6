"""Tasks from files: what is read, what is refused, and the real ones where they are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from countermove.errors import ConfigError, DataError
from countermove.tasks.data.glue import AgNews, Cola, Rte, Sst2, read_table
from countermove.tasks.data.planted import PlantedWords
from countermove.tasks.task import Texts


def written(root: Path, folder: str, files: dict[str, str]) -> Path:
    place = root / "glue" / folder
    place.mkdir(parents=True)
    for name, text in files.items():
        (place / name).write_text(text, encoding="utf-8")
    return root


def test_sst2_joins_the_training_files_and_tests_on_glues_development_set(tmp_path: Path) -> None:
    head = "sentence\tlabel\n"
    files = {
        "train.tsv": head + 'a "quoted film\t1\nbad\t0\n',
        "dev.tsv": head + "fine \t1\n",
        "test.tsv": head + "so so\t0\n",
    }
    task = Sst2()(root=written(tmp_path, "SST-2", files))
    assert list(task.train.texts) == ['a "quoted film', "bad", "fine"], "quotes are letters like others"
    assert list(task.train.labels) == [1, 0, 1]
    assert list(task.test.texts) == ["so so"]
    assert task.chance == 1.0


def test_the_other_tasks_read_their_columns(tmp_path: Path) -> None:
    cola = {"train.tsv": "x\t1\t\tFine.\n", "val.tsv": "x\t0\t*\tNot fine it.\n", "dev.tsv": "x\t1\t\tGood.\n"}
    found = Cola()(root=written(tmp_path, "CoLA", cola))
    assert (list(found.train.texts), list(found.train.labels)) == (["Fine.", "Not fine it."], [1, 0])
    head = "index\tsentence1\tsentence2\tlabel\n"
    rte = {
        "train.tsv": head + "0\tA cat sleeps.\tA cat.\tentailment\n",
        "val.tsv": "7\tA dog.\tA cat.\tnot_entailment\n",
        "dev.tsv": head + "0\tA.\tB.\tnot_entailment\n",
    }
    pairs = Rte()(root=written(tmp_path, "RTE", rte))
    assert list(pairs.train.pairs or ()) == ["A cat.", "A cat."]
    assert list(pairs.train.labels) == [1, 0]
    news = {"dev.tsv": "One.\tWorld\nTwo.\tSports\n", "test.tsv": "Three.\tWorld\n"}
    agnews = AgNews(rows=1)(root=written(tmp_path, "agnews_subset", news))
    assert agnews.classes == ("Sports", "World")
    assert list(agnews.train.texts) == ["One."]
    with pytest.raises(DataError, match="rows = 3"):
        AgNews(rows=3)(root=tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\tb\tc\n", "line 1: 3 columns where 2"),
        ("only\n", "line 1: 1 columns"),
        ("\n\n", "holds no rows"),
        ("x" * 100_001 + "\t1\n", "no sentence has more"),
    ],
)
def test_broken_tables_are_refused_by_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(DataError, match=reason):
        read_table(tmp_path / "t.tsv", columns=2, header=False)


def test_other_faults_have_names(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_bytes(b"\xff\xfe\t1\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_table(tmp_path / "t.tsv", columns=2, header=False)
    with pytest.raises(DataError, match=r"lacks train\.tsv"):
        Sst2()(root=tmp_path)
    files = {name: "sentence\tlabel\nfine\tperhaps\n" for name in ("train.tsv", "dev.tsv", "test.tsv")}
    with pytest.raises(DataError, match="'perhaps' is none of"):
        Sst2()(root=written(tmp_path, "SST-2", files))
    for wrong in ({"rows": -1}, {"length": 2}):
        with pytest.raises(ConfigError):
            Sst2(**wrong)
    with pytest.raises(DataError, match="ids unique"):
        Texts(texts=["a", "b"], labels=[0, 1], ids=["x", "x"])


def test_made_up_texts_are_the_same_every_time_and_hold_their_topic() -> None:
    first, second = PlantedWords()(), PlantedWords()()
    assert first == second
    assert not set(first.train.ids) & set(first.test.ids)
    assert first.chance == 0.25
    with pytest.raises(ConfigError):
        PlantedWords(topics=9)


@pytest.mark.data
@pytest.mark.parametrize(
    ("read", "train", "test", "classes"),
    [
        (Sst2(), 67_349, 872, 2),
        (AgNews(rows=0), 10_001, 7_600, 4),
        (AgNews(), 8_000, 7_600, 4),
        (Cola(), 8_551, 1_043, 2),
        (Rte(), 2_490, 277, 2),
    ],
)
def test_the_real_ones_have_their_published_sizes(
    data_root: Path, read: Callable, train: int, test: int, classes: int
) -> None:
    task = read(root=data_root)
    assert (len(task.train), len(task.test), len(task.classes)) == (train, test, classes)
