"""Profiles of one's own: a folder a value, a table, the bags of MUSK; everything is made here."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests import hostile

from countermove.errors import ConfigError, DataError
from countermove.game.cell import Setting
from countermove.game.config import make_config
from countermove.game.results import load_results
from countermove.game.run import play, resolve
from countermove.profiles.captions import caption_vectors
from countermove.profiles.data.folder import ProfileFolder
from countermove.profiles.data.musk import FEATURES, Musk
from countermove.profiles.data.posters import PosterProfiles
from countermove.profiles.data.table import ProfileTable
from countermove.profiles.dataset import Profiles
from countermove.profiles.methods import METHODS


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERMOVE_CACHE", str(tmp_path / "cache"))


def put_picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(hostile.encoded(hostile.noise(width=12, height=10, seed=seed)))


def put_sound(path: Path, *, rate: int = 8000, seconds: float = 0.2, hertz: float = 440.0, loud: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave_form = loud * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((wave_form.clip(-1, 1) * 32767).round().astype("<i2").tobytes())


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Six people of either value with 4 to 6 pictures each, a background of either and of nobody, and public items."""
    root = tmp_path / "album"
    for k in range(12):
        for i in range(4 + k % 3):
            put_picture(root / ("cats" if k % 2 else "dogs") / f"p{k:02d}" / f"{i}.png", 100 * k + i)
    for i, where in enumerate(("cats/x", "cats/y", "dogs/z", "loose")):
        put_picture(root / "background" / f"{where}.png", 5000 + i)
    for i in range(4):
        put_picture(root / "public" / ("indoors", "outdoors")[i % 2] / f"{i}.png", 6000 + i)
    (root / "dogs" / "p00" / "notes.txt").write_text("no item")
    put_picture(root / "dogs" / ".hidden" / "0.png", 1)
    return root


def names(data: Profiles, rows: torch.Tensor) -> list[str]:
    return [data.ids[row] for row in rows.tolist()]


# What is written under items.


CAT, DOG = "a cat purrs and sleeps", "the dog barks at mail"


def test_words_have_their_places() -> None:
    cat, same, both, nothing = caption_vectors(["a black Cat", "Black cat, black", "cat dog", ""])
    assert torch.equal(cat, same)
    assert set(both.tolist()) <= {0.0, 1.0}
    assert int(both.sum()) == 2
    assert not nothing.any()
    with pytest.raises(ConfigError, match="captions = 'plot'"):
        PosterProfiles(captions="plot")  # type: ignore[arg-type]


def test_items_keep_what_is_written_under_them(tmp_path: Path) -> None:
    table = captioned(tmp_path)
    data = ProfileTable(table=str(table), captions="words", side=8)()
    for row, name in enumerate(data.ids):
        words = "" if name.startswith("n") else CAT if name.startswith("cat") else DOG
        assert torch.equal(data.captions[row], caption_vectors([words])[0])
    rows = torch.tensor([3, -1])
    found = data.described(torch.ones(2, 4), rows)
    assert torch.equal(found[0], torch.cat([torch.ones(4), data.captions[3]]))
    assert found[1].tolist() == [1.0] * 4 + [0.0] * data.captions.shape[1]
    plain = ProfileTable(table=str(table), side=8)()
    assert plain.captions.shape == (len(plain.items), 0)
    assert torch.equal(plain.described(torch.ones(2, 4), rows), torch.ones(2, 4))
    with pytest.raises(DataError, match="text"):
        ProfileTable(table=str(table), captions="texts", side=8)()
    with pytest.raises(DataError, match="every item has a caption"):
        replace(data, captions=data.captions[1:])


def captioned(folder: Path) -> Path:
    """Twelve people's noise, with words that tell two kinds apart, and a background; returns the table."""
    lines = ["item,owner,attribute,words,role"]
    for k in range(24):
        kind = "cat" if k % 2 else "dog"
        for i in range(3):
            put_picture(folder / f"{kind}-{k}-{i}.png", 100 * k + i)
            words = CAT if k % 2 else DOG
            lines.append(f"{kind}-{k}-{i}.png,p{k:02d},{kind},{words},{'train' if k < 12 else 'test'}")
    for k in range(12):
        kind = "cat" if k % 2 else "dog"
        put_picture(folder / f"{kind}-loose-{k}.png", 9000 + k)
        lines.append(f"{kind}-loose-{k}.png,,{kind},{CAT if k % 2 else DOG},background")
    for k in range(8):
        put_picture(folder / f"n{k}.png", 9100 + k)
        lines.append(f"n{k}.png,,shown-{k % 2},,public")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def test_a_profiler_reads_what_is_written_and_additions_bring_their_captions(tmp_path: Path) -> None:
    table = captioned(tmp_path)
    looks = "small(epochs=1, network='small-pooled(width=0.25)')"
    model = METHODS.compose("model", f'deep-sets(epochs=40, features="{looks}")').spelling
    astray = METHODS.compose("move", "nat-i(additions=2, choice=best)").spelling
    audit = {
        "arena": "profiles",
        "data": [f"csv(captions=words, side=16, table='{table}')", f"csv(side=16, table='{table}')"],
        "moves": [
            astray,
            "adv-pi(steps=2)",
            "adv-n(shared=true, steps=2)",
            "nat-i(choice=greedy)",
            "adv-pi(box=gray, steps=2)",
            "several",
        ],
        "countermoves": [
            "back-off",
            "jpeg(quality=40)",
            "outliers",
            "detector(epochs=2)",
            "self-training",
            "adversarial-training",
        ],
        "models": [model],
        "seeds": 1,
        "engine": {"threads": 1},
    }
    results = load_results(play(resolve(make_config(audit)), tmp_path / "run").run)
    assert [row.record.get("error") for row in results.rows if not row.ok] == []
    with_words, without = results.axis("data")

    def accuracy(data: str, move: str, countermove: str = "none") -> float:
        found = results.row(Setting("profiles", data, move, countermove, model, 0))
        assert found is not None
        return found.metrics["accuracy"]

    assert accuracy(with_words, "none") == 1.0
    assert accuracy(without, "none") < 1.0, "the pictures are noise"
    assert accuracy(with_words, astray) < 0.6, "additions with the other words lead astray"
    assert accuracy(with_words, astray, "back-off") > accuracy(with_words, astray)
    learned = METHODS.compose("model", "deep-sets(epochs=1, features=learned)").spelling
    with pytest.raises(ConfigError, match="reads items alone"):
        resolve(make_config({**audit, "models": [learned]}))


# Folders.


def test_a_folder_a_value_a_folder_a_person(album: Path) -> None:
    data = ProfileFolder(path=str(album), side=8)()
    assert (data.name, data.medium, data.classes, data.warning) == ("album", "picture", ("cats", "dogs"), "")
    assert data.items.shape == (60 + 8, 3, 8, 8)
    assert sorted(data.owners) == [f"p{k:02d}" for k in range(12)]
    for bag, owner, label in zip(data.bags, data.owners, data.labels.tolist(), strict=True):
        k = int(owner[1:])
        assert label == 1 - k % 2
        assert names(data, bag) == [f"{data.classes[label]}/{owner}/{i}.png" for i in range(4 + k % 3)]
    kinds = dict(zip(names(data, data.background), data.kinds.tolist(), strict=True))
    prefix = "background/"
    assert kinds == {
        f"{prefix}cats/x.png": 0, f"{prefix}cats/y.png": 0, f"{prefix}dogs/z.png": 1, f"{prefix}loose.png": -1
    }  # fmt: skip
    shown = [data.public_classes[label] for label in data.public_labels.tolist()]
    assert shown == [name.split("/")[1] for name in names(data, data.public)]
    assert [len(data.train), len(data.validation), len(data.test)] == [6, 2, 4]


def test_a_folder_can_be_cut_to_profiles_of_one_size(album: Path) -> None:
    data = ProfileFolder(path=str(album), side=8, items=2, per_owner=2)()
    assert set(data.lengths(torch.arange(len(data.bags)))) == {2}
    assert set(map(data.owners.count, data.owners)) == {2}
    five = data.owners.index("p01")
    assert names(data, data.bags[five]) == ["cats/p01/3.png", "cats/p01/4.png"], "the newest come first"
    few = ProfileFolder(path=str(album), side=8, items=6)()
    assert "8 (p00, ...) are left out for having fewer than 6 items" in few.warning
    leaky = ProfileFolder(path=str(album), side=8, items=2, split="profiles")()
    assert "12 of 12 owners have several profiles" in leaky.warning


def test_given_splits_are_taken(album: Path) -> None:
    for split, people in (("train", range(6)), ("test", range(6, 12))):
        for k in people:
            value = "cats" if k % 2 else "dogs"
            (album / split / value).mkdir(parents=True, exist_ok=True)
            (album / value / f"p{k:02d}").rename(album / split / value / f"p{k:02d}")
    put_picture(album / "dogs" / "p99" / "0.png", 7)
    with pytest.raises(DataError, match=r"p99/0\.png lies in none of train, validation, test"):
        ProfileFolder(path=str(album), side=8)()
    (album / "dogs" / "p99" / "0.png").unlink()
    data = ProfileFolder(path=str(album), side=8)()
    assert sorted(data.owners[row] for row in data.train.tolist()) == [f"p{k:02d}" for k in range(6)]
    assert sorted(data.owners[row] for row in data.test.tolist()) == [f"p{k:02d}" for k in range(6, 12)]
    assert len(data.validation) == 0
    put_picture(album / "test" / "cats" / "p01" / "9.png", 77)
    with pytest.raises(DataError, match=r"'p01' into .*what is learned of a person"):
        ProfileFolder(path=str(album), side=8)()


def test_folders_that_are_laid_out_otherwise_are_refused(album: Path) -> None:
    (album / "cats" / "p13").mkdir()
    with pytest.raises(DataError, match=r"p13 is empty: it holds no picture and no sound"):
        ProfileFolder(path=str(album))()
    (album / "cats" / "p13").rmdir()
    put_picture(album / "cats" / "loose.png", 3)
    with pytest.raises(DataError, match=r"loose\.png lies in no person's folder; expected .*VALUE/OWNER/ITEM"):
        ProfileFolder(path=str(album))()
    (album / "cats" / "loose.png").unlink()
    put_sound(album / "cats" / "p01" / "z.wav")
    with pytest.raises(DataError, match=r"z\.wav is a sound and .* a picture; a set holds either"):
        ProfileFolder(path=str(album))()
    (album / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures and no sounds"):
        ProfileFolder(path=str(album / "empty"))()
    (album / "cats" / "p01" / "z.wav").unlink()
    (album / "cats" / "p01" / "link.png").symlink_to(album / "dogs" / "p00" / "0.png")
    with pytest.raises(DataError, match=r"link\.png is a link"):
        ProfileFolder(path=str(album))()


def test_one_value_only_is_refused(album: Path) -> None:
    (album / "dogs").rename(album / "cats" / "p50")
    with pytest.raises(DataError, match="the attribute has one value"):
        ProfileFolder(path=str(album))()


def test_broken_pictures_stop_or_are_named(album: Path) -> None:
    (album / "cats" / "p01" / "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"p01/0\.png is not a PNG"):
        ProfileFolder(path=str(album))()
    data = ProfileFolder(path=str(album), on_broken="skip", side=8)()
    assert "1 of 68 items could not be read and are left out" in data.warning
    assert "p01/0.png" in data.warning
    assert len(data.items) == 67


def test_copies_are_told(album: Path) -> None:
    (album / "cats" / "p01" / "9.png").write_bytes((album / "dogs" / "p00" / "0.png").read_bytes())
    assert "is the same as another item" in ProfileFolder(path=str(album))().warning


# Sounds.


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Four people of either value with three clips of 0.2 s each at 8 kHz."""
    root = tmp_path / "voices"
    for k in range(8):
        for i in range(3):
            put_sound(root / ("high" if k % 2 else "low") / f"p{k}" / f"{i}.wav", hertz=300 + 50 * (3 * k + i))
    return root


def test_sounds_are_cut_and_padded(voices: Path) -> None:
    data = ProfileFolder(path=str(voices), seconds=0.1)()
    assert (data.medium, data.rate, data.items.shape, data.warning) == ("speech", 8000, (24, 800), "")
    longer = ProfileFolder(path=str(voices), seconds=0.3)()
    assert longer.items.shape == (24, 2400)
    assert "24 (high/p1/0.wav, ...) are shorter than 0.3 s and padded with silence" in longer.warning
    assert not longer.items[:, 1600:].any()
    assert torch.equal(longer.items[:, :800], data.items)


def test_mixed_rates_are_refused_or_resampled(voices: Path) -> None:
    put_sound(voices / "low" / "p0" / "0.wav", rate=16000, hertz=500)
    with pytest.raises(DataError, match=r"8000 samples a second and .*p0/0\.wav has 16000; give rate=8000"):
        ProfileFolder(path=str(voices), seconds=0.1)()
    data = ProfileFolder(path=str(voices), seconds=0.1, rate=8000)()
    clip = data.items[data.ids.index("low/p0/0.wav")].numpy()
    assert abs(int(np.abs(np.fft.rfft(clip)).argmax()) * 10 - 500) <= 10, "the pitch stays"
    assert ProfileFolder(path=str(voices), seconds=0.1, rate=4000)().items.shape == (24, 400)


def test_silent_and_clipped_sounds_are_told(voices: Path) -> None:
    put_sound(voices / "low" / "p0" / "0.wav", loud=0.0)
    put_sound(voices / "low" / "p2" / "1.wav", loud=5.0)
    warning = ProfileFolder(path=str(voices), seconds=0.1)().warning
    assert "low/p0/0.wav is silent" in warning
    assert "low/p2/1.wav is clipped" in warning


def test_broken_sounds_stop_or_are_named(voices: Path) -> None:
    (voices / "low" / "p0" / "0.wav").write_bytes(b"RIFF no sound")
    with pytest.raises(DataError, match=r"p0/0\.wav"):
        ProfileFolder(path=str(voices), seconds=0.1)()
    data = ProfileFolder(path=str(voices), seconds=0.1, on_broken="skip")()
    assert len(data.items) == 23
    assert "1 of 24 items could not be read" in data.warning


# Tables.


def table_of(album: Path, *rows: str, head: str = "item,owner,attribute,time,profile,role") -> str:
    path = album / "items.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return str(path)


def all_rows(album: Path, *, role: str = "") -> list[str]:
    """A row for every picture of the album's people, later ones with earlier dates."""
    return [
        f"{value}/{owner}/{name},{owner},{value},2026-01-{20 - int(name[0]):02d},,{role}"
        for value, owner, name in (path.parts[-3:] for path in sorted(album.glob("[cd]*/p*/*.png")))
    ]


def test_a_table_says_whose_and_when(album: Path) -> None:
    rows = [
        *all_rows(album),
        "background/loose.png,,,,,background",
        "background/dogs/z.png,,dogs,,,background",
        "public/indoors/0.png,,indoors,,,public",
        "public/outdoors/1.png,,,,,public",
    ]
    data = ProfileTable(table=table_of(album, *rows), side=8)()
    assert (data.name, data.classes) == ("items", ("cats", "dogs"))
    for bag, owner, label in zip(data.bags, data.owners, data.labels.tolist(), strict=True):
        count = 4 + int(owner[1:]) % 3
        expected = [f"{data.classes[label]}/{owner}/{i}.png" for i in reversed(range(count))]
        assert names(data, bag) == expected, "by time, not by name"
    assert data.kinds.tolist() == [-1, 1]
    assert (data.public_classes, data.public_labels.tolist()) == (("indoors",), [0, -1])
    turned = ProfileTable(table=table_of(album, *rows[::-1]), side=8)()
    assert turned.ids == data.ids
    assert torch.equal(turned.test, data.test)
    assert all(torch.equal(x, y) for x, y in zip(turned.bags, data.bags, strict=True))


def test_a_table_can_name_profiles_and_splits(album: Path) -> None:
    rows = []
    for k in range(12):
        value = "cats" if k % 2 else "dogs"
        role = "train" if k < 6 else "test"
        rows += [f"{value}/p{k:02d}/{i}.png,p{k:02d},{value},{i},{i % 2},{role}" for i in range(4)]
    data = ProfileTable(table=table_of(album, *rows), side=8)()
    assert len(data.bags) == 24
    assert data.profile_ids[:2] == ("p00#0", "p00#1")
    assert names(data, data.bags[0]) == ["dogs/p00/0.png", "dogs/p00/2.png"]
    assert {data.owners[row] for row in data.test.tolist()} == {f"p{k:02d}" for k in range(6, 12)}
    with pytest.raises(ConfigError, match="the data say which profiles are tested"):
        ProfileTable(table=table_of(album, *rows), split="profiles")()


def test_a_table_may_lie_elsewhere_and_name_its_attribute(album: Path, tmp_path: Path) -> None:
    lines = [row.replace(",2026", ",0,2026").rsplit(",", 3)[0] for row in all_rows(album)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["item,owner,pet,age", *lines]) + "\n")
    data = ProfileTable(table=str(path), path=str(album), attribute="pet", side=8)()
    assert data.classes == ("cats", "dogs")
    with pytest.raises(DataError, match="has no column 'attribute'"):
        ProfileTable(table=str(path), path=str(album))()


def test_tables_notice_what_changes(album: Path) -> None:
    table = ProfileTable(table=table_of(album, *all_rows(album)), on_broken="skip", side=8)
    first = table.fingerprint()
    put_picture(album / "cats" / "p01" / "0.png", 4242)
    second = table.fingerprint(rehash=True)
    (album / "cats" / "p01" / "0.png").unlink()
    third = table.fingerprint(rehash=True)
    assert len({first, second, third}) == 3
    assert "1 of 60 items could not be read" in table().warning
    with pytest.raises(DataError, match=r"p01/0\.png cannot be read"):
        ProfileTable(table=table.table)()


GOOD = "cats/p01/0.png,p01,cats,1,,"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("cats/p01/1.png,,cats,1,,", "row 2 has no owner"),
        (",p01,cats,1,,", "row 2 has no item"),
        ("cats/p01/1.png,p01,,1,,", "row 2 has no attribute"),
        (
            "cats/p01/1.png,p01,dogs,1,,",
            r"row 2 says 'dogs' of 'p01', and .*row 1 says 'cats'; a profile has one value",
        ),
        ("cats/p01/0.png,p01,cats,2,,", "row 2: cats/p01/0.png is in this profile of 'p01' already"),
        ("cats/p01/1.png,p01,cats,1,,test", "row 2 puts 'p01' into test, and .*row 1 into profile"),
        ("cats/p01/1.png,p01,cats,soon,,", "row 2: time = 'soon' is refused: a number or a date"),
        ("cats/p01/1.png,p01,cats,nan,,", "row 2: time = 'nan' is refused: it must be finite"),
        ("cats/p01/1.png,p01,cats,1,,tests", "row 2: role = 'tests' is refused: did you mean 'test'"),
        ("../album/cats/p01/1.png,p01,cats,1,,", "leads outside"),
        ("cats/p01/1.png,p01,cats,1", "line 3 has another number of fields than the first line"),
        ("dogs/p00/0.png,p00,dogs,1,,test", "some profiles are put into a split and others are not"),
        ("cats/p01/0.png,,,,,background", "p01/0.png is in a profile and background|no .* profile"),
    ],
)
def test_rows_that_cannot_be_are_refused(album: Path, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ProfileTable(table=table_of(album, GOOD, row), side=8)()


def test_an_item_is_not_in_a_profile_and_in_the_background(album: Path) -> None:
    rows = [*all_rows(album), "cats/p01/0.png,,,,,background"]
    with pytest.raises(DataError, match=r"cats/p01/0\.png is in a profile and background"):
        ProfileTable(table=table_of(album, *rows), side=8)()


@pytest.mark.parametrize("make", [ProfileFolder, ProfileTable])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"side": 4}, "side = 4 is refused"),
        ({"seconds": 0.0}, "seconds = 0 is refused"),
        ({"rate": 10}, "rate = 10 is refused"),
        ({"items": 0}, "items = 0 is refused"),
        ({"per_owner": 2}, "per_owner needs items"),
        ({"test": 0.0}, "test = 0 is refused"),
    ],
)
def test_own_settings_are_refused(make: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**{"path" if make is ProfileFolder else "table": "x"}, **settings)


# MUSK.


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Six musks and five others with one to three shapes each, in the layout of clean1.data."""
    lines = []
    for k in range(11):
        name, last = (f"MUSK-{k}", "1.") if k < 6 else (f"NON-MUSK-{k}", "0.")
        for shape in range(1 + k % 3):
            numbers = ",".join(str(k * 100 + shape - i) for i in range(FEATURES))
            lines.append(f"{name},{k}_{shape}+1,{numbers},{last}")
    path = tmp_path / "clean1.data"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_molecule_is_tested_in_one_fold(clean: Path) -> None:
    folds = [Musk(path=str(clean), folds=4, fold=fold)() for fold in range(4)]
    for data in folds:
        assert data.medium == "table"
        assert data.items.shape == (21, FEATURES)
        assert len(data.train) + len(data.test) == len(data.bags) == 11
        for bag, owner, label in zip(data.bags, data.owners, data.labels.tolist(), strict=True):
            k = int(owner.rsplit("-", 1)[1])
            assert label == int(k < 6)
            expected = [[k * 100 + shape - i for i in range(FEATURES)] for shape in range(1 + k % 3)]
            assert data.items[bag].tolist() == expected
        assert len(data.background) == len(data.public) == 0
    tested = [data.owners[row] for data in folds for row in data.test.tolist()]
    assert sorted(tested) == sorted(folds[0].owners)
    assert not torch.equal(Musk(path=str(clean), folds=4, split_seed=1)().test, folds[0].test)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("1.\n", "2.\n"), "the class '2.' of MUSK-0 is refused"),
        (("0_0+1,", "0_0+1,x"), "line 1: could not convert"),
        (("MUSK-0,", ""), "line 1 has 168 fields"),
        (("1_1+1", "1_0+1"), "line 3: the shape 1_0.1 of MUSK-1 is there already"),
    ],
)
def test_files_of_another_layout_are_refused(clean: Path, change: tuple[str, str], message: str) -> None:
    clean.write_text(clean.read_text().replace(*change))
    with pytest.raises(DataError, match=message):
        Musk(path=str(clean), folds=4)()


def test_musk_refuses_folds_that_cannot_be(clean: Path) -> None:
    with pytest.raises(DataError, match="5 molecules of class 0; folds = 6 needs more"):
        Musk(path=str(clean), folds=6)()
    with pytest.raises(ConfigError, match="fold = 10 is refused"):
        Musk(path=str(clean), fold=10)
    clean.write_text("")
    with pytest.raises(DataError, match="is empty"):
        Musk(path=str(clean))()
