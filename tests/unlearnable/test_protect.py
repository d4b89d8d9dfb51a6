"""`protect`: every picture of a folder is moved, once, within its budget, whatever interrupts the work."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests import hostile

from countermove.errors import ConfigError, DataError, DeviceError, RunError
from countermove.pixels.files import read_picture, walk_pictures
from countermove.pixels.published import published
from countermove.unlearnable import protect as protect_module
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.protect import Protected, protect_folder

LSP = "linear-separable(eps=0.65, patch_size=4)"


def tree(root: Path, *, n: int = 12, classes: tuple[str, ...] = ("cat", "dog"), side: int = 16) -> Path:
    """A folder of noisy pictures, told apart by their brightness."""
    for i in range(n):
        name = classes[i % len(classes)]
        (root / name).mkdir(parents=True, exist_ok=True)
        picture = hostile.noise(side, side, seed=i) // 2 + 100 * (i % len(classes))
        (root / name / f"{i:03d}.png").write_bytes(hostile.encoded(picture.astype(np.uint8)))
    return root


def protect(source: Path, out: Path, method: str = LSP, **options: Any) -> Protected:
    return protect_folder(source, out, METHODS.compose("move", method), **options)


def outputs(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in walk_pictures(out)}


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def touched(out: Path) -> dict[str, int]:
    return {name: (out / name).stat().st_mtime_ns for name in walk_pictures(out)}


@pytest.mark.parametrize(
    ("method", "norm", "radius"),
    [(LSP, "l2", 0.65), ("random", "linf", 8 / 255), ("regions(eps=4/255)", "linf", 4 / 255)],
)
def test_the_budget_holds_in_the_files(tmp_path: Path, method: str, norm: str, radius: float) -> None:
    source, out = tree(tmp_path / "in"), tmp_path / "out"
    done = protect(source, out, method)
    assert (done.pictures, done.written, done.skipped, done.gone) == (12, 12, (), ())
    sizes = []
    for record in records(out)[1:]:
        clean, moved = (read_picture(p).astype(float) / 255 for p in (source / record["source"], out / record["out"]))
        change = np.abs(moved - clean)
        sizes.append(change.max() if norm == "linf" else np.sqrt((change**2).sum()))
        assert record["budget"] == pytest.approx(sizes[-1], abs=1e-6)
        assert record["kept"] is True
    assert 0 < max(sizes) <= radius + 1e-6
    assert done.budget["largest"] == pytest.approx(max(sizes), abs=1e-6)
    assert done.budget["mean"] == pytest.approx(np.mean(sizes), abs=1e-6)
    assert done.budget | {"norm": norm, "radius": radius, "kept": True} == done.budget


def test_tree_names_and_manifest(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("żółw/очень глубоко/日本.jpg", "Äpfel/e.v.il name.webp", "Äpfel/b.bmp", "żółw/z.png"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(hostile.noise(16, 16)).save(source / name)
    protect(source, out, seed=7)
    assert walk_pictures(out) == sorted(
        ["żółw/очень глубоко/日本.png", "Äpfel/e.v.il name.png", "Äpfel/b.png", "żółw/z.png"]
    )
    header, *lines = records(out)
    assert header["classes"] == ["Äpfel", "żółw"]
    assert (header["format"], header["seed"], header["version"], header["method"]) == (1, 7, 1, LSP)
    assert header["settings"] == {"eps": 0.65, "patch_size": 4, "separation": 10.0, "gray": False}
    assert {line["id"]: line["label"] for line in lines} == {
        "Äpfel/b": 0,
        "Äpfel/e.v.il name": 0,
        "żółw/z": 1,
        "żółw/очень глубоко/日本": 1,
    }
    assert {p.name for p in out.iterdir()} == {"Äpfel", "żółw", "manifest.jsonl"}


def test_exif_is_applied_and_dropped(tmp_path: Path) -> None:
    (tmp_path / "in/a").mkdir(parents=True)
    (tmp_path / "in/a/x.jpg").write_bytes(hostile.rotated_jpeg(hostile.noise(8, 16), orientation=6))
    protect(tmp_path / "in", tmp_path / "out", "none")
    with Image.open(tmp_path / "out/a/x.png") as image:
        assert (image.size, image.mode, dict(image.getexif()), image.info) == ((8, 16), "RGB", {}, {})
    assert (read_picture(tmp_path / "out/a/x.png") == read_picture(tmp_path / "in/a/x.jpg")).all()


@pytest.mark.parametrize("method", [LSP, "random", "random(form=class)", "regions(regions=4)", "none"])
def test_portions_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    source = tree(tmp_path / "in", n=23, classes=("a", "b", "c"))
    for i, side in enumerate((8, 24, 8, 32)):  # sizes that alternate with the others
        (source / f"a/00{i}x.png").write_bytes(hostile.encoded(hostile.noise(side, 16, seed=i)))
    found = []
    for portion, pixels in ((64, 1 << 22), (1, 1 << 22), (5, 1 << 22), (64, 700)):
        monkeypatch.setattr(protect_module, "PORTION", portion)
        monkeypatch.setattr(protect_module, "PORTION_PIXELS", pixels)
        protect(source, tmp_path / f"out-{portion}-{pixels}", method)
        found.append((outputs(tmp_path / f"out-{portion}-{pixels}"), records(tmp_path / f"out-{portion}-{pixels}")))
    assert all(f == found[0] for f in found[1:])
    assert len(found[0][0]) == 27


def test_the_same_call_again_does_what_is_missing(tmp_path: Path) -> None:
    source, out = tree(tmp_path / "in"), tmp_path / "out"
    protect(source, out)
    whole, manifest = outputs(out), (out / "manifest.jsonl").read_bytes()
    before = touched(out)
    assert protect(source, out).written == 0
    assert (touched(out), (out / "manifest.jsonl").read_bytes()) == (before, manifest)

    (out / "cat/000.png").unlink()  # somebody deleted one
    (out / "cat/002.png").write_bytes(b"half a pict")  # the disk lost one
    (out / "dog/.001.png.0123456789abcdef.tmp").write_bytes(b"left by a kill")
    (out / "manifest.jsonl").write_bytes(manifest[:-40])  # a line was torn
    assert protect(source, out).written == 3
    assert outputs(out) == whole
    assert not list(out.rglob(".*"))
    assert {r["id"] for r in records(out)[1:]} == {r["id"] for r in map(json.loads, manifest.splitlines()[1:])}
    assert protect(source, out).written == 0

    (source / "cat/000.png").write_bytes(hostile.encoded(hostile.noise(16, 16, seed=99)))  # an original changed
    (source / "cat/100.png").write_bytes(hostile.encoded(hostile.noise(16, 16, seed=98)))  # one came
    (source / "dog/001.png").unlink()  # one went
    done = protect(source, out)
    assert (done.written, done.pictures, done.gone) == (2, 12, ("dog/001",))
    assert {name for name, data in outputs(out).items() if whole.get(name) != data} == {"cat/000.png", "cat/100.png"}


def test_another_call_is_refused_and_nothing_lost(tmp_path: Path) -> None:
    source, out = tree(tmp_path / "in"), tmp_path / "out"
    protect(source, out)
    whole, manifest = outputs(out), (out / "manifest.jsonl").read_bytes()
    with pytest.raises(RunError, match="seed was 0 and is now 1"):
        protect(source, out, seed=1)
    with pytest.raises(RunError, match=r"method was .*0\.65.* and is now .*0\.5"):
        protect(source, out, "linear-separable(eps=0.5, patch_size=4)")
    tree(source, classes=("cow",))
    with pytest.raises(RunError, match="classes was"):
        protect(source, out)
    (out / "manifest.jsonl").write_bytes(manifest.replace(b'"format": 1', b'"format": 2', 1))
    with pytest.raises(RunError, match="format 2"):
        protect(source, out)
    assert outputs(out) == whole


def test_a_call_that_ended_before_its_first_picture_binds_nobody(tmp_path: Path) -> None:
    source, out = tree(tmp_path / "in"), tmp_path / "out"
    with pytest.raises(DataError, match=r"cat/000\.png: patches of 5 pixels"):
        protect(source, out, "linear-separable(patch_size=5)")
    assert protect(source, out).written == 12


@pytest.mark.parametrize("manifest", [None, b"not ours", b"not ours\n", b'{"mine": 1}\n', b'{"mine": 1}', b"[1]\n"])
def test_a_foreign_folder_is_left_alone(tmp_path: Path, manifest: bytes | None) -> None:
    source, out = tree(tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    name = "holiday.txt" if manifest is None else "manifest.jsonl"
    (out / name).write_bytes(manifest or b"precious")
    with pytest.raises(RunError, match="choose another"):
        protect(source, out)
    assert [p.name for p in out.iterdir()] == [name]
    assert (out / name).read_bytes() == (manifest or b"precious")


def test_folders_inside_each_other_and_links(tmp_path: Path) -> None:
    source = tree(tmp_path / "in")
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "elsewhere").mkdir()
    for out, words in (
        (source, "sources itself"),
        (source / "cat/out", "inside the sources"),
        (tmp_path, "inside the output"),
        (tmp_path / "link", "sources itself"),
        (tmp_path / "link/new", "inside the sources"),
        (tmp_path / "elsewhere/../in/new", "inside the sources"),
    ):
        with pytest.raises(DataError, match=words):
            protect(source, out)
    assert len(walk_pictures(tmp_path / "in")) == 12
    assert not (source / "new").exists()

    out = tmp_path / "out"
    protect(source, out)
    for path in (out / "cat").iterdir():
        path.unlink()
    (out / "cat").rmdir()
    (out / "cat").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="leads outside"):
        protect(source, out)
    assert not list((tmp_path / "elsewhere").iterdir())

    (tmp_path / "secret.png").write_bytes(hostile.encoded(hostile.noise()))
    (source / "cat/secret.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="leads outside"):
        protect(source, tmp_path / "out2")


def test_layouts_that_are_refused(tmp_path: Path) -> None:
    source, out = tree(tmp_path / "in"), tmp_path / "out"
    with pytest.raises(DataError, match="is not a folder"):
        protect(tmp_path / "absent", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        protect(tmp_path / "empty", out)
    (source / "cat/000.bmp").write_bytes(hostile.encoded(hostile.noise(), "BMP"))
    with pytest.raises(DataError, match=r"cat/000\.bmp and cat/000\.png .* as cat/000\.png"):
        protect(source, out)
    (source / "cat/000.bmp").rename(source / "loose.bmp")
    with pytest.raises(DataError, match=r"lies in no class folder; expected .*/CLASS/loose\.bmp"):
        protect(source, out)
    (source / "loose.bmp").unlink()
    (source / "cat/deep.png").mkdir()
    (source / "cat/deep.bmp").write_bytes(hostile.encoded(hostile.noise(), "BMP"))
    (source / "cat/deep.png/a.png").write_bytes(hostile.encoded(hostile.noise()))
    with pytest.raises(DataError, match=r"cat/deep\.bmp .* would be written as cat/deep\.png"):
        protect(source, out)
    assert not out.exists()


@pytest.mark.parametrize("method", ["random", "error-minimizing(form=class, rounds=1)"])
def test_broken_pictures(tmp_path: Path, method: str) -> None:
    source, out = tree(tmp_path / "in"), tmp_path / "out"
    (source / "cat/004.png").write_bytes(hostile.encoded(hostile.noise(16, 16))[:-30])
    (source / "dog/huge.png").write_bytes(hostile.huge_png())
    with pytest.raises(DataError, match=r"cat/004\.png is broken"):
        protect(source, out, method)
    done = protect(source, out, method, on_broken="skip")
    assert (done.pictures, len(outputs(out))) == (11, 11)
    assert [("004.png" in m, "huge.png" in m) for m in done.skipped] == [(True, False), (False, True)]


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tree(tmp_path / "in"), tmp_path / "out"
    monkeypatch.setattr(protect_module, "PORTION", 4)
    left = 6
    real = os.replace

    def full(a: Any, b: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(RunError, match="No space left on device"):
            protect(source, out)
    assert len(records(out)) == 1 + 4
    assert not [p for p in out.rglob("*") if p.suffix == ".tmp"]
    assert protect(source, out).written == 8
    protect(source, tmp_path / "undisturbed")
    assert outputs(out) == outputs(tmp_path / "undisturbed")


def test_a_torn_manifest_is_repaired(tmp_path: Path, nursery: subprocess.Popen[str]) -> None:
    """The limit on the size of files stands for a full disk: the manifest does not fit, the small pictures do."""
    source, out = tree(tmp_path / "in", n=40, side=8), tmp_path / "out"
    start(nursery, source, out, "random", limit=3000)
    assert "manifest.jsonl cannot be written: File too large" in answer(nursery)
    assert answer(nursery) == "ended 1"
    assert (out / "manifest.jsonl").stat().st_size == 3000
    assert protect(source, out, "random").pictures == 40
    assert len(records(out)) == 41


def test_a_folder_that_cannot_be_made_or_is_held(tmp_path: Path) -> None:
    source, out = tree(tmp_path / "in"), tmp_path / "out"
    with pytest.raises(RunError, match="cannot be used"):
        protect(source, Path("/proc/countermove-out"))
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="is a file"):
        protect(source, tmp_path / "file")
    with published(out), pytest.raises(RunError, match="another process"):
        protect(source, out)
    assert protect(source, out).written == 12


NURSERY = """
import json, os, resource, signal, sys, time
from pathlib import Path
from countermove.errors import RunError
from countermove.unlearnable.poisons import linear_separable, random_noise
from test_protect import protect, protect_module

def child(source, out, method, limit):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    protect_module.PORTION = 7
    begun = False
    def watch(what, done, total):
        nonlocal begun
        if not begun:
            print("begun", os.getpid(), flush=True)
        begun = True
        time.sleep(0.001)
    try:
        protect(Path(source), Path(out), method, watch=watch)
    except RunError as error:
        print(error, flush=True)
        os._exit(1)
    os._exit(0)

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        child(*json.loads(line))
    print("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def nursery() -> Iterator[subprocess.Popen[str]]:
    """A process that imports everything once and then forks children that can be killed."""
    paths = (Path(__file__).parent, Path(__file__).parents[2], os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, "-c", NURSERY]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def start(nursery: subprocess.Popen[str], source: Path, out: Path, method: str, *, limit: int | None = None) -> int:
    """Begin a call in a process of its own and return its id once it is at work."""
    assert nursery.stdin is not None
    nursery.stdin.write(json.dumps([str(source), str(out), method, limit]) + "\n")
    nursery.stdin.flush()
    word, pid = answer(nursery).split()
    assert word == "begun"
    return int(pid)


def answer(nursery: subprocess.Popen[str]) -> str:
    assert nursery.stdout is not None
    return nursery.stdout.readline().rstrip("\n")


def test_killed_at_any_moment(tmp_path: Path, nursery: subprocess.Popen[str]) -> None:
    source, out = tree(tmp_path / "in", n=300), tmp_path / "out"
    protect(source, tmp_path / "undisturbed")
    chance = random.Random(0)
    progress = []
    while not progress or (len(progress) < 12 and progress[-1] < 250):
        pid = start(nursery, source, out, LSP)
        time.sleep(chance.uniform(0, 0.2))
        os.kill(pid, signal.SIGKILL)
        assert answer(nursery) == "ended -9"
        progress.append((out / "manifest.jsonl").read_bytes().count(b"\n"))
    done = protect(source, out)
    assert done.pictures == 300
    assert 0 < done.written < 300, progress
    assert outputs(out) == outputs(tmp_path / "undisturbed")
    lines, undisturbed = ({r["id"]: r for r in records(folder)[1:]} for folder in (out, tmp_path / "undisturbed"))
    assert lines == undisturbed
    assert sorted(p.name for p in out.rglob("*") if p.suffix != ".png") == ["cat", "dog", "manifest.jsonl"]


def test_memory_stays_flat(tmp_path: Path) -> None:
    """3,000 pictures of 64 x 64: held as floats, the last 2,000 would take 98 MB; 37 MB even as 8-bit NumPy arrays."""
    blobs = [hostile.encoded(np.full((64, 64, 3), i, np.uint8)) for i in range(0, 250, 5)]
    for i in range(3000):
        (tmp_path / f"in/{i % 5}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"in/{i % 5}/{i}.png").write_bytes(blobs[i % 50])
    seen: dict[int, int] = {}

    def watch(what: str, done: int, total: int) -> None:
        if done in {1000, 3000}:
            seen[done] = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    protect(tmp_path / "in", tmp_path / "out", "regions", watch=watch)
    assert seen[3000] - seen[1000] < 12e6


@pytest.mark.parametrize(
    "method",
    [
        "error-minimizing(form=class, rounds=1)",
        "error-minimizing(rounds=1, steps=2)",
        "error-maximizing(surrogate_epochs=1, steps=2)",
        "error-maximizing(surrogate_epochs=1, form=class)",
    ],
)
def test_methods_with_a_network(tmp_path: Path, method: str) -> None:
    source, out = tree(tmp_path / "in", n=40), tmp_path / "out"
    done = protect(source, out, method)
    assert (done.written, done.budget["kept"]) == (40, True)
    assert 0 < done.budget["largest"] <= 8 / 255 + 1e-6
    crafted = [record["crafted"] for record in records(out) if "crafted" in record]
    assert len(crafted) == 1
    assert crafted[0]["samples"] > 0
    whole, before = outputs(out), touched(out)
    assert protect(source, out, method).written == 0
    (out / "cat/000.png").unlink()
    assert protect(source, out, method).written == 1
    assert outputs(out) == whole
    assert [n for n, t in touched(out).items() if t != before[n]] == ["cat/000.png"]
    assert not (out / ".work").exists()
    (source / "cat/000.png").write_bytes(hostile.encoded(hostile.noise(16, 16, seed=99)))
    with pytest.raises(RunError, match="sources_sha256"):  # its noise would be of another crafting
        protect(source, out, method)
    assert outputs(out) == whole


def test_what_was_crafted_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, method = tree(tmp_path / "in"), "error-minimizing(form=class, rounds=1)"
    protect(source, tmp_path / "undisturbed", method)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(protect_module, "_write", stop)
        with pytest.raises(KeyboardInterrupt):
            protect(source, tmp_path / "out", method)
    assert (tmp_path / "out/.work/moved.safetensors").exists()
    monkeypatch.setattr("countermove.unlearnable.protect_crafted.move_and_round", stop)
    assert protect(source, tmp_path / "out", method).written == 12
    assert outputs(tmp_path / "out") == outputs(tmp_path / "undisturbed")


def test_the_surrogate_and_its_data(tmp_path: Path) -> None:
    source = tree(tmp_path / "in", n=12, classes=("cow", "dog"))
    known = tree(tmp_path / "known", n=60, classes=("ant", "cow", "dog"))
    method, data = "error-maximizing(surrogate_epochs=1, steps=2)", f"folder(path={known})"
    protect(source, tmp_path / "own", method)
    protect(source, tmp_path / "other", method, data=data, model="small-cnn(width=2)")
    assert outputs(tmp_path / "own") != outputs(tmp_path / "other")
    header = records(tmp_path / "other")[0]
    assert header["settings"]["surrogate"] == "small-cnn(width=2)"
    assert (header["classes"], header["data"]["spelling"]) == (["cow", "dog"], METHODS.compose("data", data).spelling)
    with pytest.raises(RunError, match="data was"):
        protect(source, tmp_path / "other", method, model="small-cnn(width=2)")
    with pytest.raises(DataError, match=r"class 'bee'.*ant, cow, dog"):
        protect(tree(tmp_path / "bees", classes=("bee", "cow")), tmp_path / "x", method, data=data)
    with pytest.raises(DataError, match="must agree"):
        protect(tree(tmp_path / "small", classes=("cow", "dog"), side=8), tmp_path / "y", method, data=data)


def test_settings_that_do_not_fit(tmp_path: Path) -> None:
    source, out = tree(tmp_path / "in"), tmp_path / "out"
    for method, options, words in (
        (LSP, {"model": "resnet-18"}, "uses no network"),
        ("error-minimizing", {"data": "cifar10"}, "trains no surrogate beforehand"),
        ("error-minimizing", {"model": "resnet-81"}, "did you mean 'resnet-18'"),
        ("error-minimizing(surrogate=resnet-18)", {"model": "small-cnn"}, "given twice"),
        ("error-maximizing", {"data": "cifar10+moved(fraction=0.5)"}, "one whole data set"),
        ("random+regions", {}, "joins several methods"),
    ):
        with pytest.raises(ConfigError, match=words):
            protect(source, out, method, **options)
    with pytest.raises(ConfigError, match="write 8/255"):
        protect(source, out, "random(eps=8)")
    assert not out.exists()


def test_pictures_that_do_not_fit_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out, method = tree(tmp_path / "in"), tmp_path / "out", "error-minimizing(rounds=1)"
    (source / "dog/020.png").write_bytes(hostile.encoded(hostile.noise(8, 24)))
    with pytest.raises(DataError, match=r"cat/000\.png is 16 x 16, but dog/020\.png is 24 x 8"):
        protect(source, out, method)
    (source / "dog/020.png").unlink()
    tree(source, n=1, classes=("eel",))
    with pytest.raises(DataError, match=r"at least two pictures .*eel \(1\)"):
        protect(source, out, method)
    with pytest.raises(DataError, match="has one class"):
        protect(tree(tmp_path / "one", classes=("cat",)), out, method)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match="no GPU"):
        protect(source, out, method, device="cuda")
    assert not out.exists()
