"""Splitting interactions, and the shops: planted, one's own files, MovieLens."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tests import hostile

from countermove.errors import ConfigError, DataError
from countermove.game.methods import Methods
from countermove.pixels.randomness import generator
from countermove.recommender.data import DATA
from countermove.recommender.data.files import ShopFiles
from countermove.recommender.data.movielens import MovielensPosters
from countermove.recommender.data.planted import Planted
from countermove.recommender.shop import Log, Shop, open_shop

# Splitting, against a slow loop.

ITEMS: tuple[str, ...] = ("7", "07", "7.0", "é", "a shoe", "b")
Row = tuple[str, str, int]


def split_up(rows: list[Row], **settings: Any) -> Shop:
    log = Log(users=[row[0] for row in rows], items=[row[1] for row in rows], times=[row[2] for row in rows])
    pictures = torch.zeros(len(ITEMS), 3, 8, 8, dtype=torch.uint8)
    return open_shop("x", log, ITEMS, pictures, split_seed=0, **settings)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Row], dict[str, Any]]:
    """Rows, and settings with which they can be split."""
    cold, cold_from = draw(st.integers(1, 3)), draw(st.sampled_from(["untouched", "any"]))
    touchable = draw(st.permutations(ITEMS))[cold if cold_from == "untouched" else 0 :]
    row = st.tuples(st.sampled_from(["u", "v", "10", "9"]), st.sampled_from(touchable), st.integers(-2, 2))
    rows = draw(st.lists(row, min_size=1, max_size=40))
    return rows, {"cold": cold, "cold_from": cold_from, "split": draw(st.sampled_from(["last", "random"]))}


def opened(rows: list[Row], settings: dict[str, Any]) -> Shop:
    """Open a shop, or pass over rows that are all of items that happened to become cold."""
    try:
        return split_up(rows, **settings)
    except DataError as error:
        assert settings["cold_from"] == "any"
        assume("no interaction is left" not in str(error))
        raise


def of_users(shop: Shop) -> dict[str, tuple[list[str], str | None, str | None]]:
    """Return each user's train, validation and test items by name."""

    def name(item: int) -> str | None:
        return shop.items[item] if item >= 0 else None

    found = {}
    for u, user in enumerate(shop.users):
        train = [shop.items[i] for i in shop.train[shop.train[:, 0] == u, 1].tolist()]
        found[user] = (train, name(int(shop.validation[u])), name(int(shop.test[u])))
    return found


@given(cases())
def test_every_pair_is_in_one_part_and_cold_items_in_none(case: tuple[list[Row], dict[str, Any]]) -> None:
    rows, settings = case
    shop = opened(rows, settings)
    cold = {shop.items[i] for i in shop.cold.tolist()}
    assert len(cold) == settings["cold"] == len(shop.cold)
    if settings["cold_from"] == "untouched":
        assert not cold & {row[1] for row in rows}
    pairs = {(user, item) for user, item, _ in rows if item not in cold}
    parts = of_users(shop)
    assert set(parts) == {user for user, _ in pairs}
    for user, (train, validation, test) in parts.items():
        held = [item for item in (validation, test) if item is not None]
        assert sorted([*train, *held]) == sorted(item for u, item in pairs if u == user)
        mine = len(train) + len(held)
        assert len(held) == (0 if mine == 1 else 1 if mine == 2 else 2)
        assert (test is None) == (mine == 1)
    assert shop.train.tolist() == sorted(shop.train.tolist())
    assert shop.popularity.sum() == len(shop.train)
    assert shop.popularity[shop.cold].sum() == 0


@given(cases())
def test_the_last_by_time_are_held_out_and_doubles_count_at_their_last_time(
    case: tuple[list[Row], dict[str, Any]],
) -> None:
    rows, settings = case
    shop = opened(rows, {**settings, "split": "last"})
    cold = {shop.items[i] for i in shop.cold.tolist()}
    last: dict[tuple[str, str], int] = {}
    for user, item, when in rows:
        last[user, item] = max(when, last.get((user, item), when))
    for user, (train, validation, test) in of_users(shop).items():
        mine = [(when, ITEMS.index(item), item) for (u, item), when in last.items() if u == user and item not in cold]
        order = [item for _, _, item in sorted(mine)]
        assert test == (order[-1] if len(order) > 1 else None)
        assert validation == (order[-2] if len(order) > 2 else None)
        assert set(train) == set(order[: max(1, len(order) - 2)])
    kept = {pair for pair in last if pair[1] not in cold}
    assert shop.statistics["duplicate rows"] == len(rows) - len(last)
    assert shop.statistics["interactions of cold items"] == len(last) - len(kept)
    assert shop.statistics["interactions"] == len(kept)
    assert shop.statistics["users left without an interaction"] == len({u for u, _ in last} - {u for u, _ in kept})


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(case: tuple[list[Row], dict[str, Any]], source: Any) -> None:
    rows, settings = case
    shop = opened(rows, settings)
    shuffled = list(rows)
    source.shuffle(shuffled)
    again = split_up(shuffled, **settings)
    assert again.users == shop.users
    for part in ("train", "validation", "test", "cold"):
        assert torch.equal(getattr(shop, part), getattr(again, part)), part
    assert again.statistics == shop.statistics


def test_another_split_seed_sets_others_apart() -> None:
    log = Log(users=["u"] * 4, items=["0", "1", "2", "3"])
    pictures = torch.zeros(40, 3, 8, 8, dtype=torch.uint8)
    items = [str(i) for i in range(40)]

    def cold(seed: int) -> list[int]:
        shop = open_shop("x", log, items, pictures, cold=5, cold_from="untouched", split="random", split_seed=seed)
        return shop.cold.tolist()

    assert cold(0) == cold(0)
    assert len({tuple(cold(seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("items", "log", "settings", "message"),
    [
        ("aab", Log(users=["u"], items=["a"]), {}, "two items have the same id"),
        ("abc", Log(users=["u", "u"], items=["a", "z"]), {}, "1 items were touched but have no picture, such as 'z'"),
        (
            "abc",
            Log(users=["u"], items=["a"]),
            {"split": "last"},
            "have no times, so none is the last; give split=",
        ),
        ("abc", Log(users=["u"], items=["a"]), {"cold": 0}, "cold = 0 is refused"),
        (
            "abc",
            Log(users=["u"], items=["a"]),
            {"cold": 3},
            "3 cold items were asked for; 2 were touched by nobody; cold",
        ),
        ("abc", Log(users=[], items=[]), {}, "no interaction is left"),
    ],
)
def test_refuses_what_cannot_be_split(items: str, log: Log, settings: dict[str, Any], message: str) -> None:
    chosen: dict[str, Any] = {"cold": 1, "cold_from": "untouched", "split": "random", "split_seed": 0, **settings}
    with pytest.raises(DataError, match=message):
        open_shop("x", log, items, torch.zeros(len(items), 3, 8, 8, dtype=torch.uint8), **chosen)


# The registry.


def test_every_registered_shop_is_a_method() -> None:
    for name, target in DATA.items():
        module, _, attribute = target.partition(":")
        method = getattr(importlib.import_module(module), attribute)
        assert method.version >= 1, name
        assert method.__doc__.splitlines()[0].endswith("."), name
        sheet = Methods("recommender", {"data": DATA}).sheet("data", name)
        undocumented = [setting for setting, _, _ in sheet.fields if f"\n{setting}:" not in sheet.doc]
        assert not undocumented, name


def test_the_modules_of_shops_import_no_torch() -> None:
    modules = ", ".join(sorted({target.partition(":")[0] for target in DATA.values()}))
    code = (
        f"import sys, {modules}\nassert not {{'torch', 'pyarrow'}} & set(sys.modules), 'something heavy was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Planted tastes.


def test_planted_is_the_same_every_time_and_another_with_another_seed() -> None:
    one, same, other = Planted()(), Planted()(), Planted(seed=1)()
    for part in ("pictures", "train", "validation", "test", "cold", "category"):
        assert torch.equal(getattr(one, part), getattr(same, part)), part
    assert not torch.equal(one.pictures, other.pictures)
    assert not torch.equal(one.train, other.train)


def test_planted_has_the_sizes_asked_for() -> None:
    shop = Planted(users=30, items=50, cold=7, side=24, styles=3, touches=5)()
    assert (len(shop.users), shop.pictures.shape) == (30, (50, 3, 24, 24))
    assert shop.categories == ("style-0", "style-1", "style-2")
    assert shop.category.tolist() == [i % 3 for i in range(50)]
    assert len(shop.train) == 30 * (5 - 2)
    assert (shop.test >= 0).all()
    assert (shop.validation >= 0).all()
    assert len(shop.cold) == 7
    assert shop.users[3] == "user-03"
    assert shop.items[3] == "item-03"


def test_planted_new_items_are_untouched_and_set_apart() -> None:
    shop = Planted()()
    assert shop.cold.tolist() == list(range(100, 120)), "everything else was touched"
    held = torch.cat([shop.validation, shop.test])
    assert not shop.is_cold[held].any()
    assert not shop.is_cold[shop.train[:, 1]].any()


def test_planted_users_touch_what_they_like() -> None:
    method = Planted(noise=0.1)
    shop, tastes = method(), method.tastes()
    assert torch.allclose(tastes.sum(1), torch.ones(200, dtype=torch.float64))
    top = tastes.max(1).values
    two = top < 0.9
    assert 60 < two.sum() < 140
    assert torch.allclose(top[two], torch.tensor(0.9 * 2 / 3 + 0.025, dtype=torch.float64))
    touched = torch.zeros(200, 4)
    touched.index_put_((shop.train[:, 0], shop.category[shop.train[:, 1]]), torch.tensor(1.0), accumulate=True)
    assert (touched.argmax(1) == tastes.argmax(1)).float().mean() > 0.75
    liked = (touched * (tastes > 0.1)).sum(1) / touched.sum(1)
    assert liked.mean() > 0.75
    without = Planted(noise=0.0)
    strict = without()
    assert (without.tastes()[strict.train[:, 0], strict.category[strict.train[:, 1]]] > 0).all()


def test_planted_popularity_is_skewed_inside_a_style() -> None:
    shop = Planted(users=1000)()
    for k in range(4):
        counts = shop.popularity[shop.warm[shop.category[shop.warm] == k]].sort(descending=True).values
        assert counts[:5].sum() > 2 * counts[-5:].sum()


def test_planted_styles_can_be_seen() -> None:
    """Half of the items name the style of the other half by their mean colour."""
    shop = Planted(items=400, cold=20)()
    pixels = shop.pictures.float().flatten(2)
    away_from_gray = pixels - pixels.mean(1, keepdim=True)
    colour = away_from_gray.sum(2)
    colour = colour / colour.norm(dim=1, keepdim=True)
    known = torch.stack([colour[:200][shop.category[:200] == k].mean(0) for k in range(4)])
    assert ((colour[200:] @ known.T).argmax(1) == shop.category[200:]).float().mean() > 0.95


def test_planted_items_differ_and_do_not_depend_on_how_many_there_are() -> None:
    few, many = Planted()(), Planted(items=150, users=250)()
    assert torch.equal(few.pictures, many.pictures[:120])
    assert len({picture.numpy().tobytes() for picture in many.pictures}) == 150


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"users": 0}, "users = 0 is refused: it must be at least 1"),
        ({"cold": 0}, "cold = 0 is refused"),
        ({"styles": 1}, "styles = 1 is refused: it must be at least 2"),
        ({"touches": 2}, "touches = 2 is refused: it must be at least 3"),
        ({"noise": 1.5}, r"noise = 1\.5 is refused: a share lies in 0\.\.1"),
        ({"touches": 26}, "120 items, 20 of them cold, leave a style only 25"),
        ({"items": 10}, "leave a style only 0"),
        ({"side": 4}, "side = 4 is refused"),
    ],
)
def test_planted_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Planted(**settings)


def test_planted_smallest_shop_that_is_allowed() -> None:
    shop = Planted(users=1, items=7, cold=1, styles=2, touches=3, noise=0.0, side=8)()
    assert len(shop.train) == 1


# One's own files.

Rows = list[tuple[Any, ...]]
ROWS: Rows = [("ann", "a", 1), ("ann", "b", 2), ("ann", "c", 3), ("bob", "a", 5), ("bob", "b", 4), ("eve", "c", 0)]
COLUMNS = ("user", "item", "time")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Six interactions of three users with three of five items, the others untouched."""
    write_csv(tmp_path / "log.csv", ROWS)
    for seed, item in enumerate("abcde"):
        put(tmp_path / "pictures" / f"{item}.png", hostile.encoded(hostile.noise(seed=seed)))
    return tmp_path


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_csv(path: Path, rows: Rows, columns: tuple[str, ...] = COLUMNS) -> None:
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_parquet(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path)


def files(**settings: Any) -> ShopFiles:
    return ShopFiles(**{"interactions": "log.csv", "pictures": "pictures", "cold": 2, "side": 8, **settings})


def test_own_files_become_a_shop(own: Path) -> None:
    shop = files()(root=own)
    assert (shop.name, shop.users, shop.items) == ("log", ("ann", "bob", "eve"), tuple("abcde"))
    assert of_users(shop) == {"ann": (["a"], "b", "c"), "bob": (["b"], None, "a"), "eve": (["c"], None, None)}
    assert shop.cold.tolist() == [3, 4]
    for i in range(5):
        np.testing.assert_array_equal(shop.pictures[i].permute(1, 2, 0).numpy(), hostile.noise(seed=i))
    assert shop.statistics == {
        "users": 3, "items": 5, "interactions": 6, "duplicate rows": 0, "interactions of cold items": 0,
        "users left without an interaction": 0, "users without a test item": 1, "rows": 6,
        "rows of items without a picture": 0, "rows of items with a broken picture": 0, "items without a picture": 0,
        "items without a readable picture": 0, "broken pictures": 0, "further pictures": 0, "items nobody touched": 2,
    }  # fmt: skip
    assert shop.categories == ()
    assert shop.category.tolist() == [-1] * 5


def test_own_paths_are_taken_as_they_stand_first(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = files(interactions=str(own / "log.csv"), pictures=str(own / "pictures"))
    assert absolute().users == files()(root=own).users
    monkeypatch.chdir(own)
    assert files(interactions="./log.csv")(root=Path("/nowhere")).users == ("ann", "bob", "eve")
    with pytest.raises(DataError, match=r"there is no file .*/absent\.csv or /nowhere/absent\.csv; give interactions="):
        files(interactions="absent.csv")(root=Path("/nowhere"))
    with pytest.raises(DataError, match=r"there is no folder .*/absent"):
        files(pictures="absent")(root=own)


def test_own_columns_have_any_name_and_order(own: Path) -> None:
    renamed = [(when, "x", item, user) for user, item, when in ROWS]
    write_csv(own / "log.csv", renamed, ("timestamp", "stars", "article", "customer"))
    named = files(user_column="customer", item_column="article", time_column="timestamp")
    assert of_users(named(root=own)) == {
        "ann": (["a"], "b", "c"),
        "bob": (["b"], None, "a"),
        "eve": (["c"], None, None),
    }


def test_own_rows_without_times_are_split_at_random(own: Path) -> None:
    write_csv(own / "log.csv", [row[:2] for row in ROWS], COLUMNS[:2])
    shops = [files(split_seed=seed)(root=own) for seed in range(8)]
    assert len({of_users(shop)["ann"][2] for shop in shops}) > 1
    assert of_users(shops[0]) == of_users(files(split="random")(root=own))
    with pytest.raises(DataError, match=r"log\.csv has no column 'time': known: item, user\. Name yours with time_col"):
        files(split="last")(root=own)
    with pytest.raises(DataError, match="has no column 'when'"):
        files(time_column="when")(root=own)


def test_own_random_split_does_not_look_at_times(own: Path) -> None:
    write_csv(own / "log.csv", [(user, item, "yesterday") for user, item, _ in ROWS])
    assert len(files(split="random")(root=own).users) == 3


def test_own_doubles_are_counted_once(own: Path) -> None:
    write_csv(own / "log.csv", [*ROWS, ("ann", "a", 9), ("ann", "a", 0)])
    shop = files()(root=own)
    assert shop.statistics["duplicate rows"] == 2
    assert of_users(shop)["ann"] == (["b"], "c", "a")


def test_own_cold_items_can_be_touched_ones(own: Path) -> None:
    with pytest.raises(DataError, match=r"log: 3 cold items were asked for; 2 were touched by nobody; cold_from=any"):
        files(cold=3)(root=own)
    shop = files(cold=3, cold_from="any", split_seed=1)(root=own)
    assert len(shop.cold) == 3
    assert shop.statistics["interactions of cold items"] > 0


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.string(), pa.dictionary(pa.int8(), pa.string())])
def test_own_integers_are_the_same_ids_however_they_are_stored(own: Path, kind: pa.DataType) -> None:
    for seed, item in enumerate(("7", "8", "1234567", "-1")):
        put(own / "numbered" / f"{item}.png", hostile.encoded(hostile.noise(seed=seed)))
    item = pa.array(["7", "8", "1234567"]).cast(pa.string() if "string" in str(kind) else pa.int64()).cast(kind)
    write_parquet(own / "log.parquet", user=[1, 1, 2], item=item, time=[1, 2, 3])
    shop = files(interactions="log.parquet", pictures="numbered", cold=1)(root=own)
    assert shop.users == ("1", "2")
    assert of_users(shop) == {"1": (["7"], None, "8"), "2": (["1234567"], None, None)}
    assert shop.cold.tolist() == [shop.items.index("-1")]


def test_own_parquet_times_are_numbers_or_dates(own: Path) -> None:
    users, items = [row[0] for row in ROWS], [row[1] for row in ROWS]
    expected = of_users(files()(root=own))
    days = [datetime(2020, 1, 1 + row[2], tzinfo=UTC) for row in ROWS]
    for times in (
        [row[2] for row in ROWS],
        [float(row[2]) for row in ROWS],
        pa.array(days, pa.timestamp("ms", "UTC")),
        pa.array([day.date() for day in days], pa.date32()),
        pa.array([day.date() for day in days], pa.date64()),
    ):
        write_parquet(own / "log.parquet", user=users, item=items, time=times)
        assert of_users(files(interactions="log.parquet")(root=own)) == expected


def test_own_csv_says_ids_as_they_are_written(own: Path) -> None:
    text = '\ufeffuser,item,time\r\n" ann, the first ",a,1\r\n\r\nbob,"b",2\r\n'
    (own / "log.csv").write_bytes(text.encode())
    assert files()(root=own).users == (" ann, the first ", "bob")


def test_own_pictures_may_lie_in_folders(own: Path) -> None:
    put(own / "pictures" / "deep" / "er" / "f.1.webp", hostile.encoded(hostile.noise(9, 7), "WEBP"))
    put(own / "pictures" / "notes.txt", b"no picture")
    write_csv(own / "log.csv", [*ROWS, ("bob", "f.1", 9)])
    shop = files()(root=own)
    assert shop.items == (*"abcde", "f.1")
    assert of_users(shop)["bob"][2] == "f.1"


def folders(own: Path) -> None:
    """Give every item of `own` a folder, and b two pictures more."""
    for item in "abcde":
        (own / "views" / item).mkdir(parents=True)
        (own / "pictures" / f"{item}.png").rename(own / "views" / item / "front.png")
    for seed, name in ((11, "side.png"), (12, "top.png")):
        put(own / "views" / "b" / name, hostile.encoded(hostile.noise(seed=seed)))


def test_own_items_may_have_several_pictures(own: Path) -> None:
    folders(own)
    before = files(pictures="views", several=True).fingerprint(root=own)
    shop = files(pictures="views", several=True)(root=own)
    assert (shop.items, shop.shown.tolist()) == (tuple("abcde"), [1, 3, 1, 1, 1])
    for i in range(5):
        np.testing.assert_array_equal(shop.pictures[i].permute(1, 2, 0).numpy(), hostile.noise(seed=i))
    assert shop.further_of.tolist() == [1, 1]
    for row, seed in enumerate((11, 12)):
        np.testing.assert_array_equal(shop.further[row].permute(1, 2, 0).numpy(), hostile.noise(seed=seed))
    put(own / "views" / "b" / "side.png", b"\x89PNG\r\n\x1a\n")
    assert files(pictures="views", several=True).fingerprint(root=own) != before
    with pytest.raises(DataError, match=r"side\.png is broken"):
        files(pictures="views", several=True)(root=own)
    shop = files(pictures="views", several=True, on_broken="skip")(root=own)
    assert shop.shown.tolist() == [1, 2, 1, 1, 1]
    assert (shop.statistics["broken pictures"], shop.statistics["items without a readable picture"]) == (1, 0)
    put(own / "views" / "b" / "front.png", b"")
    shop = files(pictures="views", several=True, on_broken="skip")(root=own)
    np.testing.assert_array_equal(shop.pictures[1].permute(1, 2, 0).numpy(), hostile.noise(seed=12))


def test_own_several_pictures_lie_in_their_items_folder(own: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png lies in no item's folder"):
        files(several=True)(root=own)
    folders(own)
    put(own / "views" / "old" / "b" / "front.png", hostile.encoded(hostile.noise()))
    with pytest.raises(DataError, match=r"item 'b' has two folders"):
        files(pictures="views", several=True)(root=own)
    for name in ("detail", "old"):
        (own / "views" / "old" / "b").rename(own / "views" / "b" / name)
        with pytest.raises(DataError, match=rf"{name}.front\.png lies in a folder inside an item's"):
            files(pictures="views", several=True)(root=own)
        (own / "views" / "b" / name).rename(own / "views" / "old" / "b")
    with pytest.raises(DataError, match=r"item 'front' has two pictures"):
        files(pictures="views")(root=own)
    write_csv(own / "log.csv", [("ann", "z", 1)])
    (own / "views" / "old" / "b" / "front.png").unlink()
    with pytest.raises(DataError, match=r"pictures there are a/front\.png, b/front\.png"):
        files(pictures="views", several=True)(root=own)


def test_what_stands_for_an_item_is_the_mean_over_its_pictures() -> None:
    shop = Planted(users=20, items=60, cold=6, side=16, touches=5, views=3)()
    plain = Planted(users=20, items=60, cold=6, side=16, touches=5)()
    assert torch.equal(shop.pictures, plain.pictures)
    assert torch.equal(shop.train, plain.train)
    assert shop.shown.tolist() == [3] * 60

    def describe(pictures: torch.Tensor) -> torch.Tensor:
        return pictures.double().flatten(1)

    by_hand = [
        torch.stack([describe(p[None])[0] for p in (shop.pictures[i], *shop.further[shop.further_of == i])]).mean(0)
        for i in range(60)
    ]
    torch.testing.assert_close(shop.averaged(describe), torch.stack(by_hand))
    assert torch.equal(plain.averaged(describe), describe(plain.pictures))


def test_each_of_an_items_pictures_is_drawn_as_often() -> None:
    shop = Planted(users=20, items=60, cold=6, side=16, touches=5, views=3)()
    items, source = torch.full((3000,), 7), generator(0, "drawn")
    drawn = shop.drawn(items, source)
    theirs = [shop.pictures[7], *shop.further[shop.further_of == 7]]
    counts = [int((drawn == picture).flatten(1).all(1).sum()) for picture in theirs]
    assert sum(counts) == 3000
    assert all(abs(count - 1000) < 120 for count in counts)
    plain, state = Planted(users=20, items=60, cold=6, side=16, touches=5)(), source.get_state()
    assert torch.equal(plain.drawn(items[:5], source), plain.pictures[items[:5]])
    assert torch.equal(source.get_state(), state)


def test_further_pictures_must_fit() -> None:
    shop = Planted(users=20, items=60, cold=6, side=16, touches=5, views=2)()
    for changed in (
        {"further_of": shop.further_of[:-1]},
        {"further_of": shop.further_of.flip(0)},
        {"further": torch.zeros(60, 3, 8, 8, dtype=torch.uint8)},
    ):
        with pytest.raises(DataError, match="further pictures must"):
            replace(shop, **changed)


def test_own_items_without_a_picture_stop_or_are_skipped(own: Path) -> None:
    write_csv(own / "log.csv", [*ROWS, ("bob", "z", 9), ("zoe", "z", 9), ("zoe", "y", 9)])
    with pytest.raises(
        DataError, match=r"2 of 5 items have no picture in pictures, such as 'y'; pictures there are a\.png, b\.png, c"
    ):
        files()(root=own)
    shop = files(on_missing="skip")(root=own)
    assert of_users(shop) == of_users(files(on_missing="skip")(root=own))
    assert shop.users == ("ann", "bob", "eve")
    counted = {name: shop.statistics[name] for name in ("rows", "rows of items without a picture", "interactions")}
    assert counted == {"rows": 9, "rows of items without a picture": 3, "interactions": 6}
    assert shop.statistics["items without a picture"] == 2


def test_own_table_and_pictures_that_have_nothing_in_common(own: Path) -> None:
    write_csv(own / "log.csv", [("ann", f"{i}.0", i) for i in range(3)])
    with pytest.raises(DataError, match=r"3 of 3 items have no picture in pictures, such as '0\.0'"):
        files(on_missing="skip")(root=own)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89PNG\r\n\x1a\n", r"b\.png is broken or cut short"),
        (b"", r"b\.png is not a PNG, JPEG, WebP or BMP picture by its content: it is empty"),
        (hostile.huge_png(), r"b\.png claims 60000 x 60000 pixels"),
        (hostile.huge_jpeg(), r"b\.png claims 65535 x 65535 pixels"),
    ],
)
def test_own_broken_pictures_stop_or_are_skipped(own: Path, data: bytes, message: str) -> None:
    put(own / "pictures" / "b.png", data)
    with pytest.raises(DataError, match=message):
        files()(root=own)
    shop = files(on_broken="skip")(root=own)
    assert shop.items == ("a", "c", "d", "e")
    assert of_users(shop) == {"ann": (["a"], None, "c"), "bob": (["a"], None, None), "eve": (["c"], None, None)}
    assert shop.statistics["items without a readable picture"] == 1
    assert shop.statistics["rows of items with a broken picture"] == 2
    assert shop.statistics["rows of items without a picture"] == 0


def test_own_largest_picture_is_a_setting(own: Path) -> None:
    put(own / "pictures" / "b.png", hostile.encoded(hostile.noise(9, 9)))
    with pytest.raises(DataError, match="claims 9 x 9 pixels; at most 64 are decoded"):
        files(max_pixels=64)(root=own)


def test_own_item_with_two_pictures_is_refused(own: Path) -> None:
    put(own / "pictures" / "more" / "a.jpg", hostile.encoded(hostile.noise(), "JPEG"))
    for settings in ({}, {"on_broken": "skip", "on_missing": "skip"}):
        with pytest.raises(DataError, match=r"item 'a' has two pictures, .*a\.png and .*more/a\.jpg"):
            files(**settings)(root=own)


def test_own_folder_without_pictures_is_refused(own: Path) -> None:
    (own / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no pictures; expected them as ITEM\.png"):
        files(pictures="empty")(root=own)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'user': nothing is known there. Name yours with user_column"),
        ("usr,item,time\nann,a,1\n", "has no column 'user': did you mean 'usr'. Name yours with user_column"),
        ("user;item;time\nann;a;1\n", "has no column 'user': "),
        ("user,item,time\n", "names its columns but has no rows"),
        ("user,item,time\nann,a,1\nbob,,2\n", "line 3 has no 'item'; fill it in or leave the row out"),
        ("user,item,time\n,a,1\n", "line 2 has no 'user'"),
        ("user,item,time\nann,a,\n", "line 2 has no 'time'"),
        ("user,item,time\nann,a\n", "line 2 has 2 fields; the first line names 3"),
        ("user,item,time\nann,a,1,2\n", "line 2 has 4 fields"),
        ("user,item,time,item\nann,a,1,a\n", "several columns named 'item'"),
        ("user,item,time\nann,a,2020-01-01\n", "time = '2020-01-01' is refused: it must be a finite number"),
        ("user,item,time\nann,a,nan\n", "time = 'nan' is refused"),
        ("user,item,time\nann,a,-inf\n", "time = '-inf' is refused"),
        ('user,item,time\nann,"a,1\n', "cannot be read as CSV in UTF-8: unexpected end of data"),
        ("user,item,time\nann\0,a,1\n", "user = 'ann.x00' is refused"),
    ],
)
def test_own_csv_errors_name_the_line(own: Path, text: str, message: str) -> None:
    (own / "log.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        files()(root=own)


def test_own_csv_of_another_encoding_is_refused(own: Path) -> None:
    (own / "log.csv").write_bytes("user,item,time\nzoë,a,1\n".encode("latin1"))
    with pytest.raises(DataError, match=r"log\.csv cannot be read as CSV in UTF-8: .*can't decode"):
        files()(root=own)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user", pa.array(["ann", None]), "row 2 has no 'user'"),
        ("item", pa.array([7.0, None]), "row 2 has no 'item'"),
        ("item", pa.array([7.0, float("nan")]), "row 2 has no 'item'"),
        ("item", pa.array([7.0, 7.5]), r"row 2: item = 7\.5 is refused: it must be a text or an integer"),
        ("item", pa.array([7.0, 2.0**53]), "row 2: item = 9007199254740992.0 is refused.* below 2..53"),
        ("item", pa.array([7.0, float("inf")]), "row 2: item = inf is refused"),
        ("item", pa.array([True, False]), "row 1: item = True is refused"),
        ("user", pa.array([b"x", b"y"]), "row 1: user = b'x' is refused"),
        ("user", pa.array([["x"], ["y"]]), r"a column has a list<.*> in every row"),
        ("time", pa.array([1.0, float("nan")]), "row 2: time = nan is refused: it must be a finite number"),
        ("time", pa.array([1, None]), "row 2 has no 'time'"),
        ("time", pa.array([True, False]), "row 1: time = True is refused"),
        ("time", pa.array(["1", "noon"]), "row 2: time = 'noon' is refused"),
    ],
)
def test_own_parquet_errors_name_the_row(own: Path, column: str, values: pa.Array, message: str) -> None:
    columns: dict[str, Any] = {"user": ["ann", "bob"], "item": ["a", "b"], "time": [1, 2], column: values}
    write_parquet(own / "log.parquet", **columns)
    with pytest.raises(DataError, match=message):
        files(interactions="log.parquet")(root=own)


def test_own_parquet_that_is_none_or_lacks_columns(own: Path) -> None:
    put(own / "log.parquet", b"PAR1 no")
    with pytest.raises(DataError, match=r"log\.parquet cannot be read as Parquet"):
        files(interactions="log.parquet")(root=own)
    write_parquet(own / "log.parquet", user=["ann"], itm=["a"])
    with pytest.raises(DataError, match=r"has no column 'item': did you mean 'itm'\? Name yours with item_column"):
        files(interactions="log.parquet")(root=own)
    write_parquet(own / "log.parquet", user=pa.array([], pa.string()), item=pa.array([], pa.string()))
    with pytest.raises(DataError, match="names its columns but has no rows"):
        files(interactions="log.parquet")(root=own)


def test_own_categories_come_from_a_table_of_items(own: Path) -> None:
    write_csv(
        own / "items.csv", [("a", "shoe"), ("e", "bag"), ("b", ""), ("z", "hat"), ("a", "shoe")], ("item", "kind")
    )
    shop = files(items="items.csv", category_column="kind")(root=own)
    assert shop.categories == ("bag", "shoe")
    assert shop.category.tolist() == [1, -1, -1, -1, 0]
    with pytest.raises(DataError, match=r"has no column 'category'.* Name yours with category_column"):
        files(items="items.csv")(root=own)
    write_parquet(own / "items.parquet", item=["a", "b"], category=[3.0, float("nan")])
    shop = files(items="items.parquet")(root=own)
    assert shop.categories == ("3",)
    assert shop.category.tolist() == [0, -1, -1, -1, -1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "shoe"), ("a", "bag")], r"items\.csv, line 3 puts item 'a' into 'bag'; above it is in 'shoe'"),
        ([("", "shoe")], r"items\.csv, line 2 has no 'item'"),
        ([("a.png", "shoe")], "a category for none of the items with a picture; it names items such as 'a.png'"),
    ],
)
def test_own_table_of_items_is_refused(own: Path, rows: Rows, message: str) -> None:
    write_csv(own / "items.csv", rows, ("item", "category"))
    with pytest.raises(DataError, match=message):
        files(items="items.csv")(root=own)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interactions": "log.xlsx"}, r"interactions = 'log\.xlsx' is refused: a table ends in \.csv or \.parquet"),
        ({"items": "items"}, "items = 'items' is refused"),
        ({"cold": 0}, "cold = 0 is refused: it must be at least 1"),
        ({"max_pixels": 0}, "max_pixels = 0 is refused"),
        ({"side": 4}, "side = 4 is refused"),
        ({"user_column": "item"}, "must name three different columns"),
        ({"category_column": "item"}, "must name two different columns"),
    ],
)
def test_own_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        files(**settings)


def test_own_content_is_what_identifies_it(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERMOVE_CACHE", str(tmp_path / "cache"))
    write_csv(own / "items.csv", [("a", "shoe")], ("item", "category"))
    method = files(items="items.csv")
    before = method.fingerprint(root=own)
    assert replace(method, side=16).fingerprint(root=own) == before
    assert files().fingerprint(root=own) != before
    changes: list[Callable[[], None]] = [
        lambda: write_csv(own / "log.csv", ROWS[:-1]),
        lambda: write_csv(own / "items.csv", [("a", "bag")], ("item", "category")),
        lambda: put(own / "pictures" / "a.png", hostile.encoded(hostile.noise(seed=77))),
        lambda: put(own / "pictures" / "f.png", hostile.encoded(hostile.noise(seed=78))),
        lambda: (own / "pictures" / "e.png").unlink(),
    ]
    seen = {before}
    for change in changes:
        change()
        seen.add(method.fingerprint(root=own, rehash=True))
    assert len(seen) == 1 + len(changes)


def test_own_shop_is_built_from_its_spelling(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERMOVE_DATA", str(own))
    monkeypatch.setenv("COUNTERMOVE_CACHE", str(own / "cache"))
    methods = Methods("recommender", {"data": DATA})
    made = methods.compose("data", "shop(interactions=log.csv,pictures=pictures,cold=2,side=8,split=last)")
    assert made.method == files(split="last")
    assert "content" in made.identity()["parts"][0]
    assert methods.compose("data", "planted(noise=0)").method == Planted(noise=0)
    with pytest.raises(ConfigError, match="on_missing = 'ignore' is refused"):
        methods.compose("data", "shop(interactions=log.csv,pictures=pictures,on_missing=ignore)")


# MovieLens.


@pytest.mark.data
def test_movielens_is_what_it_says(data_root: Path) -> None:
    if not (data_root / "movielens100k_posters").is_dir():
        pytest.skip(f"needs movielens100k_posters in {data_root}")
    shop = MovielensPosters(side=16)(root=data_root)
    assert len(shop.users) == 943
    assert len(shop.cold) == 100
    assert shop.pictures.shape == (len(shop.items), 3, 16, 16)
    assert (shop.test >= 0).all()
    assert (shop.validation >= 0).all()
    dropped = shop.statistics["interactions of cold items"]
    assert shop.statistics["interactions"] == len(shop.train) + 2 * 943
    assert 0 < dropped < 20_000
    everything = torch.cat([shop.train[:, 1], shop.validation, shop.test])
    assert not shop.is_cold[everything].any()
    assert {"Drama", "Comedy"} <= set(shop.categories)
    assert (shop.category >= -1).all()
    assert shop.category.max() == len(shop.categories) - 1


def test_movielens_says_what_is_absent(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not hold interactions\.csv: put MovieLens with posters there"):
        MovielensPosters()(root=tmp_path)
    with pytest.raises(ConfigError, match="side = 4 is refused"):
        MovielensPosters(side=4)
