"""Face sets: who moves, what is published and tested, what is refused; planted, LFW, one's own folders."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests import hostile

from countermove.errors import ConfigError, DataError
from countermove.faces.data import DATA
from countermove.faces.data.identities import IdentityFolders
from countermove.faces.data.lfw import LfwFaces
from countermove.faces.data.planted import PlantedFaces
from countermove.faces.gallery import Faces, open_faces, open_split_faces
from countermove.game.methods import Methods
from countermove.learning.loop import train
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples, features
from countermove.nets.registry import build_network
from countermove.pixels.randomness import generator


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERMOVE_CACHE", str(tmp_path / "cache"))


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def photo(seed: int) -> bytes:
    """A photo of 8 x 8, another for every seed."""
    return hostile.encoded(hostile.noise(seed=seed))


def put_people(tree: Path, **counts: int) -> None:
    """Put so many different photos, 0.png and so on, into a folder for every person."""
    for k, (person, count) in enumerate(counts.items()):
        for i in range(count):
            put(tree / person / f"{i}.png", photo(1000 * k + i))


def rows_of(faces: Faces, rows: torch.Tensor) -> set[str]:
    return {faces.ids[i] for i in rows.tolist()}


def names_of_movers(faces: Faces) -> set[str]:
    return {faces.people[i] for i in faces.movers.tolist()}


# Opening.

Given = list[tuple[str, int]]
"""Whose each photo is, and which of a few pictures it shows."""


def given_photos(photos: Given) -> tuple[list[str], torch.Tensor, list[int], list[str]]:
    people = sorted({who for who, _ in photos})
    pixels = torch.stack([torch.full((3, 8, 8), shown, dtype=torch.uint8) for _, shown in photos])
    return people, pixels, [people.index(who) for who, _ in photos], [f"{who}/{i}" for i, (who, _) in enumerate(photos)]


def opened(photos: Given, **settings: Any) -> Faces:
    return open_faces(
        "x", *given_photos(photos), **{"movers": 2, "test_fraction": 0.4, "split_seed": 0, "min_images": 4, **settings}
    )


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=30).map(
        lambda more: [*((who, 20 + i) for who in "ab" for i in range(4)), *more]
    ),
    st.integers(0, 3),
)
def test_copies_and_people_with_few_photos_are_left_out_and_noted(photos: Given, seed: int) -> None:
    faces = opened(photos, split_seed=seed)
    shown: dict[str, set[int]] = {}
    for who, what in photos:
        shown.setdefault(who, set()).add(what)
    enough = {who for who, pictures in shown.items() if len(pictures) >= 4}
    assert faces.people == tuple(sorted(enough))
    found = [(faces.people[p], int(pixels[0, 0, 0])) for p, pixels in zip(faces.person, faces.photos, strict=True)]
    assert sorted(found) == sorted((who, what) for who in enough for what in shown[who])
    assert [faces.people[p] for p in faces.person] == [name[0] for name in faces.ids]
    copies = len(photos) - sum(map(len, shown.values()))
    assert sum("is the same photo as" in note for note in faces.notes) == copies
    assert {note[0] for note in faces.notes if "different photos and was left out" in note} == set(shown) - enough
    shared = sum(len(shown[a] & shown[b]) for a in shown for b in shown if a < b)
    assert sum("under two names" in note for note in faces.notes) == shared


def test_everything_is_published_tested_or_public() -> None:
    faces = opened([(who, 10 * k + i) for k, who in enumerate("abcd") for i in range(5)])
    parts = [set(rows.tolist()) for rows in (faces.published, faces.tested, faces.public)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 20
    assert [len(part) for part in parts] == [6, 4, 10]
    for mover in faces.movers.tolist():
        assert int(faces.test[faces.person == mover].sum()) == 2
    assert not faces.test[faces.public].any()
    assert faces.number.sort().values.tolist() == [-1, -1, 0, 1]


def test_movers_are_a_third_where_nobody_says_how_many() -> None:
    for people, movers in ((2, 2), (4, 2), (7, 2), (8, 3), (12, 4)):
        photos = [("abcdefghijkl"[k], 10 * k + i) for k in range(people) for i in range(4)]
        assert len(opened(photos, movers=None).movers) == movers


def test_given_movers_are_split_in_the_same_way_whoever_else_there_is() -> None:
    few = [(who, 10 * k + i) for k, who in enumerate("acegi") for i in range(6)]
    more = [*few, *(("d", 100 + i) for i in range(6))]
    before, after = opened(few, movers=list("ce")), opened(more, movers=list("ec"))
    assert names_of_movers(before) == names_of_movers(after) == {"c", "e"}
    assert rows_of(before, before.tested) == rows_of(after, after.tested)
    assert len(before.tested) == 4


def test_another_seed_chooses_other_movers_and_tests() -> None:
    photos = [("abcdefgh"[k], 10 * k + i) for k in range(8) for i in range(6)]
    assert rows_of(opened(photos), opened(photos).tested) == rows_of(opened(photos), opened(photos).tested)
    seen = [opened(photos, split_seed=seed) for seed in range(6)]
    assert len({tuple(faces.movers.tolist()) for faces in seen}) > 1
    fixed = [opened(photos, movers=["a", "b"], split_seed=seed) for seed in range(6)]
    assert len({frozenset(rows_of(faces, faces.tested)) for faces in fixed}) > 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"movers": 1}, "movers = 1 is refused: there are 3 people, at least 2 move"),
        ({"movers": 4}, "movers = 4 is refused: there are 3 people"),
        ({"movers": ["a", "z"]}, "unknown: z"),
        ({"movers": ["a", "a"]}, "at least two people of the data move"),
        ({"min_images": 5}, "movers = 2 is refused: there are 0 people"),
        ({"test_fraction": 0.1}, r"has 4 photos, 0 of them tested; .* at least one \(test_fraction = 0\.1\)"),
        ({"test_fraction": 0.9}, "has 4 photos, 4 of them tested; a mover publishes at least 2"),
    ],
)
def test_refuses_to_open(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened([(who, 10 * k + i) for k, who in enumerate("abc") for i in range(4)], **settings)


SPLIT: Given = [(who, 10 * k + i) for k, who in enumerate("abc") for i in range(4)]


def split_up(photos: Given, test: Collection[str], movers: Collection[str] = "ab", **settings: Any) -> Faces:
    return open_split_faces("x", *given_photos(photos), movers=movers, test=test, **settings)


def test_given_splits_are_taken() -> None:
    faces = split_up(SPLIT, {"a/0", "b/5", "b/7"})
    assert names_of_movers(faces) == {"a", "b"}
    assert rows_of(faces, faces.tested) == {"a/0", "b/5", "b/7"}
    assert rows_of(faces, faces.published) == {"a/1", "a/2", "a/3", "b/4", "b/6"}
    assert rows_of(faces, faces.public) == {"c/8", "c/9", "c/10", "c/11"}


@pytest.mark.parametrize(
    ("copy", "test", "message"),
    [
        (("a", 1), {"a/0", "a/12", "b/5"}, "x: a/1 and a/12 are the same photo; a photo that is tested must not"),
        (("a", 0), {"a/0", "b/5"}, "x: a/12 and a/0 are the same photo"),
        (("b", 1), {"a/0", "b/5", "b/12"}, "x: a/1 and b/12 are the same photo"),
    ],
)
def test_given_test_photos_that_are_published_are_refused(copy: tuple[str, int], test: set[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_up([*SPLIT, copy], test)


def test_given_splits_note_what_is_no_leak() -> None:
    faces = split_up([*SPLIT, ("a", 0), ("c", 1)], {"a/0", "a/12", "b/5"})
    assert faces.notes == (
        "a/12 is the same photo as a/0 and was left out",
        "a/1 and c/13 are the same photo under two names, a and c",
    )
    assert rows_of(faces, faces.tested) == {"a/0", "b/5"}


@pytest.mark.parametrize(
    ("test", "movers", "message"),
    [
        ({"a/0"}, "ab", "b has 4 photos, 0 of them tested; .* at least one. Add photos"),
        ({"a/0", "a/1", "a/2", "b/4"}, "ab", "a has 4 photos, 3 of them tested; a mover publishes at least 2"),
        ({"a/0"}, "a", "at least two people of the data move"),
    ],
)
def test_given_splits_that_are_too_small_are_refused(test: set[str], movers: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_up(SPLIT, test, movers)


# The registry.


def test_every_registered_face_set_is_a_method() -> None:
    for name, target in DATA.items():
        module, _, attribute = target.partition(":")
        method = getattr(importlib.import_module(module), attribute)
        assert method.version >= 1, name
        assert method.__doc__.splitlines()[0].endswith("."), name
        sheet = Methods("faces", {"data": DATA}).sheet("data", name)
        undocumented = [setting for setting, _, _ in sheet.fields if f"\n{setting}:" not in sheet.doc]
        assert not undocumented, name


def test_the_modules_of_face_sets_import_no_torch() -> None:
    """Neither to be imported nor to be built from a spelling."""
    code = """
import sys
from countermove.faces.data import DATA
from countermove.game.methods import Methods

for spelling in ("lfw(movers=5)", "planted-faces(people=9)", "identities(path=x)"):
    name = spelling.partition("(")[0]
    module, _, attribute = DATA[name].partition(":")
    __import__(module)
    getattr(sys.modules[module], attribute)(**({"path": "x"} if name == "identities" else {}))
assert "torch" not in sys.modules, "torch was imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# Planted faces.


@pytest.fixture(scope="module")
def planted() -> Faces:
    return PlantedFaces()()


def test_planted_faces_are_the_same_every_time_and_others_with_another_seed(planted: Faces) -> None:
    same, other = PlantedFaces()(), PlantedFaces(seed=1)()
    for part in ("photos", "person", "movers", "test"):
        assert torch.equal(getattr(planted, part), getattr(same, part)), part
    assert planted.ids == same.ids
    assert not torch.equal(planted.photos, other.photos)
    assert not torch.equal(planted.movers, other.movers)


def test_planted_faces_have_the_sizes_asked_for(planted: Faces) -> None:
    assert planted.photos.shape == (24 * 8, 3, 32, 32)
    assert (len(planted.movers), len(planted.published), len(planted.tested), len(planted.public)) == (8, 48, 16, 128)
    assert planted.ids[8 * 3 + 2] == "person-03/photo-2"
    assert planted.notes == ()
    small = PlantedFaces(people=3, photos=5, side=8, movers=2, test_fraction=0.5)()
    assert (small.photos.shape, len(small.tested)) == ((15, 3, 8, 8), 4)


def test_planted_faces_do_not_depend_on_how_many_there_are(planted: Faces) -> None:
    more = PlantedFaces(people=30, photos=10)()
    for person in range(24):
        assert torch.equal(more.photos[more.person == person][:8], planted.photos[planted.person == person])


def named_by_the_nearest(features: torch.Tensor, person: torch.Tensor) -> float:
    """Share of photos whose nearest other one is of the same person."""
    apart = torch.cdist(features, features).fill_diagonal_(torch.inf)
    return (person[apart.argmin(1)] == person).double().mean().item()


def test_planted_movers_are_told_apart_by_a_network_trained_on_others_better_than_by_pixels() -> None:
    """Measured with seeds 0, 1 and 2: 0.50, 0.50 and 0.45 by pixels, 0.83, 0.70 and 0.94 by features; chance is 1/8."""
    faces = PlantedFaces(people=48)()
    _, label = faces.person[faces.public].unique(return_inverse=True)
    network = build_network("small-cnn(width=0.5)", 40, 32, generator(0, "network"))
    shown = Examples(pictures=faces.photos[faces.public], labels=label)
    recipe = Recipe(epochs=8, batch_size=32, lr=0.05, crop=2)
    train(network, shown, shown, recipe=recipe, seed=0, classes=40)
    movers = torch.cat([faces.published, faces.tested])
    photos, person = faces.photos[movers], faces.person[movers]
    by_pixels = named_by_the_nearest(photos.float().flatten(1), person)
    by_features = named_by_the_nearest(F.normalize(features(network, photos)), person)
    assert 0.25 < by_pixels < 0.65
    assert 0.65 < by_features < 0.99


def test_planted_people_have_no_doubles(planted: Faces) -> None:
    means = torch.stack([planted.photos[planted.person == k].float().mean(0).flatten() for k in range(24)])
    assert torch.cdist(means, means).fill_diagonal_(torch.inf).min() > 300


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"people": 1, "movers": 1}, "people = 1 is refused: it must be at least 2"),
        ({"movers": 1}, "movers = 1 is refused: it must be at least 2"),
        ({"movers": 25}, "movers = 25 is refused: there are 24 people"),
        ({"photos": 2}, "photos = 2 is refused"),
        ({"side": 7}, "side = 7 is refused: photos are 8 to 1024"),
        ({"test_fraction": 0.0}, r"test_fraction = 0\.0 is refused: it lies between"),
        ({"test_fraction": 0.05}, r"test_fraction = 0\.05 is refused: of 8 photos"),
        ({"test_fraction": 0.9}, r"test_fraction = 0\.9 is refused: of 8 photos"),
        ({"test_fraction": float("nan")}, "test_fraction = nan is refused"),
    ],
)
def test_planted_faces_refuse(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PlantedFaces(**settings)


# One's own folders.


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Ann, Bob, Cy and Di with 4, 5, 6 and 4 photos of 8 x 8."""
    put_people(tmp_path / "album", Ann=4, Bob=5, Cy=6, Di=4)
    return tmp_path


def album(**settings: Any) -> IdentityFolders:
    return IdentityFolders(**{"path": "album", "side": 8, **settings})


def test_own_folders_become_a_face_set(own: Path) -> None:
    faces = album(movers=2)(root=own)
    assert (faces.name, faces.people, faces.side, faces.notes) == ("album", ("Ann", "Bob", "Cy", "Di"), 8, ())
    assert faces.ids[:5] == ("Ann/0.png", "Ann/1.png", "Ann/2.png", "Ann/3.png", "Bob/0.png")
    assert [faces.people[p] for p in faces.person] == [name.split("/")[0] for name in faces.ids]
    np.testing.assert_array_equal(faces.photos[5].permute(1, 2, 0).numpy(), hostile.noise(seed=1001))
    assert len(faces.movers) == len(album()(root=own).movers) == 2


def test_own_folders_split_a_mover_by_ids_alone(own: Path) -> None:
    """Another person may take a mover's place, but nobody's photos are split otherwise."""
    seeds = range(5)
    before = [album(movers=3, split_seed=seed)(root=own) for seed in seeds]
    put_people(own / "album", **{"Zed": 0, "Abe": 7})
    for seed in seeds:
        after = album(movers=3, split_seed=seed)(root=own)
        both = names_of_movers(before[seed]) & names_of_movers(after)
        assert len(both) >= 2
        for mover in both:
            mine = [{i for i in rows_of(faces, faces.tested) if i.startswith(mover)} for faces in (before[seed], after)]
            assert mine[0] == mine[1]
            assert mine[0]


def test_own_photos_in_deeper_folders_are_their_persons_but_a_folder_face_is_taken_alone(own: Path) -> None:
    put(own / "album" / "Ann" / "2019" / "summer" / "x.webp", hostile.encoded(hostile.noise(seed=77), "WEBP"))
    for i in range(4):
        put(own / "album" / "Eve" / "face" / f"{i}.png", photo(200 + i))
        put(own / "album" / "Eve" / "whole" / f"{i}.png", photo(300 + i))
    put(own / "album" / "Eve" / "face" / "more" / "4.png", photo(204))
    for i in range(4):
        put(own / "album" / "Fay" / "2020" / "face" / f"{i}.png", photo(400 + i))
    faces = album()(root=own)
    assert "Ann/2019/summer/x.webp" in faces.ids
    assert [name for name in faces.ids if name.startswith(("Eve", "Fay"))] == [
        *(f"Eve/face/{i}.png" for i in range(4)),
        "Eve/face/more/4.png",
        *(f"Fay/2020/face/{i}.png" for i in range(4)),
    ]


def test_own_people_with_few_or_no_photos_are_left_out_and_named(own: Path) -> None:
    put(own / "album" / "Lone" / "0.png", photo(9000))
    (own / "album" / "Nobody").mkdir()
    (own / "album" / "Faceless" / "face").mkdir(parents=True)
    put(own / "album" / "Faceless" / "whole.png", photo(9001))
    (own / "album" / ".hidden").mkdir()
    faces = album()(root=own)
    assert faces.people == ("Ann", "Bob", "Cy", "Di")
    assert faces.notes == (
        "Faceless has 0 different photos and was left out; min_images = 4",
        "Lone has 1 different photos and was left out; min_images = 4",
        "Nobody has 0 different photos and was left out; min_images = 4",
    )
    assert album(min_images=5)(root=own).people == ("Bob", "Cy")


def test_own_copies_are_dropped_of_one_person_and_noted_of_two(own: Path) -> None:
    put(own / "album" / "Bob" / "2 again.bmp", hostile.encoded(hostile.noise(seed=1002), "BMP"))
    put(own / "album" / "Di" / "bob.png", photo(1003))
    put(own / "album" / "Di" / "bob2.png", photo(1003))
    faces = album()(root=own)
    assert "Bob/2.png" not in faces.ids
    assert "Di/bob.png" in faces.ids
    assert faces.notes == (
        "Bob/2.png is the same photo as Bob/2 again.bmp and was left out",
        "Bob/3.png and Di/bob.png are the same photo under two names, Bob and Di",
        "Di/bob2.png is the same photo as Di/bob.png and was left out",
    )


def test_own_copies_do_not_make_a_person_of_many_photos(own: Path) -> None:
    for i in range(4):
        put(own / "album" / "Twin" / f"{i}.png", photo(5))
    faces = album()(root=own)
    assert "Twin" not in faces.people
    assert "Twin has 1 different photos and was left out; min_images = 4" in faces.notes


BROKEN = [
    (b"", r"1\.png is not a PNG, JPEG, WebP or BMP picture by its content: it is empty"),
    (photo(0)[:60], r"1\.png is broken or cut short"),
    (hostile.huge_png(), r"1\.png claims 60000 x 60000 pixels; at most 50,000,000 are decoded"),
    (hostile.huge_jpeg(), r"1\.png claims 65535 x 65535 pixels"),
    (hostile.encoded(hostile.noise(1, 1)), r"1\.png has 1 x 1 pixels; a face needs at least 8 x 8"),
    (hostile.encoded(hostile.noise(7, 90)), r"1\.png has 90 x 7 pixels; a face needs at least 8 x 8"),
    (hostile.animated("WEBP"), r"1\.png is animated"),
]


@pytest.mark.parametrize(("data", "message"), BROKEN)
def test_own_broken_photos_stop_or_are_skipped(own: Path, data: bytes, message: str) -> None:
    put(own / "album" / "Cy" / "1.png", data)
    with pytest.raises(DataError, match=message):
        album()(root=own)
    faces = album(on_broken="skip")(root=own)
    assert "Cy/1.png" not in faces.ids
    assert len(faces.ids) == 18
    assert len(faces.notes) == 1
    with pytest.raises(DataError, match=message):
        raise DataError(faces.notes[0])


def test_own_people_whose_photos_are_all_broken_are_named(own: Path) -> None:
    for i in range(4):
        put(own / "album" / "Di" / f"{i}.png", b"no picture")
    faces = album(on_broken="skip")(root=own)
    assert faces.people == ("Ann", "Bob", "Cy")
    assert faces.notes[-1] == "Di has 0 different photos and was left out; min_images = 4"


def test_own_album_of_nothing_but_broken_photos_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "album" / "Ann" / "0.png", b"no picture")
    with pytest.raises(DataError, match=r"none of the 1 photos can be read: .*0\.png is not a PNG"):
        album(on_broken="skip")(root=tmp_path)


def test_own_largest_photo_is_a_setting(own: Path) -> None:
    put(own / "album" / "Di" / "large.png", hostile.encoded(hostile.noise(9, 9)))
    with pytest.raises(DataError, match=r"large\.png claims 9 x 9 pixels; at most 64 are decoded"):
        album(max_pixels=64)(root=own)


def test_own_gray_photos_have_three_channels(own: Path) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    put(own / "album" / "Ann" / "gray.png", hostile.encoded(Image.fromarray(gray)))
    faces = album()(root=own)
    row = faces.ids.index("Ann/gray.png")
    assert all(torch.equal(channel, torch.from_numpy(gray)) for channel in faces.photos[row])


def test_own_photos_are_cut_around_the_centre(own: Path) -> None:
    picture = np.zeros((30, 40, 3), np.uint8)
    picture[7:23, 12:28] = (200, 100, 50)
    put(own / "album" / "Ann" / "wide.png", hostile.encoded(picture))

    def wide(**settings: Any) -> torch.Tensor:
        for person in ("Ann", "Bob", "Cy", "Di"):
            for path in (own / "album" / person).glob("?.png"):
                seed = 10 * ord(person[0]) + int(path.stem)
                path.write_bytes(hostile.encoded(hostile.noise(40, 40, seed=seed)))
        faces = album(**settings)(root=own)
        return faces.photos[faces.ids.index("Ann/wide.png")]

    colour = torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None]
    assert torch.equal(wide(crop=16), colour.expand(3, 8, 8))
    whole = wide(side=30)
    assert torch.equal(whole[:, 7:23, 7:23], colour.expand(3, 16, 16))
    assert whole[:, :7].max() == whole[:, :, 23:].max() == 0
    with pytest.raises(DataError, match=r"wide\.png has 40 x 30 pixels; crop = 31 needs more"):
        wide(crop=31)


def test_own_layouts_that_are_refused(own: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*/absent or .*/absent; give path=FOLDER"):
        album(path="absent")(root=own)
    (own / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no photos; expected .*empty/PERSON/PHOTO\.jpg"):
        album(path="empty")(root=own)
    put(own / "album" / "loose.png", photo(0))
    with pytest.raises(DataError, match=r"loose\.png lies in no person's folder; expected .*album/PERSON/loose\.png"):
        album()(root=own)


def test_own_movers_too_many(own: Path) -> None:
    with pytest.raises(DataError, match="album: movers = 5 is refused: there are 4 people, at least 2 move"):
        album(movers=5)(root=own)
    with pytest.raises(DataError, match="album: movers = 2 is refused: there are 0 people"):
        album(min_images=7)(root=own)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"side": 4}, "identities: side = 4 is refused"),
        ({"side": 2000}, "side = 2000 is refused"),
        ({"crop": 7}, "crop = 7 is refused: it must be at least 8"),
        ({"movers": 1}, "movers = 1 is refused: it must be at least 2"),
        ({"min_images": 0}, "min_images = 0 is refused"),
        ({"max_pixels": 0}, "max_pixels = 0 is refused"),
        ({"test_fraction": 1.0}, r"test_fraction = 1\.0 is refused: it lies between 0 and 1"),
    ],
)
def test_own_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        album(**settings)


# One's own folders, split already.


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """Ann and Bob published and tested, Cy and Di in public."""
    for k, (part, names) in enumerate({"published": "Ann Bob", "test": "Ann Bob", "public": "Cy Di"}.items()):
        for j, name in enumerate(names.split()):
            for i in range(3):
                put(tmp_path / "album" / part / name / f"{i}.png", photo(100 * k + 10 * j + i))
    return tmp_path


def test_split_folders_are_taken_as_they_are(halves: Path) -> None:
    assert album()(root=halves).people == ("Ann", "Bob"), "min_images counts all of a person's photos"
    faces = album(min_images=3)(root=halves)
    assert (faces.people, names_of_movers(faces)) == (("Ann", "Bob", "Cy", "Di"), {"Ann", "Bob"})
    for part, rows in (("published", faces.published), ("test", faces.tested), ("public", faces.public)):
        people = ("Cy", "Di") if part == "public" else ("Ann", "Bob")
        assert rows_of(faces, rows) == {f"{part}/{name}/{i}.png" for name in people for i in range(3)}


def test_split_folders_need_no_public(halves: Path) -> None:
    (halves / "album" / "public").rename(halves / "elsewhere")
    faces = album()(root=halves)
    assert (len(faces.public), len(faces.published), len(faces.tested)) == (0, 6, 6)


def copy_into_test(folder: Path) -> None:
    put(folder / "test" / "Ann" / "leak.bmp", hostile.encoded(hostile.noise(seed=2), "BMP"))


def copy_under_another_name(folder: Path) -> None:
    put(folder / "published" / "Bob" / "leak.png", photo(101))


def nobody_published(folder: Path) -> None:
    put(folder / "test" / "An" / "0.png", photo(77))


def public_mover(folder: Path) -> None:
    put(folder / "public" / "Bob" / "0.png", photo(77))


def no_test(folder: Path) -> None:
    (folder / "test").rename(folder.parent / "test")


def no_published(folder: Path) -> None:
    (folder / "published").rename(folder.parent / "published")


def too_few(folder: Path) -> None:
    for i in range(2):
        (folder / "published" / "Bob" / f"{i}.png").unlink()


def untested(folder: Path) -> None:
    (folder / "test" / "Bob").rename(folder.parent / "Bob")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (copy_into_test, r"published/Ann/2\.png and test/Ann/leak\.bmp are the same photo; a photo that is tested"),
        (copy_under_another_name, r"published/Bob/leak\.png and test/Ann/1\.png are the same photo"),
        (nobody_published, r"test has 'An', who is not in published; did you mean 'Ann'"),
        (public_mover, "'Bob' is in .*published and in public; the public are other people"),
        (no_test, "has a folder published but no folder test; add it, or rename published"),
        (no_published, "has a folder test but no folder published"),
        (too_few, "Bob has 4 photos, 3 of them tested; a mover publishes at least 2"),
        (untested, "Bob has 3 photos, 0 of them tested"),
    ],
)
def test_split_folders_that_are_refused(halves: Path, change: Callable[[Path], None], message: str) -> None:
    change(halves / "album")
    with pytest.raises(DataError, match=message):
        album(min_images=1)(root=halves)


def test_split_folders_name_the_movers_themselves(halves: Path) -> None:
    with pytest.raises(DataError, match=r"movers = 2 is refused: the people in .*published are the movers"):
        album(movers=2)(root=halves)


# Content.


def test_own_content_is_what_identifies_it(own: Path) -> None:
    before = album().fingerprint(root=own)
    assert replace(album(), side=16, movers=3).fingerprint(root=own) == before
    seen = {before}
    for change in (
        lambda: put(own / "album" / "Ann" / "0.png", photo(77)),
        lambda: put(own / "album" / "Ann" / "new.png", photo(78)),
        lambda: (own / "album" / "Ann").rename(own / "album" / "Zoe"),
    ):
        change()
        seen.add(album().fingerprint(root=own, rehash=True))
    assert len(seen) == 4
    put(own / "album" / "notes.txt", b"no photo")
    assert album().fingerprint(root=own, rehash=True) in seen


def test_own_album_is_built_from_its_spelling(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERMOVE_DATA", str(own))
    methods = Methods("faces", {"data": DATA})
    made = methods.compose("data", "identities(path=album,side=8,movers=2,on_broken=skip)")
    assert made.method == album(movers=2, on_broken="skip")
    assert "content" in made.identity()["parts"][0]
    assert methods.compose("data", "planted-faces(people=9,side=16)").method == PlantedFaces(people=9, side=16)
    with pytest.raises(ConfigError, match="on_broken = 'ignore' is refused"):
        methods.compose("data", "identities(path=album,on_broken=ignore)")


# Labeled Faces in the Wild.


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    """P0 to P3 with 4, 6, 8 and 10 photos of 12 x 12, whose centre of 8 x 8 says whose they are."""
    for person, count in enumerate((4, 6, 8, 10)):
        for i in range(count):
            picture = np.zeros((12, 12, 3), np.uint8)
            picture[2:10, 2:10] = 20 * person + i + 100
            name = f"P{person}"
            put(tmp_path / "lfw_min10" / "images" / name / f"{name}_{i:04d}.png", hostile.encoded(picture))
    return tmp_path


def lfw(**settings: Any) -> LfwFaces:
    return LfwFaces(**{"side": 8, "crop": 8, "movers": 2, "min_images": 4, **settings})


def test_lfw_is_read_and_cut(wild: Path) -> None:
    faces = lfw()(root=wild)
    assert (faces.name, faces.people, faces.notes) == ("lfw", ("P0", "P1", "P2", "P3"), ())
    assert (len(faces.ids), len(faces.movers)) == (28, 2)
    for name, owner, pixels in zip(faces.ids, faces.person, faces.photos, strict=True):
        person, number = int(name[1]), int(name[-8:-4])
        assert int(owner) == person
        assert torch.equal(pixels, torch.full((3, 8, 8), 20 * person + number + 100, dtype=torch.uint8))
    assert int(lfw(side=12, crop=12)(root=wild).photos[:, :, 0].max()) == 0


def test_lfw_people_are_chosen_by_how_many_photos_there_are(wild: Path) -> None:
    assert lfw(min_images=6)(root=wild).people == ("P1", "P2", "P3")
    assert lfw(max_images=6)(root=wild).people == ("P0", "P1")


def test_lfw_photos_of_each_are_chosen_by_id(wild: Path) -> None:
    few, more = lfw(per_person=5)(root=wild), lfw(per_person=7)(root=wild)
    assert torch.bincount(few.person).tolist() == [4, 5, 5, 5]
    assert torch.bincount(more.person).tolist() == [4, 6, 7, 7]
    assert set(few.ids) < set(more.ids) < set(lfw()(root=wild).ids)
    assert len({lfw(per_person=5, split_seed=seed)(root=wild).ids for seed in range(4)}) > 1
    put(wild / "lfw_min10" / "images" / "P3" / "P3_-001.png", hostile.encoded(hostile.noise(12, 12)))
    assert len(set(few.ids) - set(lfw(per_person=5)(root=wild).ids)) <= 1


def test_lfw_split_is_the_same_every_time_and_another_with_another_seed(wild: Path) -> None:
    one, same = lfw()(root=wild), lfw()(root=wild)
    assert torch.equal(one.test, same.test)
    others = [lfw(split_seed=seed)(root=wild) for seed in range(1, 6)]
    assert any(not torch.equal(one.test, other.test) for other in others)


def test_lfw_content_is_that_of_the_chosen_photos(wild: Path) -> None:
    chosen = lfw(min_images=8)
    before = chosen.fingerprint(root=wild)
    images = wild / "lfw_min10" / "images"
    put(images / "P0" / "P0_0000.png", photo(1))
    assert chosen.fingerprint(root=wild, rehash=True) == before
    put(images / "P3" / "P3_0000.png", photo(1))
    assert chosen.fingerprint(root=wild, rehash=True) != before
    assert lfw(min_images=8, per_person=3).fingerprint(root=wild) != chosen.fingerprint(root=wild)


@pytest.mark.parametrize(
    "downloaded", ["lfw_funneled", "lfw_home/lfw_funneled", "lfw-py/lfw-deepfunneled", "lfw-deepfunneled/lfw", "faces"]
)
def test_lfw_of_ones_own_lies_as_it_was_downloaded(wild: Path, downloaded: str) -> None:
    expected = lfw()(root=wild)
    tree = wild / "mine" / downloaded
    tree.parent.mkdir(parents=True)
    (wild / "lfw_min10" / "images").rename(tree)
    put(tree / "pairs_01.txt", b"no photo")
    given = ["mine/faces"] if downloaded == "faces" else ["mine", f"mine/{downloaded}", str(tree)]
    for path in given:
        faces = lfw(path=path)(root=wild)
        assert faces.ids == expected.ids
        assert torch.equal(faces.photos, expected.photos)
        assert torch.equal(faces.test, expected.test)


def test_lfw_of_ones_own_in_two_versions_is_refused(wild: Path) -> None:
    for name in ("lfw_funneled", "lfw-deepfunneled"):
        put_people(wild / "mine" / name, Ann=4, Bob=4)
    with pytest.raises(DataError, match=r"mine holds lfw_funneled and lfw-deepfunneled; give path=.*lfw_funneled or"):
        lfw(path="mine")(root=wild)


def test_lfw_that_is_not_there_too_small_or_of_too_few(wild: Path) -> None:
    with pytest.raises(DataError, match=r"lfw needs .*lfw_min10/images, which is not there; set COUNTERMOVE_DATA"):
        lfw()(root=wild / "elsewhere")
    with pytest.raises(DataError, match=r"there is no folder .*elsewhere"):
        lfw(path="elsewhere")(root=wild)
    with pytest.raises(DataError, match=r"1 of 4 people have 9 to 10 photos; movers = 2 needs more. Lower movers or"):
        lfw(min_images=9)(root=wild)
    with pytest.raises(DataError, match="0 of 4 people have 11 to 10 photos"):
        lfw(min_images=11)(root=wild)
    with pytest.raises(DataError, match="4 of 4 people have 4 to 10 photos; movers = 5 needs more"):
        lfw(movers=5)(root=wild)
    with pytest.raises(DataError, match=r"P0_0000\.png has 12 x 12 pixels; crop = 128 needs more"):
        lfw(crop=128)(root=wild)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_images": 20, "max_images": 19}, "max_images = 19 is refused: nobody has at least 20 photos"),
        ({"min_images": 2}, "min_images = 2 is refused: it must be at least 3"),
        ({"per_person": 2}, "per_person = 2 is refused"),
        ({"movers": 1}, "movers = 1 is refused"),
        ({"crop": 4}, "crop = 4 is refused"),
        ({"side": 7}, "lfw: side = 7 is refused"),
        ({"test_fraction": float("nan")}, "test_fraction = nan is refused"),
    ],
)
def test_lfw_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LfwFaces(**settings)


@pytest.fixture(scope="module")
def real(data_root: Path) -> Faces:
    if not (data_root / "lfw_min10").is_dir():
        pytest.skip(f"needs lfw_min10 in {data_root}")
    return LfwFaces(side=16, per_person=10)(root=data_root)


@pytest.mark.data
def test_real_lfw_is_what_it_says(real: Faces) -> None:
    assert len(real.people) == 158
    assert real.photos.shape == (1580, 3, 16, 16)
    assert (len(real.movers), len(real.published), len(real.tested), len(real.public)) == (50, 350, 150, 1080)
    assert real.notes == (), "no photo is there twice"
    assert 20 < real.photos.float().std(dim=0).mean() < 90
