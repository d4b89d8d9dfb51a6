"""`protect profiles`: what to add to one's own profile is chosen once, copied as it is, and its effect is measured."""

from __future__ import annotations

import json
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
from countermove.errors import ConfigError, CountermoveError, DataError, RunError
from countermove.pixels.files import read_picture
from countermove.pixels.published import Protected
from countermove.profiles import protect_additions, protect_items
from countermove.profiles.artifacts import read_profiler
from countermove.profiles.data.planted import RATE, PlantedProfiles
from countermove.profiles.dataset import Profiles, as_float
from countermove.profiles.extractor import extract
from countermove.profiles.methods import METHODS
from countermove.profiles.protect import protect_folder
from countermove.profiles.protect_surrogates import DRAWS, Surrogates
from countermove.profiles.sound import read_wav, resample, snr, write_wav

LOOKS = "small(epochs=2, network='small-cnn(width=0.25)')"
OTHER = "small(build=1, epochs=2, network='small-cnn(width=0.25)')"
DATA = "planted-profiles(items=4, lean=1.2, profiles=40, public=160)"
MODEL = f'deep-sets(epochs=15, features="{LOOKS}", layers=2, width=32)'
SPEECH = "planted-profiles(items=4, lean=1.2, medium=speech, profiles=20, public=40, samples=1600)"
HEARS = "deep-sets(epochs=5, features=log-mel, layers=1, width=16)"
NAT = "nat-i(choice=greedy)"
UNLIKE = f'nat-i(box=near-black, features="{OTHER}")'

app = typer.Typer(pretty_exceptions_enable=False)
app.command("protect", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(verb)
app.command("other")(lambda: None)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERMOVE_CACHE", str(cache))


@pytest.fixture(scope="module")
def drawn() -> Profiles:
    """Pictures of people whom no profiler knows."""
    return PlantedProfiles(profiles=4, items=5, lean=1.5, background=14, public=0, seed=9)()


def put(data: Profiles, rows: torch.Tensor, folder: Path) -> Path:
    """Write items as files, the pictures with a margin at the sides."""
    folder.mkdir(parents=True)
    for number, row in enumerate(rows.tolist()):
        if data.medium == "speech":
            write_wav(folder / f"{number:02d}.wav", data.items[row], data.rate)
            continue
        picture = np.pad(data.items[row].permute(1, 2, 0).numpy(), [(0, 0), (3, 3), (0, 0)])
        (folder / f"{number:02d}.png").write_bytes(hostile.encoded(picture))
    return folder


@pytest.fixture
def folders(tmp_path: Path, drawn: Profiles) -> Path:
    """Somebody's five pictures, who is warm, in me/, and fourteen candidates in pool/a/."""
    warm = next(p for p in range(4) if int(drawn.labels[p]) == 1)
    put(drawn, drawn.bags[warm], tmp_path / "me")
    put(drawn, drawn.background, tmp_path / "pool" / "a")
    return tmp_path


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    """The same with sounds."""
    said = PlantedProfiles(
        medium="speech", profiles=4, items=5, lean=1.5, background=8, public=0, samples=1600, seed=9
    )()
    put(said, said.bags[0], tmp_path / "me")
    put(said, said.background, tmp_path / "pool")
    return tmp_path


def protect(root: Path, move: str = NAT, out: str = "out", **options: Any) -> Protected:
    given: dict[str, Any] = {"model": MODEL, "data": DATA, "candidates": root / "pool", "attribute": "warm"} | options
    return protect_folder(root / "me", root / out, METHODS.compose("move", move), **given)


def hear(root: Path, move: str, **options: Any) -> Protected:
    given: dict[str, Any] = {"data": SPEECH, "model": HEARS, "attribute": "cool"} | options
    return protect(root, move, **given)


def told(root: Path, out: str = "out") -> dict[str, Any]:
    return json.loads((root / out / "additions.json").read_text(encoding="utf-8"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def typed(*words: str, code: int = 0) -> tuple[str, str]:
    ended = CliRunner().invoke(app, ["protect", *words])
    if isinstance(ended.exception, CountermoveError):
        raise ended.exception
    assert ended.exit_code == code, ended.output
    return ended.stdout, ended.stderr


def square(picture: np.ndarray) -> torch.Tensor:
    """Cut the centre out of a picture with margins."""
    return torch.from_numpy(picture[:, 3:-3].copy()).permute(2, 0, 1)


def test_candidates_come_out_with_their_very_bytes(folders: Path) -> None:
    before = contents(folders)
    done = protect(folders)
    found = told(folders)
    assert (done.pictures, done.written, done.skipped, done.budget) == (5, 5, (), {})
    assert [row["rank"] for row in found["additions"]] == [1, 2, 3, 4, 5]
    files = contents(folders / "out")
    assert set(files) == {"manifest.jsonl", "additions.json", *(row["file"] for row in found["additions"])}
    for row in found["additions"]:
        assert row["file"] == row["candidate"]
        assert files[row["file"]] == before[f"pool/{row['file']}"]
        assert row["after_items"] == 5
    assert {name: data for name, data in contents(folders).items() if not name.startswith("out/")} == before


def test_the_effect_is_what_the_profiler_reads(folders: Path) -> None:
    """Against reading every extended profile by hand, from the files as they lie there."""
    protect(folders)
    found = told(folders)
    known = Surrogates(DATA, NAT, METHODS.compose("model", MODEL).spelling, seed=0, device="cpu", reads=True)
    assert known.profiler is not None
    reader = read_profiler(known.arena, known.profiler, known._desk)
    features: Any = reader.body

    def read(paths: list[Path]) -> float:
        items = torch.stack([square(read_picture(path)) for path in paths])
        seen = extract(features, items, "picture")
        with torch.no_grad():
            return float(reader.bag(seen[None], torch.ones(1, len(seen), dtype=torch.bool)).softmax(1)[0, 1])

    own = sorted((folders / "me").iterdir())
    assert found["profiler"]["before"] == pytest.approx(read(own), abs=1e-5)
    added: list[Path] = []
    for row in found["additions"]:
        added.append(folders / "out" / row["file"])
        assert row["after"] == pytest.approx(read([*own, *added]), abs=1e-5)
        assert row["random"]["least"] <= row["random"]["mean"] <= row["random"]["most"]
    first = min(read([*own, path]) for path in (folders / "pool" / "a").iterdir())
    assert found["additions"][0]["after"] == pytest.approx(first, abs=1e-5)
    singles = [read([*own, path]) for path in (folders / "pool" / "a").iterdir()]
    control = found["additions"][0]["random"]
    assert min(singles) - 1e-5 <= control["least"]
    assert control["most"] <= max(singles) + 1e-5
    assert found["additions"][-1]["after"] < found["additions"][-1]["random"]["mean"]
    assert found["additions"][-1]["after"] < found["profiler"]["before"]
    assert 0 <= found["profiler"]["right"] <= found["profiler"]["of"] == 16
    assert found["profiler"]["chosen_with"] is True


def test_an_effect_that_is_none_is_said(folders: Path) -> None:
    done = protect(folders)
    assert told(folders)["profiler"]["read"] is True
    assert not any("no better" in s or "does not read" in s for s in done.told)
    done = protect(folders, out="other", attribute="cool")
    assert told(folders, "other")["profiler"]["read"] is False
    assert any("does not read 'cool'" in sentence for sentence in done.told)
    found = told(folders)
    found["additions"][-1]["after"] = found["additions"][-1]["random"]["mean"] + 0.01
    assert any("no better" in sentence for sentence in protect_additions._table(found))


def test_the_same_call_does_nothing_and_another_one_is_refused(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protect(folders)
    before = {path: path.stat().st_mtime_ns for path in (folders / "out").rglob("*")}
    with monkeypatch.context() as patch:
        patch.setattr("countermove.profiles.protect_surrogates.Surrogates.make", None)
        done = protect(folders)
    assert (done.pictures, done.written) == (5, 0)
    assert {path: path.stat().st_mtime_ns for path in (folders / "out").rglob("*")} == before
    others: list[dict[str, Any]] = [{"seed": 1}, {"attribute": "cool"}, {"move": UNLIKE}]
    for other in (*others, {"model": MODEL.replace("15", "14")}):
        with pytest.raises(RunError, match="begun otherwise"):
            protect(folders, **other)
    (folders / "pool/more.png").write_bytes(hostile.encoded(hostile.noise(20, 20)))
    with pytest.raises(RunError, match="sources_sha256 was"):
        protect(folders)
    assert {path: path.stat().st_mtime_ns for path in (folders / "out").rglob("*")} == before


def test_a_killed_call_goes_on_and_damage_is_mended(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protect(folders, out="whole")
    write, count = protect_additions._write_same, []

    def dies(*given: Any) -> str:
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return write(*given)

    with monkeypatch.context() as patch:
        patch.setattr(protect_additions, "_write_same", dies)
        with pytest.raises(KeyboardInterrupt):
            protect(folders)
    assert not (folders / "out/additions.json").exists()
    assert protect(folders).written == 3
    assert contents(folders / "out").keys() == contents(folders / "whole").keys()
    assert told(folders) == told(folders, "whole")
    (folders / "out" / told(folders)["additions"][0]["file"]).write_bytes(b"spoiled")
    assert protect(folders).written == 1
    assert told(folders) == told(folders, "whole")


def test_what_is_trained_is_kept_and_made_anew_when_broken(
    folders: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protect(folders)
    with monkeypatch.context() as patch:
        patch.setattr("countermove.profiles.artifacts.train_profiler", None)
        patch.setattr("countermove.profiles.extractors.small.train", None)
        protect(folders, out="again")
    assert told(folders) == told(folders, "again")
    kept = sorted(cache.glob("profilers/*/weights.safetensors"))
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    protect(folders, out="mended")
    assert told(folders) == told(folders, "mended")
    assert not [path for path in (cache / "profilers").iterdir() if path.name.startswith(".")]


def test_one_item_and_how_many_are_added(folders: Path) -> None:
    for path in sorted((folders / "me").iterdir())[1:]:
        path.unlink()
    assert protect(folders, "nat-i(additions=6.0, choice=greedy)").pictures == 6
    assert protect(folders, "random-items(additions=0.2)", "few").pictures == 1


def test_near_black_needs_no_attribute(folders: Path) -> None:
    done = protect(folders, UNLIKE, attribute=None)
    found = told(folders)
    assert (found["profiler"], found["attribute"], done.pictures) == (None, None, 5)
    assert not {"after", "random"} & set(found["additions"][0])
    assert any("--attribute VALUE" in sentence for sentence in done.told)
    assert "   1  " + found["additions"][0]["file"] in done.told
    protect(folders, UNLIKE, "with")
    with_it = told(folders, "with")
    assert [row["file"] for row in with_it["additions"]] == [row["file"] for row in found["additions"]]
    assert with_it["profiler"]["chosen_with"] is False


def test_random_items_need_no_set(folders: Path) -> None:
    done = protect(folders, "random-items", data=None, model=None, attribute=None)
    assert done.pictures == 5
    assert any("--data SET" in sentence for sentence in done.told)
    protect(folders, "random-items", "seeded", data=None, model=None, attribute=None, seed=1)
    assert [r["file"] for r in told(folders)["additions"]] != [r["file"] for r in told(folders, "seeded")["additions"]]


def test_made_pictures_keep_their_budget_as_files(folders: Path) -> None:
    done = protect(folders, "adv-pi(additions=3.0, eps=4/255, steps=2)")
    rows = told(folders)["additions"]
    assert [row["file"][:3] for row in rows] == [f"{rank:02d}-" for rank in range(1, 16)]
    assert done.budget["kept"] is True
    largest = []
    for row in rows:
        made = read_picture(folders / "out" / row["file"]).astype(int)
        clean = square(read_picture(folders / "pool" / row["candidate"])).permute(1, 2, 0).numpy().astype(int)
        assert made.shape == (16, 16, 3)
        largest.append(int(np.abs(made - clean).max()))
    assert 0 < max(largest) <= 4
    assert done.budget["largest"] == pytest.approx(max(largest) / 255, rel=1e-5)
    assert any("16 x 16" in sentence for sentence in done.told)
    assert "random" not in rows[0]  # fifteen additions, fourteen candidates


@pytest.mark.parametrize("move", ["random-noise", "adv-n(steps=2)"])
def test_noise_needs_no_candidates(folders: Path, move: str) -> None:
    done = protect(folders, move, candidates=None)
    assert sorted(contents(folders / "out")) == [*(f"{i}.png" for i in range(1, 6)), "additions.json", "manifest.jsonl"]
    assert done.budget == {}
    assert {row["candidate"] for row in told(folders)["additions"]} == {None}
    again = protect(folders, move, "again", candidates=None)
    assert again.written == 5
    assert contents(folders / "out")["3.png"] == contents(folders / "again")["3.png"]


def test_sounds_are_copied_or_made_in_16_bits(voice: Path) -> None:
    hear(voice, NAT)
    for row in told(voice)["additions"]:
        assert (voice / "out" / row["file"]).read_bytes() == (voice / "pool" / row["file"]).read_bytes()
    done = hear(voice, "adv-pi(snr=30.0, steps=2)", out="made")
    for row in told(voice, "made")["additions"]:
        made, rate = read_wav(voice / "made" / row["file"])
        clean, _ = read_wav(voice / "pool" / row["candidate"])
        assert (rate, len(made)) == (RATE, 1600)
        assert float(snr(as_float(clean, "speech"), as_float(made, "speech"))) >= 30
    assert any("dB quieter" in sentence for sentence in done.told)


def test_near_black_hears_where_its_extractor_is_for_pictures(voice: Path) -> None:
    done = hear(voice, "nat-i(box=near-black)", attribute=None)
    assert done.pictures == 5
    header = json.loads(done.manifest.read_text(encoding="utf-8").split("\n")[0])
    assert header["settings"]["features"] == "log-mel"


def test_other_rates_lengths_and_silence_are_told(voice: Path) -> None:
    clip = read_wav(voice / "pool/03.wav")[0]
    slow = (resample(clip[None].double() / 32767, RATE, RATE // 2)[0] * 32767).round().to(torch.int16)
    write_wav(voice / "pool/slow.wav", slow, RATE // 2)
    write_wav(voice / "pool/short.wav", clip[:700], RATE)
    write_wav(voice / "pool/silent.wav", torch.zeros(1600, dtype=torch.int16), RATE)
    sentences = " ".join(hear(voice, NAT).told)
    assert f"{voice / 'pool/silent.wav'} is silent" in sentences
    assert f"{voice / 'pool/slow.wav'} is resampled to the {RATE} samples" in sentences
    assert f"{voice / 'pool/short.wav'} is shorter than the 0.2 s of the set" in sentences
    data = PlantedProfiles(medium="speech", profiles=4, samples=1600)()
    read = protect_items.read(protect_items.find(voice / "pool", "candidates", "fail"), "speech", data, "fail")
    at = read.names.index("slow.wav")
    middle = slice(200, 1400)
    assert read.items.shape == (11, 1600)
    low = torch.corrcoef(torch.stack([read.items[at].double()[middle], clip.double()[middle]]))[0, 1]
    assert low > 0.95
    assert bool((read.items[read.names.index("short.wav")][700:] == 0).all())


def test_candidates_among_ones_own_items_are_left_out(folders: Path) -> None:
    mine = sorted((folders / "me").iterdir())[0]
    (folders / "pool/mine.png").write_bytes(mine.read_bytes())
    (folders / "pool/z.png").write_bytes((folders / "pool/a/00.png").read_bytes())
    done = protect(folders)
    assert told(folders)["candidates"] == 14
    assert "Left out, already among your own items: mine.png." in done.told
    assert "Left out, twice among the candidates: z.png." in done.told
    for path in (folders / "pool/a").iterdir():
        path.unlink()
    (folders / "pool/z.png").unlink()
    with pytest.raises(DataError, match=r"every candidate .* own items"):
        protect(folders, out="none")


def test_broken_items_end_the_call_or_are_left_out(folders: Path) -> None:
    (folders / "me/broken.png").write_bytes(b"no picture")
    (folders / "pool/animated.gif").write_bytes(hostile.animated("GIF"))
    with pytest.raises(DataError, match=r"broken\.png is not a PNG"):
        protect(folders)
    assert not (folders / "out").exists()
    done = protect(folders, on_broken="skip")
    assert len(done.skipped) == 2
    assert told(folders)["items"] == 5
    assert told(folders)["candidates"] == 14
    for path in (folders / "me").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of 6 pictures can be read"):
        protect(folders, out="none", on_broken="skip")


@pytest.mark.parametrize(
    ("move", "options", "message"),
    [
        (NAT, {"attribute": "warn"}, "did you mean 'warm'"),
        (NAT, {"attribute": None}, "white box .* --attribute VALUE.* near-black"),
        ("nat-i(box=gray)", {"attribute": None}, "gray box"),
        (NAT, {"candidates": None}, "--candidates FOLDER"),
        (NAT, {"data": None}, "needs a set of profiles"),
        ("random-noise", {"data": None}, "needs a set of profiles"),
        ("random-items", {"data": None, "model": None}, "--attribute is read on a set"),
        ("random-items", {"data": None, "attribute": None}, "--model is read on a set"),
        ("nat-i(additions=3.0)", {}, "14 items that may be added, 15 are asked for"),
        ("random-items(additions=3.0)", {}, "14 items that may be added, 15 are asked for"),
        ("nat-i(like=same)", {}, "like = 'same' is refused"),
        ("none", {}, "adds nothing"),
        ("poisoned-training", {}, "adds nothing"),
        (NAT, {"data": SPEECH, "model": HEARS, "attribute": "cool"}, "holds pictures and planted-profiles sounds"),
        (NAT, {"data": DATA.replace("lean", "medium=table, lean")}, "features of items"),
        (NAT, {"model": "deepsets"}, "did you mean 'deep-sets'"),
        (NAT, {"data": "planted"}, "planted-profiles"),
    ],
)
def test_bad_calls_write_nothing(folders: Path, move: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        protect(folders, move, **options)
    assert not (folders / "out").exists()


def test_folders_that_are_empty_mixed_or_inside_each_other(folders: Path) -> None:
    (folders / "empty").mkdir()
    (folders / "empty/notes.txt").write_text("no item")
    with pytest.raises(DataError, match=r"empty holds no pictures and no sounds.* what you have published"):
        protect_folder(folders / "empty", folders / "out", METHODS.compose("move", NAT), **_given(folders))
    with pytest.raises(DataError, match=r"empty holds no pictures and no sounds.* candidates"):
        protect(folders, candidates=folders / "empty")
    with pytest.raises(DataError, match="is not a folder"):
        protect(folders, candidates=folders / "nowhere")
    with pytest.raises(DataError, match="lies inside the sources"):
        protect(folders, out="me/out")
    with pytest.raises(DataError, match="lies inside the sources"):
        protect(folders, out="pool/out")
    with pytest.raises(DataError, match="lie inside the output"):
        protect(folders, out=".")
    with pytest.raises(DataError, match="the same or inside each other"):
        protect(folders, candidates=folders / "me")
    write_wav(folders / "pool/a/tone.wav", torch.ones(1600, dtype=torch.int16), RATE)
    with pytest.raises(DataError, match=r"tone\.wav is a sound and .* a picture"):
        protect(folders)
    assert not (folders / "out").exists()


def _given(root: Path) -> dict[str, Any]:
    return {"model": MODEL, "data": DATA, "candidates": root / "pool", "attribute": "warm"}


def test_as_it_is_typed(folders: Path) -> None:
    paths = (str(folders / "me"), str(folders / "out"))
    call = ("profiles", *paths, "--with", "nat-i", "--candidates", str(folders / "pool"), "--attribute", "warm")
    words, progress = typed(*call, "--data", DATA, "--model", MODEL, "--additions", "0.6")
    lines = words.splitlines()
    assert lines[0] == f"3 items are in {paths[1]}, 3 of them written now."
    assert lines[2].split() == ["add", "warm", "random", "file"]
    found = told(folders)
    first = found["additions"][0]
    assert lines[4].split() == ["1", f"{first['after']:.3f}", f"{first['random']['mean']:.3f}", first["file"]]
    assert found["method"] == "nat-i(additions=0.6, choice=greedy)"
    assert f"mean of {DRAWS} draws" in words
    assert "countermove audit" in words
    assert "change (" not in words
    assert "pictures" not in words + progress
    out = json.loads(typed(*call, "--data", DATA, "--model", MODEL, "--additions", "0.6", "--json")[0])
    assert (out["items"], out["written"], out["additions"]) == (3, 0, found["additions"])
    other = (*call[:2], str(folders / "pool-choice"), *call[3:], "--data", DATA, "--model", MODEL, "--choice", "pool")
    typed(*other)
    assert told(folders, "pool-choice")["method"] == "nat-i"
    with pytest.raises(ConfigError, match="did you mean '--attribute'"):
        typed(*call[:-2], "--atribute", "warm", "--data", DATA)


def test_photos_are_cut_to_the_centre_square_and_turned(tmp_path: Path) -> None:
    tall = np.zeros((32, 16, 3), dtype=np.uint8)
    tall[8:24, :, 0] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "tall.png").write_bytes(hostile.encoded(tall))
    (tmp_path / "turned.png").write_bytes(hostile.encoded(Image.fromarray(tall.swapaxes(0, 1)), exif=exif))
    data = PlantedProfiles(profiles=4, side=8)()
    items = protect_items.read(protect_items.find(tmp_path, "photos", "fail"), "picture", data, "fail").items
    assert items.shape == (2, 3, 8, 8)
    assert bool((items[:, 0] == 200).all())
    assert bool((items[:, 1:] == 0).all())
