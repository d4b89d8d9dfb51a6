"""A folder is indexed and searched: results, additions, removals, saves, and everything that is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from countermove.errors import ConfigError, DataError, RunError
from countermove.retrieval.data.planted import PlantedScenes
from countermove.retrieval.search import ImageSearch

TINY = "neural(backbone=\"small(epochs=2, network='small-cnn(width=0.25)')\")"
DATA = "planted-scenes(distractors=0, public=4, public_views=4, scenes=1, side=32, views=2)"
ENGINES = {
    "cedd": ("global", None),
    "gist": ("global(descriptor=gist, side=32)", None),
    "neural": (TINY, DATA),
    "whitened": (TINY.replace("neural(", "neural(whitening=pca, "), DATA),
    "local": ("local(words=16, contrast=0.005, rounds=2)", DATA),
}


@pytest.fixture(scope="module", autouse=True)
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COUNTERMOVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scenes of three views in folders: scene-0000/view-000.png and so on."""
    root = tmp_path_factory.mktemp("drawn")
    scenes = PlantedScenes(scenes=5, views=3, distractors=0, public=0, side=48, seed=3)()
    for row, name in enumerate(scenes.ids):
        path = root / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(scenes.pictures[row].permute(1, 2, 0).numpy()).save(path)
    return root


@pytest.fixture
def folder(drawn: Path, tmp_path: Path) -> Path:
    return shutil.copytree(drawn, tmp_path / "pictures")


def first(search: ImageSearch, query: Path) -> str:
    return search.search(query, k=1)[0].path


@pytest.mark.parametrize("kind", ENGINES)
def test_a_picture_finds_itself_first_whatever_the_engine_and_again_after_a_save(
    kind: str, drawn: Path, tmp_path: Path
) -> None:
    pytest.importorskip("cv2") if kind == "local" else None
    engine, data = ENGINES[kind]
    search = ImageSearch.build(drawn, engine, collection=data)
    assert search.ids == sorted(search.ids)
    assert len(search) == 15
    for name in ("scene-0000/view-001.png", "scene-0004/view-002.png"):
        assert first(search, drawn / name) == name
    found = search.search(drawn / "scene-0002/view-000.png", k=99)
    assert [one.rank for one in found] == list(range(1, 16))
    assert sorted(one.path for one in found) == search.ids
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    search.save(tmp_path / "saved")
    assert not [path for path in (tmp_path / "saved").rglob("*") if path.suffix not in ("", ".json", ".safetensors")]
    again = ImageSearch.load(tmp_path / "saved")
    assert again.search(drawn / "scene-0002/view-000.png", k=99) == found
    assert again.folder == drawn.resolve()


def test_other_views_of_a_scene_come_before_other_scenes(drawn: Path) -> None:
    search = ImageSearch.build(drawn, "global")
    hits = [
        one.path.split("/")[0] == f"scene-{scene:04d}"
        for scene in range(5)
        for one in search.search(drawn / f"scene-{scene:04d}/view-000.png", k=3)
    ]
    assert sum(hits) >= 11, "of 15; about 6 are expected where only the picture itself is found"


def test_a_path_a_pillow_picture_and_an_array_are_the_same_query(drawn: Path) -> None:
    search, path = ImageSearch.build(drawn), drawn / "scene-0001/view-000.png"
    picture = Image.open(path)
    wanted = search.search(path)
    assert len(wanted) == 10
    assert search.search(str(path)) == wanted
    assert search.search(picture) == wanted
    assert search.search(np.asarray(picture)) == wanted
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.info["exif"] = exif.tobytes()
    assert search.search(turned) == wanted, "orientation is applied"


def test_alpha_comes_on_white(drawn: Path) -> None:
    search = ImageSearch.build(drawn)
    clear, white = Image.new("RGBA", (40, 40), (9, 9, 9, 0)), Image.new("RGB", (40, 40), "white")
    assert search.search(clear) == search.search(white)


def test_a_box_is_what_is_searched_for(drawn: Path) -> None:
    search = ImageSearch.build(drawn)
    one, other = (np.asarray(Image.open(drawn / f"scene-000{i}/view-000.png")) for i in (0, 3))
    both = np.concatenate([one, other], axis=1)
    assert search.search(both, box=(0, 0, 48, 48), k=3) == search.search(one, k=3)
    assert search.search(both, box=(48, 0, 96, 48), k=3) == search.search(other, k=3)
    for box in ((96, 0, 120, 20), (10, 10, 10, 20), (20, 20, 10, 30), (0, 0, float("nan"), 9), (-9, -9, -1, -1)):
        with pytest.raises(DataError, match="box"):
            search.search(both, box=box)


@pytest.mark.parametrize("kind", ["cedd", "neural", "local"])
def test_adding_and_removing_gives_what_building_gives(kind: str, folder: Path) -> None:
    pytest.importorskip("cv2") if kind == "local" else None
    engine, data = ENGINES[kind]
    whole = ImageSearch.build(folder, engine, collection=data)
    (folder / "scene-0004").rename(folder.parent / "kept")
    search = ImageSearch.build(folder, engine, collection=data)
    assert len(search) == 12
    shutil.move(folder.parent / "kept", folder / "scene-0004")
    query = folder / "scene-0004/view-001.png"
    assert search.add(["scene-0004/view-001.png"]) == ["scene-0004/view-001.png"]
    assert search.add([folder]) == ["scene-0004/view-000.png", "scene-0004/view-002.png"], "only what is new"
    assert first(search, query) == "scene-0004/view-001.png"
    wanted = {one.path: one.score for one in whole.search(query, k=99)}
    assert {one.path: one.score for one in search.search(query, k=99)} == pytest.approx(wanted)
    (folder / "scene-0000/view-000.png").unlink()
    search.remove(["scene-0000/view-000.png", folder / "scene-0004/view-001.png"])
    assert len(search) == 13
    assert {"scene-0000/view-000.png", "scene-0004/view-001.png"}.isdisjoint(search.ids)
    assert first(search, folder / "scene-0003/view-002.png") == "scene-0003/view-002.png"


def test_an_addition_is_whole_or_not_at_all(folder: Path, tmp_path: Path) -> None:
    search = ImageSearch.build(folder / "scene-0000")
    inside = folder / "scene-0000"
    for name in ("a.png", "b.png"):
        shutil.copy(inside / "view-000.png", inside / name)
    (inside / "c.png").write_bytes(b"no picture")
    before = list(search.ids)
    refused = [
        (["a.png", "c.png"], "c.png is not a PNG"),
        (["a.png", "a.png"], "given twice"),
        (["view-001.png"], "already"),
        ([folder / "scene-0001/view-000.png"], "is not in"),
        (["../scene-0001/view-000.png"], "is not in"),
        (["absent.png"], "absent.png cannot be read"),
    ]
    for paths, said in refused:
        with pytest.raises(DataError, match=said):
            search.add(paths)
        assert search.ids == before
        assert len(search.search(inside / "view-000.png", k=99)) == len(before)
    assert search.add([inside], on_broken="skip") == ["a.png", "b.png"]
    assert len(search.skipped) == 1
    with pytest.raises(DataError, match="not in the index"):
        search.remove(["view-00.png"])
    with pytest.raises(DataError, match="no picture would be left"):
        search.remove(search.ids)


def test_broken_files_are_named_or_left_out(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        ImageSearch.build(folder)
    search = ImageSearch.build(folder, on_broken="skip")
    assert len(search) == 15
    assert "broken.jpg" in search.skipped[0]
    (tmp_path / "alone").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        ImageSearch.build(tmp_path / "alone")
    shutil.copy(folder / "broken.jpg", tmp_path / "alone")
    with pytest.raises(DataError, match="no readable picture"):
        ImageSearch.build(tmp_path / "alone", on_broken="skip")
    with pytest.raises(DataError, match="is not a folder"):
        ImageSearch.build(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", ENGINES)
def test_odd_pictures_are_indexed_and_found(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("cv2") if kind == "local" else None
    source = np.random.default_rng(0)
    odd = {
        "gray.png": source.integers(0, 256, (50, 40), dtype=np.uint8),
        "panorama.png": source.integers(0, 256, (9, 1400, 3), dtype=np.uint8),
        "tiny.png": source.integers(0, 256, (8, 8, 3), dtype=np.uint8),
        "pixel.png": np.zeros((1, 1, 3), dtype=np.uint8),
        "flat.png": np.full((64, 64, 3), 77, dtype=np.uint8),
    }
    for name, pixels in odd.items():
        Image.fromarray(pixels).save(tmp_path / name)
    search = ImageSearch.build(tmp_path, ENGINES[kind][0], collection=ENGINES[kind][1])
    for name in odd:
        found = search.search(tmp_path / name, k=2)
        assert all(np.isfinite(one.score) for one in found)
        if kind not in ("local",) and name in ("gray.png", "panorama.png"):
            assert found[0].path == name


def test_one_picture_is_an_index(tmp_path: Path, drawn: Path) -> None:
    shutil.copy(drawn / "scene-0000/view-000.png", tmp_path / "one.png")
    search = ImageSearch.build(tmp_path, ENGINES["neural"][0], collection=DATA)
    (found,) = search.search(tmp_path / "one.png")
    assert (found.path, found.rank) == ("one.png", 1)
    assert found.score == pytest.approx(1, abs=1e-5)


def test_large_pictures_are_shrunk_and_boxes_with_them(tmp_path: Path) -> None:
    source = np.random.default_rng(1)
    for number in range(3):
        few = source.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(few).resize((800, 600), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.png")
    search = ImageSearch.build(tmp_path, TINY, collection=DATA, longest=64)
    shown = np.asarray(Image.open(tmp_path / "2.png"))
    assert search.search(shown)[0].score == pytest.approx(1, abs=1e-5)
    part = search.search(shown, box=(0, 0, 800, 600))
    assert part == search.search(shown)


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("neural", "backbone plain, which is learned"),
        ("local", "vocabulary of words, which is learned"),
        ("globl", "did you mean 'global'"),
        ("global + local", "name one"),
    ],
)
def test_engines_that_cannot_be_built_are_refused(engine: str, said: str, drawn: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        ImageSearch.build(drawn, engine)


def test_unfit_questions_are_refused(drawn: Path) -> None:
    with pytest.raises(ConfigError, match="longest"):
        ImageSearch.build(drawn, longest=3)
    search = ImageSearch.build(drawn / "scene-0000")
    with pytest.raises(ConfigError, match="k = 0"):
        search.search(drawn / "scene-0000/view-000.png", k=0)
    for query in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)):
        with pytest.raises(DataError, match="array must be uint8"):
            search.search(query)
    with pytest.raises(DataError, match="cannot be read"):
        search.search(drawn / "absent.png")


def test_a_save_is_renewed_and_a_foreign_folder_is_left_alone(folder: Path, tmp_path: Path) -> None:
    search, saved = ImageSearch.build(folder), tmp_path / "saved"
    search.save(saved)
    search.remove(["scene-0000/view-000.png"])
    search.save(saved)
    assert len(list(saved.iterdir())) == 2
    folder.rename(tmp_path / "moved")
    again = ImageSearch.load(saved, pictures=tmp_path / "moved")
    assert again.ids == search.ids
    assert again.add(["scene-0000/view-000.png"]) == ["scene-0000/view-000.png"]
    with pytest.raises(RunError, match="and no index"):
        search.save(tmp_path)
    with pytest.raises(DataError, match="holds no index"):
        ImageSearch.load(tmp_path)


def test_what_was_built_otherwise_is_refused(drawn: Path, tmp_path: Path) -> None:
    ImageSearch.build(drawn, TINY, collection=DATA).save(tmp_path / "saved")
    (facts,) = (tmp_path / "saved").glob("*.json")
    (held,) = (tmp_path / "saved").glob("index-*")
    whole = json.loads(facts.read_text())

    def refused(match: str, **changed: object) -> None:
        facts.write_text(json.dumps({**whole, **changed}))
        with pytest.raises(DataError, match=match):
            ImageSearch.load(tmp_path / "saved")

    refused("shrinking", seeing={**whole["seeing"], "shrinking": "nearest"})
    refused("built otherwise", engine=TINY.replace("neural(", "neural(scales=[1, 0.5], "))
    refused("built otherwise", engine="global")
    refused("and 1 names", ids=["a"])
    refused("format 2", format=2)
    for broken in ({"ids": 5}, {"held": "../index-x"}, {"held": "elsewhere"}, {"ids": ["a", "a"]}, {"seed": "x"}):
        refused("is broken", **broken)
    facts.write_text(json.dumps(whole))
    weights = held / "backbone.safetensors"
    other = {name: tensor + (tensor.is_floating_point() * 0.01) for name, tensor in load_file(weights).items()}
    save_file(other, weights)
    with pytest.raises(DataError, match="weights was"):
        ImageSearch.load(tmp_path / "saved")
    facts.write_text("[")
    with pytest.raises(DataError, match="is broken"):
        ImageSearch.load(tmp_path / "saved")
