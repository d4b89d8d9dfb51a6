"""`protect faces`: faces in ordinary photos are cloaked, once, within the budget, whatever interrupts the work."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from tests import hostile
from typer.testing import CliRunner

from countermove.cli.protect import protect as verb
from countermove.errors import ConfigError, CountermoveError, DataError, RunError, WeightsError
from countermove.faces import protect_crops, protect_photos
from countermove.faces.data.planted import PlantedFaces
from countermove.faces.detection import Face
from countermove.faces.methods import METHODS
from countermove.faces.protect import protect_folder
from countermove.faces.protect_crops import cut, put_back, whole
from countermove.faces.protect_surrogates import Surrogates, equal_error
from countermove.pixels.balls import Ball
from countermove.pixels.files import read_picture, walk_pictures
from countermove.pixels.published import Protected
from countermove.pixels.rounding import to_float

SMALL = "small(dim=16, epochs=1, network=small-cnn)"
DATA = "planted-faces(movers=3, people=8, photos=4)"
PGD = "pgd(eps=8/255, steps=3)"
EPS = 8
Box = tuple[int, int, int]


class Marked:
    """Finds the faces that a photo's first row names, and notes the photos that it sees."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, picture: np.ndarray) -> list[Face]:
        self.seen.append(f"{picture.shape}")
        if tuple(picture[0, 0, 1:]) != (7, 7):
            return []
        boxes = [tuple(map(int, picture[0, 1 + i])) for i in range(int(picture[0, 0, 0]))]
        found = [Face(box=(float(x), float(y), float(s), float(s)), points=None, confidence=1.0) for x, y, s in boxes]
        return sorted(found, key=lambda face: -face.length)


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """Faces of people whom no extractor knows, uint8 [N, 32, 32, 3]."""
    return PlantedFaces(people=4, photos=6, movers=2, seed=9)().photos.permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERMOVE_CACHE", str(cache))


def photo(faces: np.ndarray, *boxes: Box, size: tuple[int, int] = (90, 120), seed: int = 0) -> np.ndarray:
    """Return a canvas of noise, height x width, with faces in boxes (x, y, side) that `Marked` finds."""
    canvas = hostile.noise(*size, seed=seed) // 4 + 100
    for i, (x, y, side) in enumerate(boxes):
        face = faces[(seed + i) % len(faces)]
        canvas[y : y + side, x : x + side] = np.asarray(Image.fromarray(face).resize((side, side)))
    canvas[0, 0] = (len(boxes), 7, 7)
    for i, box in enumerate(boxes):
        canvas[0, 1 + i] = box
    return canvas.astype(np.uint8)


def album(root: Path, faces: np.ndarray, *, n: int = 6) -> Path:
    """Write photos of one face each, with different sizes and places, into the root and two folders."""
    for i in range(n):
        path = root / ("", "Ann/2020", "Bob")[i % 3] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas = photo(faces, (20 + 5 * i, 30, 40 + i), size=(90 + i, 160), seed=i)
        path.write_bytes(hostile.encoded(canvas))
    return root


def protect(source: Path, out: Path, method: str = PGD, **options: Any) -> Protected:
    given = {"model": SMALL, "data": DATA, "detector": Marked()} | options
    return protect_folder(source, out, METHODS.compose("move", method), **given)


def outputs(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in walk_pictures(out)}


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def lines(out: Path) -> dict[str, dict[str, Any]]:
    return {record["id"]: record for record in records(out) if "id" in record}


def test_photos_keep_their_size_and_the_change_its_place(tmp_path: Path, drawn: np.ndarray) -> None:
    source, out = album(tmp_path / "in", drawn), tmp_path / "out"
    done = protect(source, out)
    assert (done.pictures, done.written, done.skipped, done.undone, done.gone) == (6, 6, (), (), ())
    assert walk_pictures(out) == walk_pictures(source)
    assert [p.name for p in out.iterdir() if not p.is_dir() and p.suffix != ".png"] == ["manifest.jsonl"]
    largest = []
    for line in lines(out).values():
        clean, stored = (read_picture(p).astype(int) for p in (source / line["source"], out / line["out"]))
        assert clean.shape == stored.shape
        change = np.abs(stored - clean).max(axis=2)
        largest.append(int(change.max()))
        assert line["budget"] * 255 == pytest.approx(change.max())
        (face,) = line["facts"]["faces"]
        x, y, w, h = face["box"]
        rows, columns = change.nonzero()
        half = 1.21 * w / 2 + 1
        assert np.abs(columns + 0.5 - (x + w / 2)).max() <= half
        assert np.abs(rows + 0.5 - (y + h / 2 - 0.057 * h)).max() <= half
        assert line["kept"] is True
    assert 4 <= min(largest)
    assert max(largest) <= EPS
    assert done.budget == {
        "norm": "linf",
        "radius": EPS / 255,
        "largest": pytest.approx(max(largest) / 255),
        "mean": pytest.approx(np.mean(largest) / 255),
        "kept": True,
    }


def test_the_manifest_says_what_was_done(tmp_path: Path, drawn: np.ndarray) -> None:
    source, out = album(tmp_path / "in", drawn), tmp_path / "out"
    done = protect(source, out, seed=3)
    header = records(out)[0]
    assert header["arena"] == "faces"
    assert header["seed"] == 3
    assert header["method"] == f'pgd(eps=8/255, extractors=["{SMALL}"], steps=3)'
    assert [found["spelling"] for found in header["extractors"]] == [SMALL]
    assert header["data"]["spelling"] == METHODS.compose("data", DATA).spelling
    assert header["faces"] == {"how": "detect", "several": "all", "detector": "Marked", "settings": {}}
    assert "metadata" in header["pictures"]
    assert {line["id"]: line["person"] for line in lines(out).values()} == {
        "00": ".",
        "03": ".",
        "Ann/2020/01": "Ann",
        "Ann/2020/04": "Ann",
        "Bob/02": "Bob",
        "Bob/05": "Bob",
    }
    # measured again, from the files alone
    opened = Surrogates.of(METHODS.compose("move", PGD), model=SMALL, data=DATA, seed=3, device="cpu").open(
        lambda *_: None
    )
    for line in lines(out).values():
        clean, stored = read_picture(source / line["source"]), read_picture(out / line["out"])
        buffer = io.BytesIO()
        Image.fromarray(stored).save(buffer, "JPEG", quality=75)
        (face,) = line["facts"]["faces"]
        matrix = Face(box=tuple(face["box"]), points=None, confidence=1.0).matrix(32)
        crops = [cut(picture, matrix, 32) for picture in (clean, stored, np.asarray(Image.open(buffer)))]
        a, b, c = opened.features(torch.stack(crops))
        assert face["moved"] == pytest.approx(float((a - b).square().sum()), abs=1e-3)
        assert face["moved_jpeg_75"] == pytest.approx(float((a - c).square().sum()), abs=1e-3)
    moved = [line["facts"]["faces"][0]["moved"] for line in lines(out).values()]
    assert min(moved) > 0
    assert done.facts["moved"] == {"mean": pytest.approx(np.mean(moved)), "least": min(moved)}
    assert done.facts["faces"] == 6
    assert any("6 faces were cloaked in 6 photos" in sentence for sentence in done.told)


def test_orientation_is_applied_and_metadata_are_dropped(tmp_path: Path, drawn: np.ndarray) -> None:
    upright = photo(drawn, (30, 20, 40))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "taken at home"
    (tmp_path / "in").mkdir()
    stored_lying = hostile.encoded(np.ascontiguousarray(np.rot90(upright)), "WEBP", lossless=True, exif=exif)
    (tmp_path / "in/IMG 1.webp").write_bytes(stored_lying)
    (tmp_path / "in/IMG 2.PNG").write_bytes(hostile.encoded(upright))
    protect(tmp_path / "in", tmp_path / "out", "random-noise(eps=8/255)", model=None, data=None)
    with Image.open(tmp_path / "out/IMG 1.png") as image:
        assert (image.size, image.mode, dict(image.getexif()), image.info) == ((120, 90), "RGB", {}, {})
    change = read_picture(tmp_path / "out/IMG 1.png").astype(int) - upright
    assert 0 < np.abs(change).max() <= EPS
    assert walk_pictures(tmp_path / "out") == ["IMG 1.png", "IMG 2.png"]


def test_gray_photos_stay_gray(tmp_path: Path, drawn: np.ndarray) -> None:
    plain = photo(drawn, (30, 20, 40))
    plain[1:] = plain[1:].mean(axis=2, keepdims=True)
    plain[0] = 7
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(hostile.encoded(plain))

    def found(_: np.ndarray) -> list[Face]:
        return [Face(box=(30.0, 20.0, 40.0, 40.0), points=None, confidence=1.0)]

    protect(tmp_path / "in", tmp_path / "out", detector=found)
    stored = read_picture(tmp_path / "out/a.png")
    assert (stored == stored[:, :, :1]).all()
    assert 4 <= np.abs(stored.astype(int) - plain).max() <= EPS


def test_a_photo_without_a_face_is_never_silent(tmp_path: Path, drawn: np.ndarray) -> None:
    source = album(tmp_path / "in", drawn, n=3)
    (source / "sea.png").write_bytes(hostile.encoded(hostile.noise(40, 60) // 8))
    (source / "tiny.png").write_bytes(hostile.encoded(photo(drawn, (20, 20, 25))))
    said = ("sea.png: no face found; left out", "tiny.png: 1 face under 30 pixels left out; tiny.png: no face of")
    finder = Marked()
    done = protect(source, tmp_path / "out", detector=finder)
    assert (done.pictures, done.skipped, len(done.undone)) == (3, (), 2)
    assert all(message.startswith(start) for message, start in zip(done.undone, said, strict=True))
    assert {r["no_face"] for r in records(tmp_path / "out") if "no_face" in r} == {"sea", "tiny"}
    assert walk_pictures(tmp_path / "out") == ["00.png", "Ann/2020/01.png", "Bob/02.png"]

    finder.seen.clear()
    manifest = (tmp_path / "out/manifest.jsonl").read_bytes()
    done = protect(source, tmp_path / "out", detector=finder)
    assert (done.written, len(done.undone), len(finder.seen)) == (0, 2, 1)  # the one is the blank that it is tried on
    assert (tmp_path / "out/manifest.jsonl").read_bytes() == manifest

    done = protect(source, tmp_path / "out", no_face="skip")
    assert (done.written, len(done.skipped), done.undone) == (0, 2, ())
    done = protect(source, tmp_path / "out", no_face="copy")
    assert (done.pictures, done.written, done.undone) == (5, 2, ())
    assert done.facts["copied"] == ["sea", "tiny"]
    assert any("2 photos without a face were copied and are NOT protected" in sentence for sentence in done.told)
    assert (read_picture(tmp_path / "out/sea.png") == read_picture(source / "sea.png")).all()
    done = protect(source, tmp_path / "out")
    assert (done.written, len(done.undone)) == (0, 2)
    assert "an unprotected copy lies in the output" in done.undone[0]


def test_several_faces(tmp_path: Path, drawn: np.ndarray) -> None:
    (tmp_path / "in").mkdir()
    canvas = photo(drawn, (10, 30, 36), (70, 20, 44), (130, 40, 20), size=(100, 160))
    (tmp_path / "in/party.png").write_bytes(hostile.encoded(canvas))
    done = protect(tmp_path / "in", tmp_path / "all")
    assert done.facts["notes"] == ["party.png: 1 face under 30 pixels left out", "party.png: 2 faces, all taken"]
    (line,) = lines(tmp_path / "all").values()
    assert [face["box"] for face in line["facts"]["faces"]] == [[70, 20, 44, 44], [10, 30, 36, 36]]
    protect(tmp_path / "in", tmp_path / "one", several="largest")
    (line,) = lines(tmp_path / "one").values()
    assert [face["box"] for face in line["facts"]["faces"]] == [[70, 20, 44, 44]]
    both, one = (read_picture(tmp_path / name / "party.png") for name in ("all", "one"))
    assert (both[:, 60:] == one[:, 60:]).all()
    assert (one[:, :55] == canvas[:, :55]).all()
    assert (both[:, :55] != canvas[:, :55]).any()


@pytest.mark.parametrize("method", [PGD, "lowkey(steps=2)", "fawkes(steps=3)", "random-noise"])
def test_neither_portions_nor_company_show(
    tmp_path: Path, drawn: np.ndarray, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    source = album(tmp_path / "in", drawn, n=7)
    (source / "group.png").write_bytes(hostile.encoded(photo(drawn, (5, 30, 36), (60, 20, 44), size=(100, 160))))
    with_ = {} if method != "random-noise" else {"model": None, "data": None}
    protect(source, tmp_path / "whole", method, **with_)
    whole_album = outputs(tmp_path / "whole")
    monkeypatch.setattr(protect_photos, "PORTION", 1)
    protect(source, tmp_path / "single", method, **with_)
    assert outputs(tmp_path / "single") == whole_album
    assert lines(tmp_path / "single") == lines(tmp_path / "whole")
    for name in ("00.png", "Ann/2020/01.png", "Ann/2020/04.png"):
        (source / name).unlink()
    monkeypatch.setattr(protect_photos, "PORTION", 5)
    protect(source, tmp_path / "fewer", method, **with_)
    assert outputs(tmp_path / "fewer") == {name: whole_album[name] for name in walk_pictures(source)}


def test_the_same_call_again_does_what_is_missing(tmp_path: Path, drawn: np.ndarray) -> None:
    source, out = album(tmp_path / "in", drawn), tmp_path / "out"
    protect(source, out)
    before, manifest = outputs(out), (out / "manifest.jsonl").read_bytes()
    touched = {name: (out / name).stat().st_mtime_ns for name in before}
    finder = Marked()
    assert protect(source, out, detector=finder).written == 0
    assert len(finder.seen) == 1
    assert {name: (out / name).stat().st_mtime_ns for name in before} == touched
    assert (out / "manifest.jsonl").read_bytes() == manifest
    (out / "00.png").unlink()
    (out / "Bob/02.png").write_bytes(b"half a pho")
    assert protect(source, out).written == 2
    assert outputs(out) == before
    (source / "Bob/05.png").unlink()
    (source / "new.png").write_bytes(hostile.encoded(photo(drawn, (20, 20, 40), seed=50)))
    done = protect(source, out)
    assert (done.written, done.pictures, done.gone) == (1, 6, ("Bob/05",))
    with pytest.raises(RunError, match="seed was 0 and is now 1"):
        protect(source, out, seed=1)
    with pytest.raises(RunError, match="faces was"):
        protect(source, out, several="largest")


KILLED = """
import os, signal, sys
from pathlib import Path
import test_protect_faces as t
t.protect_photos.PORTION = 1

def watch(what, done, total):
    if what == "protecting" and done == 4:
        os.kill(os.getpid(), signal.SIGKILL)

t.protect(Path(sys.argv[1]), Path(sys.argv[2]), watch=watch)
"""


def test_killed_in_the_middle(tmp_path: Path, drawn: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = album(tmp_path / "in", drawn), tmp_path / "out"
    protect(source, tmp_path / "undisturbed")
    paths = (Path(__file__).parent, Path(__file__).parents[2], os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, "-c", KILLED, str(source), str(out)]
    assert subprocess.run(command, env=environment, check=False).returncode == -9
    assert len(lines(out)) == 4
    (out / "Ann/.01.png.0123456789abcdef.tmp").write_bytes(b"left by a kill")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # the photo is there, its line is not
        patch.setattr(protect_photos.Cloaking, "_record", stop)
        with pytest.raises(KeyboardInterrupt):
            protect(source, out)
    done = protect(source, out)
    assert (done.pictures, done.written) == (6, 2)
    assert outputs(out) == outputs(tmp_path / "undisturbed")
    assert lines(out) == lines(tmp_path / "undisturbed")


@pytest.mark.parametrize("method", ["opom(steps=2)", "fawkes-0.3(steps=3)"])
def test_cloaks_of_a_person(tmp_path: Path, drawn: np.ndarray, method: str) -> None:
    source, out = album(tmp_path / "in", drawn, n=9), tmp_path / "out"
    (source / "Ann/group.png").write_bytes(hostile.encoded(photo(drawn, (5, 30, 36), (60, 20, 44), size=(100, 160))))
    done = protect(source, out, method)
    assert (done.written, done.facts["faces"]) == (10, 11)
    before = outputs(out)
    finder = Marked()
    assert protect(source, out, method, detector=finder).written == 0
    assert len(finder.seen) == 1
    (out / "Ann/2020/01.png").unlink()
    assert protect(source, out, method, detector=finder).written == 1
    assert outputs(out) == before
    assert len(finder.seen) == 1 + 1 + 4  # Ann's photos, nobody else's
    alone = tmp_path / "alone"
    (alone / "Ann").parent.mkdir()
    (source / "Ann").rename(alone / "Ann")
    protect(alone, tmp_path / "out alone", method)
    assert outputs(tmp_path / "out alone") == {name: data for name, data in before.items() if name.startswith("Ann/")}
    with pytest.raises(RunError, match="sources_sha256"):  # everybody else's are gone
        protect(source, out, method)


def test_opom_gives_a_person_one_mask(tmp_path: Path, drawn: np.ndarray) -> None:
    for i, name in enumerate(("Ann/1.png", "Ann/2.png", "Bob/1.png")):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        flat = (drawn[i] // 2 + 64).astype(np.uint8)  # nothing is clamped
        (tmp_path / "in" / name).write_bytes(hostile.encoded(flat))
    protect(tmp_path / "in", tmp_path / "out", "opom(steps=2)", faces="aligned")
    ann, again, bob = (
        read_picture(tmp_path / "out" / name).astype(int) - read_picture(tmp_path / "in" / name)
        for name in ("Ann/1.png", "Ann/2.png", "Bob/1.png")
    )
    assert (ann == again).all()
    assert (ann != bob).any()


def test_aligned_photos_are_their_own_crops(tmp_path: Path, drawn: np.ndarray) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/fits.png").write_bytes(hostile.encoded(drawn[0]))
    wide = np.asarray(Image.fromarray(drawn[1]).resize((100, 70)))
    (tmp_path / "in/wide.png").write_bytes(hostile.encoded(wide))
    done = protect(tmp_path / "in", tmp_path / "out", faces="aligned", detector=None)
    assert done.facts["faces"] == 2
    found = lines(tmp_path / "out")
    assert found["wide"]["facts"]["faces"][0]["box"] == [0, 0, 100, 70]
    (face,) = found["fits"]["facts"]["faces"]
    assert face["moved"] == face["crafted"]  # nothing was lost on the way back
    change = np.abs(read_picture(tmp_path / "out/wide.png").astype(int) - wide)
    assert change.max() <= EPS
    assert (change.max(axis=2) > 0).mean() > 0.9
    (tmp_path / "in/dot.png").write_bytes(hostile.encoded(hostile.noise(1, 1)))
    with pytest.raises(DataError, match="1 x 1 pixels; a face needs at least 8 x 8"):
        protect(tmp_path / "in", tmp_path / "out", faces="aligned")
    assert len(protect(tmp_path / "in", tmp_path / "out", faces="aligned", on_broken="skip").skipped) == 1


def test_the_cache_is_used_again(
    tmp_path: Path, drawn: np.ndarray, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = album(tmp_path / "in", drawn, n=2)
    told: list[str] = []
    model = SMALL.replace("dim=16", "dim=17")

    def go(out: str) -> None:
        told.clear()
        protect(source, tmp_path / out, model=model, watch=lambda what, *_: told.append(what))

    before = set(cache.rglob("*.safetensors"))
    go("first")
    assert f"training {model}" in told
    (kept,) = set(cache.rglob("*.safetensors")) - before
    go("second")
    assert set(told) == {"protecting"}
    assert outputs(tmp_path / "second") == outputs(tmp_path / "first")
    kept.write_bytes(kept.read_bytes()[:-100])
    go("third")
    assert f"training {model}" in told
    assert outputs(tmp_path / "third") == outputs(tmp_path / "first")
    assert not [path for path in cache.rglob("*") if path.suffix in (".tmp", ".training")]
    monkeypatch.setenv("COUNTERMOVE_CACHE", "/proc/no-cache")
    with pytest.raises(RunError, match="COUNTERMOVE_CACHE"):
        go("fourth")


@pytest.mark.parametrize(
    ("method", "options", "error", "words"),
    [
        ("none", {}, ConfigError, "protects nobody"),
        ("pgd", {"model": None}, ConfigError, r"the trainer's own extractor .* --model plain --data lfw"),
        ("in-turn", {"model": None}, ConfigError, "trainer's own extractor"),
        ("in-turn", {}, ConfigError, "name them in its cloaks"),
        ("lowkey", {"model": None, "data": None}, ConfigError, r"say on which: --data lfw.*facenet-vggface2"),
        ("lowkey", {"data": None, "model": "public(weights=facenet-vggface2)"}, WeightsError, "not on this machine"),
        ("lowkey", {"model": "plane"}, ConfigError, "did you mean 'plain'"),
        ("lowkey(extractors=[half])", {"model": "plain"}, ConfigError, "given twice"),
        ("lowkey", {"data": "lfv"}, ConfigError, "did you mean 'lfw'"),
        ("random-noise", {"data": None}, ConfigError, "leave --model out"),
        ("random-noise", {"model": None}, ConfigError, "leave --data out"),
    ],
)
def test_settings_that_do_not_fit(
    tmp_path: Path,
    drawn: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    options: dict[str, Any],
    error: type[CountermoveError],
    words: str,
) -> None:
    monkeypatch.setenv("COUNTERMOVE_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub/deep"))
    source = album(tmp_path / "in", drawn, n=1)
    with pytest.raises(error, match=words):
        protect(source, tmp_path / "out", method, **options)
    assert not (tmp_path / "out").exists()


def test_photos_that_are_refused(tmp_path: Path, drawn: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = album(tmp_path / "in", drawn, n=2), tmp_path / "out"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no photos"):
        protect(tmp_path / "empty", out)
    with pytest.raises(DataError, match="inside the sources"):
        protect(source, source / "out")
    (source / "00.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"00\.jpg and 00\.png .* as 00\.png"):
        protect(source, out)
    (source / "00.jpg").rename(source / "no.jpg")
    (source / "huge.png").write_bytes(hostile.huge_png())
    with pytest.raises(DataError, match=r"huge\.png claims"):
        protect(source, out)
    done = protect(source, out, on_broken="skip")
    assert (done.pictures, len(done.skipped), done.undone) == (2, 2, ())
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"pip install 'countermove\[faces\]'"):
        protect(source, tmp_path / "out 2", detector=None)
    assert not (tmp_path / "out 2").exists()


def test_an_extractor_that_cannot_be_had_is_no_broken_photo(tmp_path: Path, drawn: np.ndarray) -> None:
    source = album(tmp_path / "in", drawn, n=2)
    few = "planted-faces(movers=7, people=8, photos=4)"
    with pytest.raises(DataError, match="to train an extractor on"):
        protect(source, tmp_path / "out", data=few, on_broken="skip")


def test_a_photo_that_changes_while_it_is_protected(tmp_path: Path, drawn: np.ndarray) -> None:
    source = album(tmp_path / "in", drawn, n=2)

    def watch(what: str, done: int, total: int) -> None:
        if (what, done) == ("protecting", 1):
            (source / "00.png").write_bytes(hostile.encoded(photo(drawn, (20, 20, 40), seed=9)))

    with pytest.raises(DataError, match=r"00\.png was changed while"):
        protect(source, tmp_path / "out", watch=watch)
    assert protect(source, tmp_path / "out").written == 2


def test_crops_of_large_and_small_faces() -> None:
    """A smooth picture looks the same whatever is averaged; a fine pattern disappears instead of aliasing."""
    y, x = np.mgrid[0:600, 0:800]
    smooth = np.stack([x / 4, y / 4, 200 - x / 5], 2).astype(np.uint8)
    checks = np.repeat(((x + y) % 2 * 255)[..., None], 3, 2).astype(np.uint8)
    for length in (20.0, 100.0, 350.0, 480.0):
        matrix = Face(box=(200.0, 60.0, length, length), points=None, confidence=1.0, angle=20.0).matrix(32)
        points = torch.tensor([[4.0, 4.0], [27.0, 4.0], [15.0, 20.0]], dtype=torch.float64)
        at = torch.linalg.solve(matrix[:, :2], (points - matrix[:, 2]).T).T
        crop = cut(smooth, matrix, 32)
        for (cx, cy), (px, py) in zip(points.int().tolist(), at.tolist(), strict=True):
            wanted = np.array([px / 4, py / 4, 200 - px / 5]) - 0.4  # smooth was truncated
            assert crop[:, cy, cx].double().numpy() == pytest.approx(wanted, abs=1.5)
        if length >= 350:
            inside = cut(checks, matrix, 32)[:, 8:24, 8:24].float()
            assert (inside - 127.5).abs().max() < 25


def test_changes_are_put_back_in_bands_and_within_the_ball(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = hostile.noise(200, 150, seed=1)
    boxes = [(20.0, 30.0, 80.0), (60.0, 70.0, 90.0), (130.0, 150.0, 60.0)]  # they overlap, one leaves the photo
    faces = [Face(box=(x, y, s, s), points=None, confidence=1.0) for x, y, s in boxes]
    matrices = torch.stack([face.matrix(16) for face in faces])
    changes = torch.randint(-6, 7, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0)) / 255
    ball = Ball(norm="linf", radius=6 / 255)
    at_once = put_back(picture, changes, matrices, ball)
    difference = np.abs(at_once.astype(int) - picture)
    assert 5 <= difference.max() <= 6
    monkeypatch.setattr(protect_crops, "BAND_PIXELS", 700)
    assert (put_back(picture, changes, matrices, ball) == at_once).all()
    assert protect_crops.largest_change(at_once, picture) == difference.max()
    unbound = put_back(picture, changes, matrices, None)
    assert np.abs(unbound.astype(int) - picture).max() > 6  # where crops overlap
    small = hostile.noise(16, 16)
    own = whole(16, 16, 16)
    assert (cut(small, own, 16).permute(1, 2, 0).numpy() == small).all()
    added = put_back(small // 2 + 60, changes[:1], own[None], ball).astype(int) - (small // 2 + 60)
    assert (added == (changes[0] * 255).round().permute(1, 2, 0).numpy()).all()
    assert to_float(torch.from_numpy(at_once)).max() <= 1


def test_equal_error() -> None:
    same, different = torch.tensor([0.1, 0.2, 0.3, 0.9]), torch.tensor([0.25, 0.8, 1.0, 1.1])
    threshold = equal_error(same, different)
    assert threshold is not None
    assert (same > threshold).float().mean() == (different <= threshold).float().mean() == 0.25
    assert equal_error(same, torch.zeros(0)) is None


def test_an_extractor_of_another_side_sees_resized_crops(tmp_path: Path, drawn: np.ndarray) -> None:
    surrogates = Surrogates.of(METHODS.compose("move", PGD), model=SMALL, data=DATA, seed=0, device="cpu")
    opened = surrogates.open(lambda *_: None)
    assert (opened.side, opened.context.others.shape[0]) == (32, 20)
    assert opened.apart() is not None


app = typer.Typer(pretty_exceptions_enable=False)
app.command("protect", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(verb)
app.command("other")(lambda: None)


def typed(*words: str, code: int = 0) -> tuple[str, str]:
    ended = CliRunner().invoke(app, ["protect", *words])
    if isinstance(ended.exception, CountermoveError):
        raise ended.exception
    assert ended.exit_code == code, ended.output
    return ended.stdout, ended.stderr


def test_as_it_is_typed(tmp_path: Path, drawn: np.ndarray) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for i in range(2):
        (source / f"{i}.png").write_bytes(hostile.encoded(drawn[i]))
    call = ("faces", str(source), str(tmp_path / "out"), "--with", "pgd", "--steps", "2", "--eps=8/255")
    call += ("--model", SMALL, "--data", DATA)
    words, _ = typed(*call, "--faces", "aligned")
    assert "2 faces were cloaked in 2 photos" in words
    assert "promised 8/255" in words
    told = json.loads(typed(*call, "--faces", "aligned", "--json")[0])
    assert (told["written"], told["faces"], told["undone"]) == (0, 2, [])
    with pytest.raises(ConfigError, match="--faces 'found' is refused: detect or aligned"):
        typed(*call, "--faces", "found")
    with pytest.raises(ConfigError, match="did you mean '--several'"):
        typed(*call, "--severall", "all")


def test_a_call_that_left_something_undone_ends_with_3(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/sea.png").write_bytes(hostile.encoded(np.full((60, 80, 3), 90, np.uint8)))
    call = ("faces", str(tmp_path / "in"), str(tmp_path / "out"), "--with", "random-noise")
    words, complaints = typed(*call, code=3)
    assert "0 pictures are in" in words
    assert "not done: sea.png: no face found; left out" in complaints
    assert "left out: sea.png" in typed(*call, "--no-face", "skip")[1]
    assert "NOT protected" in typed(*call, "--no-face", "copy")[0]


@pytest.mark.data
def test_photographs(tmp_path: Path, data_root: Path) -> None:
    pytest.importorskip("cv2")
    images = data_root / "lfw_min10/images"
    if not images.is_dir():
        pytest.skip("needs lfw_min10")
    (tmp_path / "in").mkdir()
    for person in sorted(images.iterdir())[:3]:
        first = sorted(person.iterdir())[0]
        (tmp_path / "in" / first.name).write_bytes(first.read_bytes())
    done = protect(tmp_path / "in", tmp_path / "out", "pgd(eps=8/255, steps=5)", detector=None)
    assert (done.pictures, done.undone, done.budget["kept"]) == (3, (), True)
    assert done.facts["faces"] >= 3
    for name in walk_pictures(tmp_path / "out"):
        change = read_picture(tmp_path / "out" / name).astype(int)
        change -= read_picture((tmp_path / "in" / name).with_suffix(".jpg"))
        rows, columns = np.abs(change).max(axis=2).nonzero()
        assert 40 < rows.mean() < 210
        assert 60 < columns.mean() < 190
        assert np.ptp(rows) < 249
