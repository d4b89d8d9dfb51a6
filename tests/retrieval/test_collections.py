"""The collections: what is searched, asked and found, and what is refused."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests import hostile

from countermove.errors import ConfigError, DataError
from countermove.game.methods import Methods
from countermove.retrieval.collection import Collection, cropped, judged_by
from countermove.retrieval.data import DATA
from countermove.retrieval.data.buildings import Oxford, Paris
from countermove.retrieval.data.folder import Folder
from countermove.retrieval.data.grocery import Grocery
from countermove.retrieval.data.landmarks import Landmarks
from countermove.retrieval.data.planted import PlantedScenes
from countermove.retrieval.data.reading import shrunk_box, shrunk_size
from countermove.retrieval.engine import Engine
from countermove.retrieval.evaluation import evaluate
from countermove.retrieval.indexes.global_features import GlobalFeatures
from countermove.retrieval.indexes.local_features import LocalFeatures


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERMOVE_CACHE", str(tmp_path / "cache"))


def put(path: Path, seed: int = 0, height: int = 12, width: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(hostile.encoded(hostile.noise(height, width, seed=seed)))


def names(collection: Collection, rows: torch.Tensor) -> list[str]:
    return [collection.ids[row] for row in rows.tolist()]


def found(collection: Collection, protocol: str = "") -> dict[str, tuple[list[str], list[str]]]:
    """What each query should find and ignore, by names."""
    return {
        name: (names(collection, want.positive), names(collection, want.ignored))
        for name, want in zip(names(collection, collection.queries), collection.wanted[protocol], strict=True)
    }


def mean_ap(collection: Collection, engine: GlobalFeatures) -> float:
    index = engine.build([collection.pictures[row] for row in collection.indexed.tolist()])
    scores = index.scores([collection.pictures[row] for row in collection.queries.tolist()])
    return evaluate(scores, collection.wanted[""], collection.indexed).mean_ap


ENGINES = {
    "global": "countermove.retrieval.indexes.global_features:GlobalFeatures",
    "local": "countermove.retrieval.indexes.local_features:LocalFeatures",
}


@pytest.mark.parametrize(
    ("kind", "spelled"),
    [
        *(("data", name if name != "folder" else "folder(path=x)") for name in DATA),
        ("data", "oxford(leave_out=[a, b])"),
        ("model", "global(descriptor=gist, side=64)"),
        ("model", "local(weight=gauss, words=500)"),
    ],
)
def test_collections_and_engines_can_be_spelled_and_have_a_sheet(kind: Any, spelled: str) -> None:
    methods = Methods("retrieval", {"data": DATA, "model": ENGINES})
    assert methods.compose(kind, spelled).spelling == spelled
    sheet = methods.sheet(kind, spelled.split("(")[0])
    assert sheet.summary
    assert not [setting for setting, _, _ in sheet.fields if f"\n{setting}:" not in sheet.doc]


def test_the_modules_of_collections_import_no_torch() -> None:
    """Neither to be imported nor to be built."""
    code = """
import sys
from countermove.retrieval.data import DATA

for name, target in DATA.items():
    module, _, attribute = target.partition(":")
    __import__(module)
    getattr(sys.modules[module], attribute)(**({"path": "x"} if name == "folder" else {}))
assert "torch" not in sys.modules, "torch was imported"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Planted scenes.

TINY = PlantedScenes(scenes=5, views=3, distractors=7, public=4, public_views=2, side=32)


def test_planted_scenes_are_asked_found_and_kept_apart() -> None:
    scenes = TINY()
    assert len(scenes.pictures) == 5 * 3 + 7 + 4 * 2
    assert scenes.pictures[0].shape == (3, 32, 32)
    assert scenes.pictures[0].dtype == torch.uint8
    for query, (positive, ignored) in found(scenes).items():
        scene = query.split("/")[0]
        assert positive == [f"{scene}/view-001", f"{scene}/view-002"]
        assert ignored == []
    assert len(scenes.indexed) == 5 * 2 + 7
    assert not set(scenes.queries.tolist()) & set(scenes.indexed.tolist())
    shown = [scenes.public_classes[label] for label in scenes.public_labels.tolist()]
    assert shown == [name.split("/")[0] for name in names(scenes, scenes.public)]


def test_planted_scenes_are_alike_within_and_not_between() -> None:
    scenes = PlantedScenes(scenes=8, views=3, distractors=20, public=0)()
    chance = evaluate(torch.zeros(8, len(scenes.indexed)), scenes.wanted[""], scenes.indexed).mean_ap
    assert mean_ap(scenes, GlobalFeatures()) > 4 * chance
    pictures = torch.stack([scenes.pictures[row] for row in range(24)]).double()
    assert len(pictures.flatten(1).unique(dim=0)) == 24
    assert pictures.std() > 30


def test_planted_scenes_are_the_seed_s_whoever_else_is_drawn() -> None:
    scenes = TINY()
    more = dataclasses.replace(TINY, scenes=6, distractors=2)()
    assert torch.equal(scenes.pictures[3], more.pictures[3])
    assert more.ids[3] == scenes.ids[3]
    other = dataclasses.replace(TINY, seed=1)()
    assert not torch.equal(scenes.pictures[3], other.pictures[3])
    still = dataclasses.replace(TINY, shift=0.0, turn=0.0, zoom=0.0)()
    apart = (still.pictures[0].double() - still.pictures[1].double()).abs().mean()
    assert apart < (scenes.pictures[0].double() - scenes.pictures[1].double()).abs().mean()


@pytest.mark.parametrize(
    "wrong",
    [{"side": 4}, {"views": 1}, {"scenes": 0}, {"distractors": -1}, {"shift": 2.0}, {"zoom": 1.0}, {"turn": -1.0}],
)
def test_planted_settings_are_checked(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        dataclasses.replace(TINY, **wrong)


@pytest.mark.parametrize(
    "engine", [GlobalFeatures(), LocalFeatures(words=60, contrast=0.02, rounds=2)], ids=["global", "local"]
)
def test_engines_index_a_collection_and_open_what_they_saved(engine: Engine, tmp_path: Path) -> None:
    if isinstance(engine, LocalFeatures):
        pytest.importorskip("cv2", reason="keypoints need OpenCV: pip install 'countermove[retrieval]'")
    scenes = dataclasses.replace(TINY, side=64)()
    pictures = [scenes.pictures[row] for row in scenes.indexed.tolist()]
    assert engine.looks() is None
    index = engine.index(scenes, pictures, describer=None, seed=0, device="cpu")
    queries = [scenes.pictures[row] for row in scenes.queries.tolist()]
    scores = index.scores(queries)
    chance = evaluate(torch.zeros_like(scores), scenes.wanted[""], scenes.indexed).mean_ap
    assert evaluate(scores, scenes.wanted[""], scenes.indexed).mean_ap > 1.5 * chance
    index.save(tmp_path / "index")
    opened = engine.opened(tmp_path / "index", scenes, describer=None, device="cpu")
    assert torch.equal(opened.scores(queries), scores)


# One's own folder.


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    layout = ["a/0.png", "a/1.png", "a/deep/2.png", "b/0.png", "b/1.png", "c/0.png", "loose.png"]
    for seed, name in enumerate(layout):
        put(folder / name, seed)
    return folder


def test_folders_are_groups(own: Path) -> None:
    collection = Folder(path=str(own))()
    assert len(collection.queries) == 2
    for query, (positive, ignored) in found(collection).items():
        group = {"a": {"a/0.png", "a/1.png", "a/deep/2.png"}, "b": {"b/0.png", "b/1.png"}}[query[0]]
        assert set(positive) == group - {query}
        assert ignored == []
    searched = set(names(collection, collection.indexed))
    assert {"c/0.png", "loose.png"} <= searched
    assert len(searched) == 5
    assert len(collection.public) == 0
    row = collection.ids.index("loose.png")
    assert (collection.pictures[row].permute(1, 2, 0).numpy() == hostile.noise(12, 10, seed=6)).all()


def test_some_groups_may_be_the_public_s_and_the_seed_chooses(own: Path) -> None:
    collection = Folder(path=str(own), public_share=0.5)()
    (group,) = collection.public_classes
    assert {name.split("/")[0] for name in names(collection, collection.public)} == {group}
    assert collection.public_labels.tolist() == [0] * len(collection.public)
    chosen = {Folder(path=str(own), split_seed=seed)().queries.tolist()[0] for seed in range(12)}
    assert len(chosen) == 3


def test_longer_sides_are_shrunk_and_none_is_enlarged(tmp_path: Path) -> None:
    put(tmp_path / "x" / "a" / "0.png", height=40, width=100)
    put(tmp_path / "x" / "a" / "1.png", height=9, width=8)
    collection = Folder(path=str(tmp_path / "x"), longest=50)()
    assert [tuple(collection.pictures[row].shape) for row in range(2)] == [(3, 20, 50), (3, 9, 8)]


TABLE = """picture,group,role,box
a/0.png,a,query,1 2 9 8
a/1.png,a,indexed,
a/deep/2.png,a,both,
b/0.png,b,,
b/1.png,b,,
c/0.png,c,public,
loose.png,,,
"""


def test_a_table_gives_groups_roles_and_boxes(own: Path) -> None:
    (own / "groups.csv").write_text("\ufeff" + TABLE, encoding="utf-8")
    collection = Folder(path=str(own), table="groups.csv")()
    wants = found(collection)
    assert wants["a/0.png"] == (["a/1.png", "a/deep/2.png"], [])
    assert wants["a/deep/2.png"] == (["a/1.png"], ["a/deep/2.png"])
    assert len(wants) == 3
    assert dict(zip(names(collection, collection.queries), collection.boxes, strict=True))["a/0.png"] == (1, 2, 9, 8)
    assert "a/0.png" not in names(collection, collection.indexed)
    assert names(collection, collection.public) == ["c/0.png"]
    assert collection.public_classes == ("c",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("picture,group,role,box", "picture,role,box"), "no column group"),
        (("role,box", "rôle,box"), "did you mean 'role'"),
        (("c/0.png,c", "c/9.png,c"), "line 7 names 'c/9.png'"),
        (("c/0.png,c", "b/0.png,c"), "again"),
        (("c/0.png,c", "../own/c/0.png,c"), "outside"),
        (("public", "publik"), "did you mean 'public'"),
        (("1 2 9 8", "1 2 9"), "four numbers"),
        (("1 2 9 8", "1 2 90 8"), "does not lie in the 10 x 12 pixels"),
        (("1 2 9 8", "-4 2 9 8"), "does not lie"),
        (("1 2 9 8", "4 2 4 8"), "does not lie"),
        (("1 2 9 8", "1,2,9,8"), "more values"),
        (("query,1 2", "indexed,1 2"), "is no query"),
        (("loose.png,,,", "loose.png,,query,"), "without a group"),
        (("c/0.png,c,public", "c/0.png,c,query"), "cannot be a query"),
        ((TABLE[23:], ""), "names no picture"),
    ],
)
def test_bad_tables_are_refused(own: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in TABLE
    (own / "groups.csv").write_text(TABLE.replace(*change), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        Folder(path=str(own), table="groups.csv")()


def test_empty_folders_one_picture_and_absent_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        Folder(path=str(tmp_path / "empty"))()
    put(tmp_path / "one" / "a" / "0.png")
    with pytest.raises(DataError, match="nothing can be asked"):
        Folder(path=str(tmp_path / "one"))()
    with pytest.raises(DataError, match="there is no folder"):
        Folder(path=str(tmp_path / "none"))()
    with pytest.raises(DataError, match="cannot be read"):
        Folder(path=str(tmp_path / "one"), table="groups.csv")()


def test_a_broken_picture_is_named_when_it_is_read(own: Path) -> None:
    (own / "b" / "1.png").write_bytes(b"no picture")
    collection = Folder(path=str(own))()
    with pytest.raises(DataError, match=r"b/1\.png"):
        [collection.pictures[row] for row in range(len(collection.ids))]


def changes_with_content(make: Callable[[], str], file: Path) -> None:
    before = make()
    assert make() == before
    put(file, 99)
    assert make() != before


def test_fingerprints_follow_contents_and_roles(own: Path) -> None:
    (own / "groups.csv").write_text(TABLE)
    listed = Folder(path=str(own), table="groups.csv")
    before = listed.fingerprint()
    assert before != Folder(path=str(own)).fingerprint()
    (own / "groups.csv").write_text(TABLE.replace("1 2 9 8", "1 2 9 9"))
    assert listed.fingerprint() != before
    changes_with_content(lambda: Folder(path=str(own)).fingerprint(), own / "a" / "0.png")


def test_boxes_shrink_with_their_pictures(tmp_path: Path) -> None:
    put(tmp_path / "x.png", height=100, width=200)
    assert shrunk_box(tmp_path / "x.png", (20, 10, 120.4, 90), 100, name="x") == (10, 5, 60, 45)
    assert shrunk_box(tmp_path / "x.png", (-0.5, 0, 200.7, 100), 50, name="x") == (0, 0, 50, 25)
    put(tmp_path / "long.png", height=9, width=3000)
    assert shrunk_box(tmp_path / "long.png", (300, 0, 1500, 9), 100, name="long") == (10, 0, 50, 1)
    corner = shrunk_box(tmp_path / "x.png", (198, 98, 200, 100), 20, name="x")
    picture = torch.zeros(3, *reversed(shrunk_size((200, 100), 20)), dtype=torch.uint8)
    assert cropped(picture, corner).shape == (3, 1, 1)


# Oxford and Paris.


@pytest.fixture
def oxford(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "oxford5k"
    for seed, name in enumerate(["all_souls_000013", "all_souls_000026", "x_1", "x_2", "deeper/x_3", "radcliffe_7"]):
        put(folder / f"{name}.png", seed, 60, 80)
    truth = folder / "gt"
    truth.mkdir()
    (truth / "all_souls_1_query.txt").write_text("oxc1_all_souls_000013 20 10 60 50.5")
    (truth / "all_souls_1_good.txt").write_text("all_souls_000013\nall_souls_000026\n")
    (truth / "all_souls_1_ok.txt").write_text("x_3\n")
    (truth / "all_souls_1_junk.txt").write_text("x_2\n")
    answer = {"bbx": [0.0, 0.0, 40.0, 30.0], "easy": [1], "hard": [2], "junk": [0]}
    content = {"imlist": ["x_1", "x_2", "x_3"], "qimlist": ["radcliffe_7"], "gnd": [answer]}
    (folder / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(content))
    return tmp_path / "data"


def test_the_original_protocol_from_text(oxford: Path) -> None:
    collection = Oxford(truth="gt", longest=40)(root=oxford)
    assert found(collection) == {"all_souls_000013": (["all_souls_000013", "all_souls_000026", "x_3"], ["x_2"])}
    assert sorted(names(collection, collection.indexed)) == sorted(collection.ids)
    assert len(collection.ids) == 6
    assert collection.boxes == ((10, 5, 30, 25),)
    assert cropped(collection.pictures[int(collection.queries[0])], collection.boxes[0]).shape == (3, 20, 20)


def test_whole_photos_may_be_asked_about(oxford: Path) -> None:
    assert Oxford(truth="gt", whole=True)(root=oxford).boxes == (None,)


@pytest.mark.parametrize("make", [Oxford, lambda **s: Paris(path="oxford5k", truth="gnd_roxford5k.pkl", **s)])
def test_the_revisited_protocols_from_a_pickle(oxford: Path, make: Any) -> None:
    collection = make()(root=oxford)
    assert names(collection, collection.indexed) == ["x_1", "x_2", "x_3"]
    assert {protocol: found(collection, protocol)["radcliffe_7"] for protocol in collection.wanted} == {
        "easy": (["x_2"], ["x_1", "x_3"]),
        "medium": (["x_2", "x_3"], ["x_1"]),
        "hard": (["x_3"], ["x_1", "x_2"]),
    }
    assert len(collection.ids) == 4
    assert judged_by(collection)[0] == "medium"
    changes_with_content(lambda: make().fingerprint(root=oxford), oxford / "oxford5k" / "x_1.png")


def test_other_photos_may_be_the_public_s(oxford: Path) -> None:
    for seed, name in enumerate(["louvre/a.png", "louvre/b.png", "eiffel/c.png", "d.png"]):
        put(oxford / "paris" / name, 50 + seed)
    collection = Oxford(public="paris")(root=oxford)
    shown = [collection.public_classes[label] for label in collection.public_labels.tolist()]
    assert list(zip(names(collection, collection.public), shown, strict=True)) == [
        ("public/d.png", "public"),
        ("public/eiffel/c.png", "eiffel"),
        ("public/louvre/a.png", "louvre"),
        ("public/louvre/b.png", "louvre"),
    ]
    put(oxford / "paris" / "x_1.png")
    with pytest.raises(DataError, match="public and a photo that is searched"):
        Oxford(public="paris")(root=oxford)


def test_photos_can_be_left_out_but_no_query(oxford: Path) -> None:
    collection = Oxford(truth="gt", leave_out=("x_3", "x_1"))(root=oxford)
    assert found(collection)["all_souls_000013"][0] == ["all_souls_000013", "all_souls_000026"]
    assert not {"x_3", "x_1"} & set(collection.ids)
    with pytest.raises(DataError, match="is a query"):
        Oxford(truth="gt", leave_out=("all_souls_000013",))(root=oxford)
    with pytest.raises(DataError, match="leave_out names 'x_9'"):
        Oxford(truth="gt", leave_out=("x_9",))(root=oxford)


def test_what_does_not_fit_oxford_is_refused(oxford: Path) -> None:
    with pytest.raises(DataError, match="no ground truth"):
        Oxford(truth="gnd.pkl")(root=oxford)
    with pytest.raises(DataError, match="there is no folder"):
        Paris()(root=oxford)
    (oxford / "oxford5k" / "gt" / "all_souls_1_query.txt").write_text("oxc1_all_souls_000013 20 10 90 50")
    with pytest.raises(DataError, match="all_souls_1: the box"):
        Oxford(truth="gt")(root=oxford)
    (oxford / "oxford5k" / "deeper" / "x_3.png").unlink()
    for truth in ("gt", "gnd_roxford5k.pkl"):
        with pytest.raises(DataError, match="not there: x_3"):
            Oxford(truth=truth)(root=oxford)
    put(oxford / "oxford5k" / "other" / "x_2.png")
    with pytest.raises(DataError, match="same name"):
        Oxford()(root=oxford)


# Groceries and landmarks, made up in their layout, and the real ones.


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "grocery"
    rows = ["Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic,Description"]
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for kind in range(6):
        put(folder / "iconic" / f"{kind}_Iconic.png", kind, 20, 20)
        rows.append(f"Kind-{kind},{kind},Fruit,0,/iconic/{kind}_Iconic.png,/iconic/{kind}.txt")
        for part, count in (("train", 2), ("test", 3)):
            for i in range(count):
                put(folder / part / f"{kind}-{i}.png", 10 * kind + i, 20, 26)
                lists[part].append(f"{part}/{kind}-{i}.png, {kind}, 0")
    (folder / "classes.csv").write_text("\n".join(rows))
    for part, lines in lists.items():
        (folder / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def kind_of(name: str) -> int:
    return int(Path(name).name[0])


def test_a_product_s_picture_finds_its_photos_and_the_public_s_classes_are_others(shop: Path) -> None:
    collection = Grocery(side=16)(root=shop)
    assert len(collection.queries) == 3
    for query, (positive, _) in found(collection).items():
        assert query.startswith("iconic")
        assert len(positive) == 5
        assert {kind_of(name) for name in positive} == {kind_of(query)}
    searched = {kind_of(name) for name in names(collection, collection.indexed)}
    public = {kind_of(name) for name in names(collection, collection.public)}
    assert (len(searched), len(public), searched & public) == (3, 3, set())
    assert len(collection.public) == 3 * 6
    shown = [int(collection.public_classes[label][5:]) for label in collection.public_labels.tolist()]
    assert shown == [kind_of(name) for name in names(collection, collection.public)]
    assert tuple(collection.pictures[0].shape) == (3, 16, 16)


def test_test_photos_find_training_photos(shop: Path) -> None:
    collection = Grocery(side=16, queries="test", per_class=2, public_share=0.0)(root=shop)
    assert len(collection.queries) == 12
    for query, (positive, _) in found(collection).items():
        assert query.startswith("test/")
        assert sorted(positive) == [f"train/{kind_of(query)}-{i}.png" for i in range(2)]
    assert all(name.startswith("train/") for name in names(collection, collection.indexed))
    assert len(collection.public) == 0


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("classes.csv", "Class\n", "names no class"),
        ("classes.csv", "h\nA,1,F,0,/x.png,y\n", "has the number 1"),
        ("classes.csv", "h\nA,0\n", "table of classes"),
        ("classes.csv", "h\nA,0,F,0,../../x.png,y\n", "outside"),
        ("train.txt", "train/0-0.png, 6, 0\n", "has the class 6"),
        ("train.txt", "train/0-0.png 6 0\n", "lines of path"),
        ("test.txt", "test/none.png, 1, 0\n", "none.png"),
    ],
)
def test_a_broken_shop_is_refused(shop: Path, file: str, text: str, message: str) -> None:
    (shop / "grocery" / file).write_text(text)
    with pytest.raises(DataError, match=message):
        Grocery(side=16)(root=shop)


def test_landmarks_find_the_other_views(tmp_path: Path) -> None:
    folder = tmp_path / "landmarks_small"
    lines = ["file,scene"]
    for i in range(6):
        put(folder / "boofcv_scene" / f"{i}.png", i, 40, 60)
        lines.append(f"boofcv_scene/{i}.png,{i // 3}")
    put(folder / "boofcv_vacation" / "0.png", 20)
    put(folder / "vpr_toy" / "q" / "0.png", 21)
    (folder / "groups.csv").write_text("\n".join(lines))
    collection = Landmarks(longest=30)(root=tmp_path)
    assert found(collection)["boofcv_scene/4.png"] == (
        ["boofcv_scene/3.png", "boofcv_scene/5.png"],
        ["boofcv_scene/4.png"],
    )
    assert (len(collection.queries), len(collection.indexed)) == (6, 7)
    assert names(collection, collection.public) == ["vpr_toy/q/0.png"]
    assert "eight scenes" in collection.warning
    assert tuple(collection.pictures[0].shape) == (3, 20, 30)
    first = Landmarks(queries="first")(root=tmp_path)
    assert names(first, first.queries) == ["boofcv_scene/0.png", "boofcv_scene/3.png"]
    changes_with_content(lambda: Landmarks().fingerprint(root=tmp_path), folder / "vpr_toy" / "q" / "0.png")
    (folder / "boofcv_scene" / "5.png").unlink()
    with pytest.raises(DataError, match=r"names boofcv_scene/5\.png"):
        Landmarks()(root=tmp_path)


def test_groceries_can_teach_the_backbones_that_search_landmarks(shop: Path) -> None:
    folder = shop / "landmarks_small"
    for i in range(3):
        put(folder / "boofcv_scene" / f"{i}.png", i, 40, 60)
    put(folder / "vpr_toy" / "q" / "0.png", 21)
    (folder / "groups.csv").write_text("file,scene\n" + "".join(f"boofcv_scene/{i}.png,0\n" for i in range(3)))
    collection = Landmarks(longest=30, public="groceries")(root=shop)
    assert len(collection.indexed) == 3
    shown = names(collection, collection.public)
    assert len(shown) == 6 * 5
    assert not [name for name in shown if "iconic" in name.lower() or "vpr" in name]
    assert collection.public_labels.tolist() == [kind_of(name) for name in shown]
    assert collection.public_classes == tuple(f"Kind-{kind}" for kind in range(6))
    changes_with_content(
        lambda: Landmarks(public="groceries").fingerprint(root=shop), shop / "grocery" / "train" / "0-0.png"
    )


@pytest.mark.parametrize("make", [Grocery, Landmarks])
def test_absent_data_say_what_is_needed(make: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="set COUNTERMOVE_DATA"):
        make()(root=tmp_path)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Grocery(queries="shelf"),  # type: ignore[arg-type]
        lambda: Grocery(side=4),
        lambda: Grocery(public_share=1.0),
        lambda: Grocery(per_class=0),
        lambda: Landmarks(queries="each"),  # type: ignore[arg-type]
        lambda: Landmarks(longest=7),
        lambda: Landmarks(public="streetz"),  # type: ignore[arg-type]
        lambda: Folder(path="x", longest=5000),
        lambda: Folder(path="x", public_share=-0.1),
        lambda: Oxford(longest=0),
    ],
)
def test_settings_of_collections_are_checked(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


@pytest.mark.data
def test_the_real_groceries(data_root: Path) -> None:
    if not (data_root / "grocery").is_dir():
        pytest.skip(f"needs {data_root / 'grocery'}")
    collection = Grocery(side=48)(root=data_root)
    assert (len(collection.queries), len(collection.indexed), len(collection.public)) == (41, 697, 720)
    chance = evaluate(torch.zeros(41, 697), collection.wanted[""], collection.indexed).mean_ap
    assert mean_ap(collection, GlobalFeatures()) > 2 * chance


@pytest.mark.data
def test_the_real_landmarks(data_root: Path) -> None:
    if not (data_root / "landmarks_small").is_dir():
        pytest.skip(f"needs {data_root / 'landmarks_small'}")
    collection = Landmarks(longest=160)(root=data_root)
    assert (len(collection.queries), len(collection.indexed), len(collection.public)) == (24, 172, 22)
    assert mean_ap(collection, GlobalFeatures()) > 0.5


def test_gray_pictures_and_panoramas_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "odd" / "a"
    folder.mkdir(parents=True)
    Image.fromarray(np.full((8, 8), 77, dtype=np.uint8)).save(folder / "gray.png")
    put(folder / "wide.png", height=9, width=3000)
    collection = Folder(path=str(tmp_path / "odd"), longest=100)()
    assert collection.pictures[0].unique().tolist() == [77]
    assert tuple(collection.pictures[1].shape) == (3, 1, 100)
    assert mean_ap(collection, GlobalFeatures()) == 1
