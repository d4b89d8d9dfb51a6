"""``countermove weights`` as it is called."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from countermove.cli.main import app
from countermove.errors import ConfigError, CountermoveError, WeightsError
from countermove.finetuning.delta import weights_hash

RUN = CliRunner()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Return files of a base and of a tuned network: one layer masked, one moved, one as it was."""
    source = torch.Generator().manual_seed(0)
    names = ("layer.0.weight", "layer.1.weight", "layer.2.weight")
    base = {name: torch.randn(20, 30, generator=source) for name in names}
    tuned = {
        **base,
        "layer.1.weight": base["layer.1.weight"] + 0.01,
        "head.weight": torch.randn(3, 20, generator=source),
    }
    tuned["layer.2.weight"] = torch.where(base["layer.2.weight"].abs() > 0.1, base["layer.2.weight"], 0)
    for name, state in (("base", base), ("tuned", tuned)):
        safetensors.torch.save_file(state, tmp_path / f"{name}.safetensors")
    return tmp_path / "base.safetensors", tmp_path / "tuned.safetensors"


def call(*words: object) -> str:
    done = RUN.invoke(app, ["weights", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_closeness_in_every_form(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shown = call("closeness", *pair)
    assert "layer.2" in shown
    assert "head.weight" in shown, "what only one of them has is said"
    rows = list(csv.DictReader(io.StringIO(call("closeness", *pair, "--format", "csv"))))
    assert [row["name"] for row in rows] == ["layer.0", "layer.1", "layer.2"]
    assert [float(row["angle"]) > 0 for row in rows] == [False, True, True]
    assert json.loads(call("closeness", *pair, "--by", "tensor", "--format", "json"))[0]["name"] == "layer.0.weight"
    picture = tmp_path / "closeness.svg"
    call("closeness", *pair, "--picture", picture)
    drawn = ElementTree.fromstring(picture.read_text())
    assert len(drawn.findall("{http://www.w3.org/2000/svg}rect")) == 2, "a bar for each layer that moved"


def test_packed_and_applied_it_is_the_tuned_network(pair: tuple[Path, Path], tmp_path: Path) -> None:
    delta, out = tmp_path / "task.safetensors", tmp_path / "out.safetensors"
    said = call("pack", *pair, delta)
    assert f"{delta.stat().st_size:,} bytes" in said
    call("apply", pair[0], delta, out)
    assert weights_hash(safetensors.torch.load_file(out)) == weights_hash(safetensors.torch.load_file(pair[1]))
    shown = call("show", delta)
    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["new", "whole", "mask"]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["closeness", "BASE", "TUNED", "--by", "layers"], ConfigError),
        (["closeness", "BASE", "TUNED", "--format", "html"], ConfigError),
        (["closeness", "BASE", "nowhere.safetensors"], WeightsError),
        (["show", "BASE"], WeightsError),
        (["apply", "TUNED", "DELTA", "out.safetensors"], WeightsError),
        (["apply", "BASE", "DELTA", "out.bin"], ConfigError),
    ],
)
def test_what_is_refused(
    pair: tuple[Path, Path],
    tmp_path: Path,
    words: list[str],
    kind: type[CountermoveError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    call("pack", *pair, "delta.safetensors")
    places = {"BASE": str(pair[0]), "TUNED": str(pair[1]), "DELTA": "delta.safetensors"}
    done = RUN.invoke(app, ["weights", *(places.get(word, word) for word in words)])
    assert isinstance(done.exception, kind)
    assert not list(tmp_path.glob("out.*"))
