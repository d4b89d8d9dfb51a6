"""Bags of features from a table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from countermove.errors import DataError
from countermove.game.config import make_config
from countermove.game.results import load_results
from countermove.game.run import play, resolve
from countermove.profiles.data.instances import Instances


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """20 bags with 2 to 4 instances of 3 numbers, and 30 instances of nobody's."""
    source = torch.Generator().manual_seed(0)
    lines = ["bag,label,who,name,a,b,c"]
    for bag in range(20):
        for item in range(2 + bag % 3):
            a, b, c = torch.randn(3, generator=source).tolist()
            label = "yes" if bag % 2 else "no"
            lines.append(f"bag{bag},{label},owner{bag},i{item},{a + 3 * (bag % 2)},{b},{c}")
    for item in range(30):
        a, b, c = torch.randn(3, generator=source).tolist()
        lines.append(f",background,,b{item},{a + 3 * (item % 2)},{b},{c}")
    path = tmp_path / "bags.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def of(path: Path, **settings: object) -> Instances:
    return Instances(table=str(path), leave_out=("name",), owner="who", **settings)  # pyright: ignore[reportArgumentType]


def test_bags_labels_and_order_are_the_tables(table: Path) -> None:
    data = of(table)()
    assert data.medium == "table"
    assert data.classes == ("no", "yes")
    assert len(data.bags) == 20
    assert len(data.background) == 30
    rows = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    for name, bag, label in zip(data.profile_ids, data.bags, data.labels.tolist(), strict=True):
        mine = [row for row in rows if row[2] == name.partition("#")[0]]
        assert data.classes[label] == mine[0][1]
        wanted = torch.tensor([[float(value) for value in row[4:]] for row in mine])
        assert torch.allclose(data.items[bag], wanted)


def test_natural_instances_are_added_in_an_audit(table: Path, tmp_path: Path) -> None:
    audit = {
        "arena": "profiles",
        "data": f"instances(leave_out=[name], owner=who, table='{table}', test=0.4)",
        "moves": ["nat-i(choice=best)"],
        "countermoves": ["back-off"],
        "models": ["deep-sets(epochs=20, features=table)"],
        "seeds": 1,
        "engine": {"threads": 1},
    }
    results = load_results(play(resolve(make_config(audit)), tmp_path / "run").run)
    assert {row.status for row in results.rows} == {"ok"}
    moved = [row for row in results.rows if row.setting.move != "none" and row.setting.countermove == "none"]
    assert all(row.metrics["accuracy"] <= row.metrics["clean_accuracy"] for row in moved)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("bag0,no,owner0,i0,", "bag0,no,owner0,i0,x", "no finite number"),
        ("bag0,no,owner0,i1,", "bag0,yes,owner0,i1,", "bag0 is yes"),
        ("bag0,no,owner0,i1,", "bag0,no,owner5,i1,", "bag0 is no of owner5"),
        ("bag0,no,owner0,i0,", ",no,owner0,i0,", "has no bag"),
        ("bag,label,who", "sack,label,who", "no column 'bag'"),
    ],
)
def test_broken_tables_are_refused(table: Path, old: str, new: str, message: str) -> None:
    text = table.read_text(encoding="utf-8")
    assert old in text
    table.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        of(table)()


def test_the_fingerprint_follows_the_table(table: Path) -> None:
    before = of(table).fingerprint()
    table.write_text(table.read_text(encoding="utf-8") + "\n,background,,z,1,2,3", encoding="utf-8")
    assert of(table).fingerprint(rehash=True) != before
