"""`protect retrieval`: queries keep names, size and budget and lose their likeness; interruptions cost nothing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from countermove.cli.protect import protect as verb
from countermove.errors import ConfigError, DataError, RunError
from countermove.pixels.files import read_picture, walk_pictures
from countermove.pixels.published import Protected
from countermove.retrieval import protect as protecting
from countermove.retrieval.data.planted import PlantedScenes
from countermove.retrieval.methods import METHODS
from countermove.retrieval.protect import protect_folder

SMALL = "small(epochs=2, network='small-cnn(width=0.25)')"
DATA = "planted-scenes(distractors=0, public=4, public_views=4, scenes=1, side=32, views=2)"
MOVE = "pire-final(eps=16/255, steps=4)"


@pytest.fixture(scope="module", autouse=True)
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COUNTERMOVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write three queries of different sizes: one in the root, two in folders."""
    scenes = PlantedScenes(scenes=3, views=2, distractors=0, public=0, side=64, seed=5)()
    sizes = {"one.png": (64, 64), "a/two.jpg": (50, 40), "a/b/three.png": (33, 64)}
    for number, (name, size) in enumerate(sizes.items()):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scenes.pictures[2 * number].permute(1, 2, 0).numpy()).resize(size).save(path)
    return tmp_path / "in"


def protect(source: Path, out: Path, method: str = MOVE, **options: Any) -> Protected:
    given: dict[str, Any] = {"model": SMALL, "data": DATA, **options}
    return protect_folder(source, out, METHODS.compose("move", method), **given)


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def lines(out: Path) -> dict[str, dict[str, Any]]:
    return {record["id"]: record for record in records(out) if "id" in record}


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in walk_pictures(out)}


def test_queries_keep_name_size_and_budget_and_lose_their_likeness(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = protect(source, out)
    assert (done.pictures, done.written, done.skipped, done.undone, done.gone) == (3, 3, (), (), ())
    assert walk_pictures(out) == ["a/b/three.png", "a/two.png", "one.png"]
    written = lines(out)
    for line in written.values():
        clean, stored = read_picture(source / line["source"]), read_picture(out / line["out"])
        assert clean.shape == stored.shape
        change = np.abs(stored.astype(int) - clean).max()
        assert 4 <= change <= 16
        assert line["budget"] * 255 == pytest.approx(change)
        assert line["kept"] is True
        assert 0.79 <= line["facts"]["ssim"] < 1
        ((_, saved),) = line["facts"]["like"].items()
        ((_, sent),) = line["facts"]["like_jpeg_75"].items()
        assert saved < 0.999
        assert sent != saved
    assert done.budget["kept"] is True
    assert done.budget["radius"] == pytest.approx(16 / 255)
    ssims = [line["facts"]["ssim"] for line in written.values()]
    assert done.facts["ssim"] == {"mean": pytest.approx(np.mean(ssims)), "least": min(ssims)}
    (like,) = done.facts["like"].values()
    assert like["most"] == max(one for line in written.values() for one in line["facts"]["like"].values())
    (strangers,) = done.facts["strangers"].values()
    assert -1 < strangers < 1
    assert any("cosine" in told for told in done.told)


def test_more_steps_take_more_of_the_likeness_away(source: Path, tmp_path: Path) -> None:
    few, many = (
        protect(source, tmp_path / str(n), f"pire-final(eps=16/255, floor=0, steps={n})").facts["like"] for n in (1, 12)
    )
    assert min(few[name]["mean"] - many[name]["mean"] for name in few) > 0.01


def test_the_measured_likeness_is_what_the_backbone_sees(source: Path, tmp_path: Path) -> None:
    import torch

    from countermove.retrieval.protect_surrogates import Surrogates

    protect(source, tmp_path / "out")
    move = METHODS.compose("move", MOVE)
    given = {"model": SMALL, "data": DATA, "seed": 0, "device": "cpu", "longest": 512}
    (network,) = Surrogates.of(move, **given).open(lambda *_: None).by_name.values()
    line = lines(tmp_path / "out")["a/two"]
    pair = [read_picture(source / "a/two.jpg"), read_picture(tmp_path / "out/a/two.png")]
    with torch.no_grad():
        one, other = network(torch.from_numpy(np.stack(pair)).permute(0, 3, 1, 2).float() / 255)
    assert next(iter(line["facts"]["like"].values())) == pytest.approx(float(one @ other), abs=1e-3)


def test_the_same_call_goes_on_and_gives_the_same_bytes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protect(source, tmp_path / "whole")
    wanted = contents(tmp_path / "whole")
    calls: list[str] = []
    real = protecting.change

    def interrupted(method: Any, pictures: Any, ids: list[str], **rest: Any) -> Any:
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.extend(ids)
        return real(method, pictures, ids, **rest)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(protecting, "change", interrupted)
        with pytest.raises(KeyboardInterrupt):
            protect(source, out)
    assert len(contents(out)) == 1
    done = protect(source, out)
    assert (done.pictures, done.written) == (3, 2)
    assert contents(out) == wanted
    again = protect(source, out)
    assert (again.pictures, again.written) == (3, 0)
    assert again.facts == done.facts
    (out / "one.png").write_bytes(b"damaged")
    assert protect(source, out).written == 1
    assert contents(out) == wanted
    (source / "one.png").unlink()
    assert protect(source, out).gone == ("one",)
    with pytest.raises(RunError, match="begun otherwise"):
        protect(source, out, seed=1)
    with pytest.raises(RunError, match="longest was 512 and is now 64"):
        protect(source, out, longest="64")


def test_a_query_does_not_depend_on_which_others_come_with_it(source: Path, tmp_path: Path) -> None:
    protect(source, tmp_path / "all")
    shutil.rmtree(source / "a")
    protect(source, tmp_path / "one")
    assert contents(tmp_path / "one")["one.png"] == contents(tmp_path / "all")["one.png"]


def test_a_move_without_backbones_is_measured_by_its_ssim_alone(source: Path, tmp_path: Path) -> None:
    done = protect(source, tmp_path / "out", "noise(ssim=0.9)", model=None, data=None)
    assert done.facts["ssim"]["least"] >= 0.9 - 1e-3
    assert "like" not in done.facts
    assert done.budget["radius"] is None


def test_odd_pictures_are_changed_or_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = np.random.default_rng(0)
    odd = {"gray": (30, 40), "tiny": (8, 8, 3), "panorama": (9, 700, 3), "clear": (40, 40, 4)}
    for name, shape in odd.items():
        Image.fromarray(source.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / f"in/{name}.png")
    (tmp_path / "in/broken.jpg").write_bytes(b"\xff\xd8\xff no")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        protect(tmp_path / "in", tmp_path / "out")
    done = protect(tmp_path / "in", tmp_path / "out", on_broken="skip", longest=64)
    assert done.pictures == 4
    assert "broken.jpg" in done.skipped[0]
    assert lines(tmp_path / "out")["tiny"]["facts"]["ssim"] is None
    for name, shape in odd.items():
        assert read_picture(tmp_path / f"out/{name}.png").shape == (*shape[:2], 3)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("pire-final", {"model": None}, "--model plain --data grocery"),
        ("pire-final", {"data": None}, "must be trained on pictures first"),
        ("pire-final", {"model": "global"}, "looks through no backbone"),
        ("pire-final", {"data": "grocery + landmarks"}, "one"),
        ("pire-final(backbones=[other])", {"model": "plain"}, "given twice"),
        ("pire-final", {"model": "stolen"}, "lists that an engine returns"),
        ("none", {}, "protects nobody"),
        ("noise", {"data": None}, "no backbones of its own"),
        ("noise", {"model": None}, "uses no backbone"),
        ("universal", {"model": "public(weights=checkpoint:x)", "data": None}, "needs public pictures"),
        ("pire-final", {"longest": "wide"}, "longest = wide is refused"),
        ("pire-final", {"engine": "global"}, "--against"),
        ("noise", {"model": None, "data": None, "against": ".", "engine": "local"}, "vocabulary"),
    ],
)
def test_what_does_not_fit_is_refused(
    method: str, options: dict[str, Any], said: str, source: Path, tmp_path: Path
) -> None:
    if "against" in options:
        options = {**options, "against": source / "a"}
    with pytest.raises(ConfigError, match=re.escape(said)):
        protect(source, tmp_path / "out", method, **options)


def test_folders_that_do_not_fit_are_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        protect(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="inside the sources"):
        protect(source, source / "out")
    with pytest.raises(DataError, match="--against"):
        protect(source, tmp_path / "out", against=tmp_path / "nowhere")
    with pytest.raises(DataError, match="inside each other"):
        protect(source, tmp_path / "out", against=tmp_path)


def test_an_engine_stands_for_its_backbone(source: Path, tmp_path: Path) -> None:
    protect(source, tmp_path / "out", model=f'neural(backbone="{SMALL}")')
    protect(source, tmp_path / "named")
    assert contents(tmp_path / "out") == contents(tmp_path / "named")


def test_the_page_shows_what_queries_find_and_needs_no_other_file(source: Path, tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    for number in range(8):
        noise = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(pool / f"{number}.png")
    shutil.copy(source / "one.png", pool / "<b>&one.png")
    done = protect(source, tmp_path / "out", against=pool)
    page = (tmp_path / "out/results.html").read_text(encoding="utf-8")
    assert str(tmp_path / "out/results.html") == done.facts["page"]
    assert page.count("<tr>") == 1 + 3
    assert page.count("<img") == 3 * (2 + 2 * 6)
    assert page.count('src="data:image/jpeg;base64,') == page.count("<img")
    assert "http" not in page
    assert "<b>" not in page
    first = re.search(r"1\. &lt;b&gt;&amp;one\.png \(after: (\d+)\)", page)
    assert first is not None, "an untouched query finds itself first"
    protect(source, tmp_path / "noise", "noise", model=None, data=None, against=str(pool))
    assert "against global," in (tmp_path / "noise/results.html").read_text(encoding="utf-8")


def test_the_command_line_protects_queries(source: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    app.command("protect", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(verb)
    words = ["protect", "retrieval", str(source), str(tmp_path / "out"), "--with", "pire-final", "--steps", "2"]
    words += ["--model", SMALL, "--data", DATA, "--longest", "64"]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.output
    assert "3 queries are in" in ended.output
    assert "SSIM" in ended.output
    ended = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(ended.stdout)["queries"] == 3
    assert json.loads(ended.stdout)["written"] == 0
