"""The verb `protect` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from tests import hostile
from typer.testing import CliRunner

from countermove.cli.protect import compose, protect, read_arguments
from countermove.errors import ConfigError, CountermoveError
from countermove.unlearnable.methods import METHODS

app = typer.Typer(pretty_exceptions_enable=False)
app.command("protect", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(protect)
app.command("other")(lambda: None)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """Four pictures, one of them broken if it is read, and an output that is not there yet."""
    for i in range(4):
        (tmp_path / f"in/{'ab'[i % 2]}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"in/{'ab'[i % 2]}/{i}.png").write_bytes(hostile.encoded(hostile.noise(16, 16, seed=i)))
    return str(tmp_path / "in"), str(tmp_path / "out")


def typed(*words: str, code: int = 0) -> tuple[str, str]:
    ended = CliRunner().invoke(app, ["protect", *words])
    if isinstance(ended.exception, CountermoveError):
        raise ended.exception
    assert ended.exit_code == code, ended.output
    return ended.stdout, ended.stderr


def header(out: str) -> dict[str, object]:
    return json.loads((Path(out) / "manifest.jsonl").read_text(encoding="utf-8").split("\n", 1)[0])


def test_settings_as_options_anywhere(folders: tuple[str, str]) -> None:
    source, out = folders
    words, progress = typed(
        "--eps",
        "0.5",
        "unlearnable",
        source,
        "--patch-size=4",
        out,
        "--with",
        "linear-separable(separation=5)",
        "--seed",
        "3",
    )
    settings = {"eps": 0.5, "patch_size": 4, "separation": 5.0, "gray": False}
    assert header(out).items() >= {"settings": settings, "seed": 3}.items()
    assert "4 pictures are in" in words
    assert "4 of them written now" in words
    assert "promised 0.5" in words
    assert f"manifest {out}/manifest.jsonl" in words
    assert "protecting: 4 of 4 pictures" in progress


def test_json(folders: tuple[str, str]) -> None:
    source, out = folders
    (Path(source) / "a/broken.png").write_bytes(b"no picture")
    with pytest.raises(CountermoveError, match=r"broken\.png is not a PNG"):
        typed("unlearnable", source, out, "--with", "random", "--eps", "4/255", "--json")
    words, progress = typed(
        "unlearnable", source, out, "--with", "random", "--eps", "4/255", "--json", "--on-broken", "skip"
    )
    told = json.loads(words)
    assert (told["pictures"], len(told["skipped"]), progress) == (4, 1, "")
    assert told["budget"]["radius"] == 4 / 255
    assert told["budget"]["kept"] is True
    assert 0 < told["budget"]["largest"] <= 4 / 255 + 1e-6


def test_pictures_left_out_and_gone_are_named(folders: tuple[str, str]) -> None:
    source, out = folders
    call = ("unlearnable", source, out, "--with", "random", "--on-broken", "skip")
    typed(*call)
    (Path(source) / "a/0.png").write_bytes(b"no picture")
    (Path(source) / "b/1.png").unlink()
    words, complaints = typed(*call)
    assert "2 pictures are in" in words
    assert "left out: " in complaints
    assert "a/0.png" in complaints
    assert "have no original any more, the first is 'b/1'" in complaints


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["recommender", "IN", "OUT", "--with", "random"],
            "the arena 'recommender'; it knows: faces, profiles, retrieval, unlearnable",
        ),
        (["unlearnable", "IN", "OUT", "--with", "randon"], "did you mean 'random'"),
        (["unlearnable", "IN", "OUT", "--with", "random", "--epz", "1"], "--epz is neither .* did you mean '--eps'"),
        (["unlearnable", "IN", "OUT", "--with", "random", "--sead", "1"], "did you mean '--seed'"),
        (["unlearnable", "IN", "OUT", "--with", "random(eps=0.1)", "--eps", "0.2"], "'eps' is given twice"),
        (["unlearnable", "IN", "OUT", "--with", "random", "--eps", "0.1", "--eps=0.2"], "--eps is given twice"),
        (["unlearnable", "IN", "OUT", "--with", "random", "--eps", "8"], "eps = 8 is larger .* write 8/255"),
        (["unlearnable", "IN", "OUT", "--with", "random", "--eps", "-1"], "must be a finite number"),
        (["unlearnable", "IN", "OUT", "--with", "random", "--eps"], "--eps needs a value"),
        (["unlearnable", "IN", "OUT", "--with", "random", "-e", "1"], "'-e' is no option"),
        (["unlearnable", "IN", "OUT", "MORE", "--with", "random"], "unexpected argument 'MORE'"),
        (["unlearnable", "IN", "--eps", "0.1", "--with", "random"], "OUT is missing"),
        (["unlearnable", "IN", "OUT", "--with", "random+regions"], "joins several methods"),
        (["unlearnable", "IN", "OUT", "--with", "random", "--on-broken", "ignore"], "fail or skip"),
        (["unlearnable", "IN", "IN/out", "--with", "random"], "inside the sources"),
    ],
)
def test_bad_calls_change_nothing(folders: tuple[str, str], words: list[str], message: str) -> None:
    source, out = folders
    with pytest.raises(CountermoveError, match=message):
        typed(*(word.replace("IN", source).replace("OUT", out) for word in words))
    assert not Path(out).exists()
    assert len(list(Path(source).rglob("*"))) == 6


def test_ctrl_c_leaves_work_that_goes_on(folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = folders
    call = ("unlearnable", source, out, "--with", "random")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("countermove.unlearnable.protect._move_portion", interrupted)
        _, complaint = typed(*call, code=130)
    assert "the same command goes on" in complaint
    assert "4 of them written now" in typed(*call)[0]


def test_arguments_are_told_apart() -> None:
    names, settings = read_arguments(["--a-b=1", "x", "--path", "/tmp/a", "y", "--eps", "-1", "z"])
    assert (names, settings) == (["x", "y", "z"], {"a_b": "1", "path": "/tmp/a", "eps": "-1"})


def test_settings_keep_their_value() -> None:
    composed = compose(METHODS, "error-minimizing(form=class)", {"eps": "16/255", "augment": "false", "lr": "0.025"})
    assert (composed.method.eps, composed.method.augment, composed.method.lr) == (16 / 255, False, 0.025)
    with pytest.raises(ConfigError, match="steps"):
        compose(METHODS, "error-minimizing", {"steps": "many"})
