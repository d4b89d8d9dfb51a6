"""Profile sets: what a profile is made of, who stands in which split, what is refused; planted, real, one's own."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.linear_model import LogisticRegression
from tests import hostile

from countermove.errors import ConfigError, DataError
from countermove.game.methods import Methods
from countermove.profiles.data import DATA
from countermove.profiles.data.drafts import SPLITS, Draft, balanced, cut, split_drafts
from countermove.profiles.data.emodb import EmodbProfiles
from countermove.profiles.data.faces import FaceProfiles
from countermove.profiles.data.planted import PlantedProfiles
from countermove.profiles.data.posters import PosterProfiles
from countermove.profiles.data.themes import Themes
from countermove.profiles.dataset import Medium, Profiles

SETS = Methods("profiles", {"data": DATA})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERMOVE_CACHE", str(tmp_path / "cache"))


def same(a: Profiles, b: Profiles) -> bool:
    """Whether two sets agree in every part."""
    parts = ("items", "labels", "train", "validation", "test", "background", "kinds", "public", "public_labels")
    texts = ("ids", "owners", "profile_ids", "classes", "public_classes", "warning")
    return (
        all(torch.equal(getattr(a, part), getattr(b, part)) for part in parts)
        and all(getattr(a, text) == getattr(b, text) for text in texts)
        and all(torch.equal(x, y) for x, y in zip(a.bags, b.bags, strict=True))
    )


def owners_of(data: Profiles, split: str) -> set[str]:
    return {data.owners[row] for row in getattr(data, split).tolist()}


def per_value(data: Profiles, split: str) -> list[int]:
    return torch.bincount(data.labels[getattr(data, split)], minlength=len(data.classes)).tolist()


@pytest.mark.parametrize("name", DATA)
def test_every_set_has_a_sheet_that_explains_every_setting(name: str) -> None:
    sheet = SETS.sheet("data", name)
    assert len(sheet.summary) > 10
    for setting, _, _ in sheet.fields:
        assert f"\n{setting}:" in sheet.doc or f"{setting}, " in sheet.doc or f", {setting}:" in sheet.doc, setting


def needs(data_root: Path, folder: str) -> Path:
    if not (data_root / folder).is_dir():
        pytest.skip(f"needs {folder} in {data_root}")
    return data_root


# Splitting.


class Chosen:
    """The settings that splitting looks at."""

    def __init__(self, *, validation: float = 0.1, test: float = 0.4, split: str = "owners", split_seed: int = 0):
        self.validation, self.test, self.split, self.split_seed = validation, test, split, split_seed


def drafted(*counts: int, label: int = 0, prefix: str = "o") -> list[Draft]:
    """So many profiles of each of some owners."""
    return [
        Draft(owner=f"{prefix}{k}", label=label, items=(f"{prefix}{k}/{part}",), part=part)
        for k, count in enumerate(counts)
        for part in range(count)
    ]


@given(
    st.lists(st.integers(1, 4), min_size=3, max_size=30),
    st.lists(st.integers(1, 4), min_size=3, max_size=30),
    st.integers(0, 5),
)
def test_owners_stay_in_one_split_and_every_value_is_shared_out(ones: list[int], others: list[int], seed: int) -> None:
    drafts = drafted(*ones) + drafted(*others, label=1, prefix="p")
    split, warning = split_drafts(drafts, Chosen(split_seed=seed))
    assert warning == ""
    assert [replace(draft, split="") for draft in split] == drafts, "nothing but the split is changed"
    where: dict[str, set[str]] = {}
    for draft in split:
        where.setdefault(draft.owner, set()).add(draft.split)
    assert all(len(splits) == 1 for splits in where.values())
    for prefix, count in (("o", len(ones)), ("p", len(others))):
        mine = [next(iter(splits)) for owner, splits in where.items() if owner[0] == prefix]
        assert abs(mine.count("test") - 0.4 * count) <= 0.5
        assert mine.count("validation") == max(1, round(0.1 * count))
    turned, _ = split_drafts(drafts[::-1], Chosen(split_seed=seed))
    assert turned[::-1] == split, "the order in which profiles come changes nothing"


def test_nobody_is_validated_where_a_value_has_too_few_owners() -> None:
    split, _ = split_drafts(drafted(*[1] * 20) + drafted(1, 1, label=1, prefix="p"), Chosen())
    assert sorted({draft.split for draft in split}) == ["test", "train"]
    assert sorted(draft.split for draft in split if draft.label == 1) == ["test", "train"]
    assert sum(draft.split == "test" for draft in split) == 9


def test_another_split_seed_tests_others() -> None:
    drafts = drafted(*[1] * 10)
    tested = [
        frozenset(d.owner for d in split_drafts(drafts, Chosen(split_seed=seed))[0] if d.split == "test")
        for seed in range(5)
    ]
    assert len(set(tested)) > 1


def test_the_leaky_split_makes_every_profile_its_own_owner_and_warns() -> None:
    split, warning = split_drafts(drafted(3, 1, 4), Chosen(split="profiles"))
    assert [d.owner for d in split] == ["o0#0", "o0#1", "o0#2", "o1", "o2#0", "o2#1", "o2#2", "o2#3"]
    assert "2 of 3 owners" in warning
    assert "too high" in warning
    assert split_drafts(drafted(1, 1, 1), Chosen(split="profiles"))[1] == ""


@given(st.lists(st.integers(1, 5), min_size=3, max_size=12), st.lists(st.integers(1, 5), min_size=3, max_size=12))
def test_balancing_leaves_later_profiles_out_first(ones: list[int], others: list[int]) -> None:
    drafts, _ = split_drafts(drafted(*ones) + drafted(*others, label=1, prefix="p"), Chosen())
    kept = balanced(drafts, seed=0)
    for split in SPLITS:
        before = [[d for d in drafts if (d.split, d.label) == (split, label)] for label in (0, 1)]
        after = [[d for d in kept if (d.split, d.label) == (split, label)] for label in (0, 1)]
        present = [mine for mine in before if mine]
        if not present:
            continue
        assert [len(mine) for mine in after if mine] == [min(map(len, present))] * len(present)
        for mine, left in zip(before, after, strict=True):
            gone = [d.part for d in mine if d not in left]
            assert not gone or min(gone) >= max(d.part for d in left), "a first profile went before a later one"


def test_profiles_are_cut_from_either_end() -> None:
    assert cut("abcdefg", 3, None) == [("a", "b", "c"), ("d", "e", "f")]
    assert cut("abcdefg", 3, 1) == [("a", "b", "c")]
    assert cut("abcdefg", 3, None, newest=True) == [("e", "f", "g"), ("b", "c", "d")]
    assert cut("ab", 3, None) == []


# Planted.

PLANTED_SIZES: dict[str, Any] = {"profiles": 24, "background": 12, "public": 16, "samples": 400}


@pytest.mark.parametrize("medium", ["picture", "speech", "table"])
def test_planted_profiles_are_what_they_say(medium: Medium) -> None:
    data = PlantedProfiles(medium=medium, items=5, fewest=2, **PLANTED_SIZES)()
    assert data.medium == medium
    assert [per_value(data, split) for split in SPLITS] == [[6, 6], [1, 1], [5, 5]]
    lengths = data.lengths(torch.arange(24))
    assert set(lengths) == {2, 3, 4, 5}
    assert len(data.items) == sum(lengths) + 12 + 16
    assert data.kinds.tolist() == [0] * 5 + [1] * 5 + [0] * 2
    assert data.public_labels.bincount().tolist() == [4] * 4
    assert data.chance == 0.5
    assert (data.rate > 0) == (medium == "speech")
    assert len({item.numpy().tobytes() for item in data.items}) == len(data.items), "no item is there twice"


def test_planted_profiles_follow_the_seed() -> None:
    small = {"side": 8, **PLANTED_SIZES}
    before = torch.get_rng_state()
    first = PlantedProfiles(**small)()
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first, PlantedProfiles(**small)())
    assert not torch.equal(first.items, PlantedProfiles(**small, seed=1)().items)
    other = PlantedProfiles(**small, split_seed=1)()
    assert torch.equal(first.items, other.items)
    assert not torch.equal(first.test, other.test)
    more = PlantedProfiles(**{**small, "profiles": 48})()
    rows = [more.ids.index(name) for name in first.ids if name.startswith("owner")]
    assert torch.equal(more.items[rows], first.items[[first.ids.index(more.ids[row]) for row in rows]])


def seen(data: Profiles) -> np.ndarray:
    """A few features of every item: mean colours, loudness of tones, or the item itself."""
    items = data.items.double().numpy()
    if data.medium == "picture":
        return items.mean((2, 3))
    if data.medium == "table":
        return items
    spectrum = np.abs(np.fft.rfft(items)) ** 2
    edges = [round(hertz * items.shape[1] / data.rate) for hertz in (400, 700, 1150, 1700)]
    return np.log(np.stack([spectrum[:, a:b].sum(1) for a, b in pairwise(edges)], 1))


def by_pooling_and_by_vote(data: Profiles) -> tuple[float, float]:
    """Accuracy on test profiles of a linear model on means of items, and of the vote of one on items.

    Both see one number an item: how warm a linear model says it is that learned of the public items alone.
    """
    features = seen(data)
    features = (features - features.mean(0)) / features.std(0)
    public = LogisticRegression().fit(features[data.public], data.public_labels.numpy() // 2)
    warmth = public.decision_function(features)[:, None]
    labels = data.labels.numpy()
    train, test = data.train.tolist(), data.test.tolist()
    means = np.stack([warmth[bag].mean(0) for bag in data.bags])
    pooled = LogisticRegression(C=100).fit(means[train], labels[train])
    rows = torch.cat([data.bags[p] for p in train])
    whose = labels[train].repeat(data.lengths(data.train))
    items = LogisticRegression(C=100).fit(warmth[rows], whose)
    votes = np.array([items.predict(warmth[data.bags[p]]).mean() > 0.5 for p in test])
    return float((pooled.predict(means[test]) == labels[test]).mean()), float((votes == labels[test]).mean())


@pytest.mark.parametrize("medium", ["picture", "speech", "table"])
@pytest.mark.parametrize("evidence", ["spread", "concentrated"])
def test_planted_evidence_is_found_by_a_mean_and_by_a_vote_only_where_it_is_spread(
    medium: Medium, evidence: Literal["spread", "concentrated"]
) -> None:
    pooled, voted = by_pooling_and_by_vote(PlantedProfiles(medium=medium, evidence=evidence)())
    assert pooled > 0.9
    assert voted > 0.8 if evidence == "spread" else voted < 0.65


def test_no_evidence_no_attribute() -> None:
    pooled, _ = by_pooling_and_by_vote(PlantedProfiles(lean=0.0, profiles=400, test=0.5, items=4)())
    assert 0.4 < pooled < 0.6


def test_owners_have_a_style_that_tells_them_apart() -> None:
    """Otherwise nothing could leak in a split by profiles."""
    data = PlantedProfiles(medium="table", per_owner=2, items=8, **PLANTED_SIZES)()
    means = np.stack([seen(data)[bag].mean(0) for bag in data.bags])
    gaps = np.linalg.norm(means[:, None] - means[None], axis=-1)
    own = gaps[np.arange(0, 24, 2), np.arange(1, 24, 2)].mean()
    assert own < 0.8 * gaps[np.triu_indices(24, 1)].mean()


def test_a_planted_split_by_profiles_warns() -> None:
    leaky = PlantedProfiles(per_owner=3, split="profiles", **PLANTED_SIZES)()
    assert "8 of 8 owners have several profiles" in leaky.warning
    assert leaky.owners[:3] == leaky.profile_ids[:3] == ("owner-0000#0", "owner-0000#1", "owner-0000#2")
    whole = PlantedProfiles(per_owner=3, **PLANTED_SIZES)()
    assert whole.warning == ""
    assert not owners_of(whole, "train") & owners_of(whole, "test")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"profiles": 7}, "profiles = 7 is refused: it must be a multiple of twice per_owner"),
        ({"profiles": 6, "per_owner": 3}, "profiles = 6 is refused: .* at least four times that"),
        ({"items": 0}, "items = 0 is refused: it must be at least 1"),
        ({"items": 3, "fewest": 4}, "fewest = 4 is refused: items = 3 is less"),
        ({"share": 0.0}, "share = 0 is refused"),
        ({"mark": float("nan")}, "finite"),
        ({"test": 1.0}, "test = 1 is refused: it lies between 0 and 1"),
        ({"test": 0.6, "validation": 0.4}, "validation = 0.4 is refused"),
        ({"medium": "smell"}, "it is picture, speech or table"),
        ({"evidence": "none"}, "it is spread or concentrated"),
        ({"split": "items"}, "split = 'items' is refused"),
        ({"side": 7}, "side = 7 is refused"),
    ],
)
def test_planted_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"planted-profiles: {message}|{message}"):
        PlantedProfiles(**settings)


# Themes.

KINDS = ("Apple", "Banana", "Juice", "Kiwi")
SMALL: dict[str, Any] = {"profiles": 16, "items": 5, "background": 12}


@pytest.fixture
def groceries(tmp_path: Path) -> Path:
    """Two sheets of 200 tiles, four kinds in turn; a tile's colours say its kind, its number and its sheet."""
    for part in ("train", "test"):
        tiles = np.zeros((256, 48, 48, 3), dtype=np.uint8)
        lines = ["index,source_path,fine_id,fine_name,coarse_id,coarse_name"]
        for i in range(200):
            tiles[i, ..., 0], tiles[i, ..., 1], tiles[i, ..., 2] = i % 4 * 60, i, 200 * (part == "test")
            lines.append(f"{i},{part}/{KINDS[i % 4]}/{i:03d}.jpg,0,x,{i % 4},{KINDS[i % 4]}")
        (tmp_path / "grocery48").mkdir(exist_ok=True)
        sheet = tiles.reshape(4, 64, 48, 48, 3).swapaxes(1, 2).reshape(4 * 48, 64 * 48, 3)
        Image.fromarray(sheet).save(tmp_path / "grocery48" / f"{part}.png")
        (tmp_path / "grocery48" / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def kind_of(data: Profiles, row: int) -> str:
    return data.ids[row].split("/")[1]


def test_themes_are_collected_from_the_source_without_any_picture_twice(groceries: Path) -> None:
    data = Themes(**SMALL)(root=groceries)
    inside = torch.cat(data.bags).tolist()
    assert len(set(inside)) == 16 * 5
    assert not set(data.background.tolist()) & set(data.public.tolist())
    assert len(data.items) == 80 + 12 + 120
    assert data.public_classes == KINDS
    assert data.public_labels.bincount().tolist() == [30] * 4
    for row, label in zip(data.public.tolist(), data.public_labels.tolist(), strict=True):
        assert kind_of(data, row) == KINDS[label]
    for row, name in enumerate(data.ids):
        part, kind, number = name.removesuffix(".jpg").split("/")
        expected = [KINDS.index(kind) * 60, int(number), 200 * (part == "test")]
        assert data.items[row, :, 20, 30].tolist() == expected, "every tile goes with its own name"
    assert [per_value(data, split) for split in SPLITS] == [[5, 5], [1, 1], [2, 2]]
    assert same(data, Themes(**SMALL)(root=groceries))
    assert not same(data, Themes(**SMALL, seed=1)(root=groceries))


def shares_of_the_theme(data: Profiles, theme: tuple[str, ...]) -> list[float]:
    """The part of items that show the theme, for either value."""
    return [
        float(
            np.mean(
                [
                    kind_of(data, row) in theme
                    for bag, k in zip(data.bags, data.labels, strict=True)
                    if k == label
                    for row in bag.tolist()
                ]
            )
        )
        for label in (0, 1)
    ]


def test_spread_and_concentrated_themes_are_as_likely_as_they_say(groceries: Path) -> None:
    many: dict[str, Any] = {"profiles": 40, "items": 5, "background": 0, "public": 0.1}
    spread = Themes(theme="Apple+Kiwi", tilt=0.3, **many)(root=groceries)
    assert shares_of_the_theme(spread, ("Apple", "Kiwi")) == pytest.approx([0.2, 0.8], abs=0.12)
    rare = Themes(theme="Juice", evidence="concentrated", **many)(root=groceries)
    assert shares_of_the_theme(rare, ("Juice",)) == pytest.approx([0.05, 0.4], abs=0.12)
    others = [[kind_of(rare, row) for row in bag.tolist()] for bag in rare.bags]
    assert 0.2 < np.mean([kind == "Apple" for kinds in others for kind in kinds if kind != "Juice"]) < 0.47


def test_background_comes_from_both_kinds_of_users(groceries: Path) -> None:
    data = Themes(theme="Apple+Kiwi", tilt=0.5, **SMALL)(root=groceries)
    assert data.kinds.tolist() == [0] * 5 + [1] * 5 + [0] * 2
    for row, kind in zip(data.background.tolist(), data.kinds.tolist(), strict=True):
        assert (kind_of(data, row) in ("Apple", "Kiwi")) == bool(kind)


def test_too_few_pictures_are_refused(groceries: Path) -> None:
    with pytest.raises(
        DataError, match=r"too few pictures of the theme .* Lower profiles, items, background or public"
    ):
        Themes(theme="Apple", tilt=0.4, public=0.8, **SMALL)(root=groceries)


def test_themes_of_cifar(tmp_path: Path) -> None:
    file: dict[str, Any] = {"class_names": np.array([f"class {k}" for k in range(10)])}
    for part, count in (("train", 200), ("test", 40)):
        file[f"x_{part}"] = (
            np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(32, 1).repeat(32, 2).repeat(3, 3)
        )
        file[f"y_{part}"] = (np.arange(count) % 10).astype(np.uint8)
        file[f"{part}_index"] = np.arange(count, dtype=np.int32) * 7
    (tmp_path / "cifar10_lossless").mkdir()
    np.savez(tmp_path / "cifar10_lossless" / "cifar10_lossless.npz", **file)
    data = Themes(source="cifar10", **SMALL)(root=tmp_path)
    assert data.items.shape == (80 + 12 + 70, 3, 32, 32)
    assert len(data.public_classes) == 10
    for row, name in enumerate(data.ids):
        assert int(data.items[row, 0, 0, 0]) * 7 == int(name.split("/")[1])


def test_themes_notice_changed_pictures_and_missing_ones(groceries: Path) -> None:
    before = Themes().fingerprint(root=groceries)
    assert before == Themes(tilt=0.1).fingerprint(root=groceries)
    table = groceries / "grocery48" / "train.csv"
    table.write_text(table.read_text().replace("Kiwi", "Kiwis"))
    assert Themes().fingerprint(root=groceries, rehash=True) != before
    table.unlink()
    with pytest.raises(DataError, match=r"train\.csv is not there; set COUNTERMOVE_DATA"):
        Themes()(root=groceries)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "imagenet"}, "it is grocery48 or cifar10"),
        ({"profiles": 9}, "half of them have each value"),
        ({"tilt": 0.6}, "tilt = 0.6 is refused"),
        ({"share": 0.1, "base": 0.2}, "0 <= base <= share <= 1"),
        ({"public": 1.0}, "public = 1 is refused"),
        ({"items": 0}, "items = 0 is refused"),
    ],
)
def test_theme_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"themes: .*{message}"):
        Themes(**settings)


def test_an_unknown_theme_is_refused(groceries: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'Apple'"):
        Themes(theme="Aple", **SMALL)(root=groceries)


@pytest.mark.data
@pytest.mark.parametrize("evidence", ["spread", "concentrated"])
@pytest.mark.parametrize(("source", "folder"), [("grocery48", "grocery48"), ("cifar10", "cifar10_lossless")])
def test_real_themes_have_enough_pictures(data_root: Path, source: Any, folder: str, evidence: Any) -> None:
    data = Themes(source=source, evidence=evidence, seed=1)(root=needs(data_root, folder))
    assert [per_value(data, split) for split in SPLITS] == [[90, 90], [15, 15], [45, 45]]
    assert len(torch.cat(data.bags).unique()) == 3000


# Faces.


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """As in lfw_min10: nine people in one folder, five in the other, seven in none; 4 to 9 photos of each."""
    lines = ["identity,gender_folder_in_baileyfriend_repo"]
    for k in range(21):
        person, filed = f"P_{k:02d}", "male" if k < 9 else "female" if k < 14 else ""
        lines.append(f"{person},{filed}")
        for i in range(4 + k % 6):
            photo = hostile.encoded(hostile.noise(seed=100 * k + i))
            put(tmp_path / "lfw_min10" / "images" / person / f"{person}_{i:04d}.jpg", photo)
    (tmp_path / "lfw_min10" / "identities.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


SMALL_FACES: dict[str, Any] = {"items": 2, "per_person": 3, "side": 8, "crop": 8}


def person_of(name: str) -> str:
    return name.split("/")[0]


def test_face_profiles_are_photos_of_one_person(people: Path) -> None:
    data = FaceProfiles(**SMALL_FACES, balance=False)(root=people)
    assert data.classes == ("female", "male")
    assert data.items.shape[1:] == (3, 8, 8)
    for bag, owner, label in zip(data.bags, data.owners, data.labels.tolist(), strict=True):
        names = [data.ids[row] for row in bag.tolist()]
        assert {person_of(name) for name in names} == {owner}
        assert names == sorted(names)
        assert label == int(int(owner[2:]) < 9)
    inside = torch.cat(data.bags).tolist()
    assert len(inside) == len(set(inside)), "profiles of one person share no photo"
    each = [data.owners.count(f"P_{k:02d}") for k in range(14)]
    assert each == [min(3, (4 + k % 6) // 2) for k in range(14)]
    shown, added = ({person_of(data.ids[row]) for row in rows.tolist()} for rows in (data.public, data.background))
    assert not shown & added
    assert sorted(shown | added) == [f"P_{k:02d}" for k in range(14, 21)]
    assert data.public_classes == tuple(sorted(shown))
    for row, label in zip(data.public.tolist(), data.public_labels.tolist(), strict=True):
        assert person_of(data.ids[row]) == data.public_classes[label]
    assert set(data.kinds.tolist()) == {-1}


def test_balanced_faces_have_equally_many_of_each_value_in_every_split(people: Path) -> None:
    data = FaceProfiles(**SMALL_FACES, validation=0.2)(root=people)
    for split in SPLITS:
        one, other = per_value(data, split)
        assert one == other > 0
    assert data.chance == 0.5
    assert not owners_of(data, "train") & owners_of(data, "test")
    assert len(data.items) < len(FaceProfiles(**SMALL_FACES, balance=False)(root=people).items)
    leaky = FaceProfiles(**SMALL_FACES, split="profiles")(root=people)
    assert "14 of 14 owners" in leaky.warning


def test_faces_notice_changed_photos_and_too_few_of_them(people: Path) -> None:
    before = FaceProfiles(**SMALL_FACES).fingerprint(root=people)
    photo = people / "lfw_min10" / "images" / "P_09" / "P_09_0000.jpg"
    photo.write_bytes(hostile.encoded(hostile.noise(seed=9999)))
    assert FaceProfiles(**SMALL_FACES).fingerprint(root=people, rehash=True) != before
    photo.write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(DataError, match=r"P_09_0000\.jpg"):
        FaceProfiles(**SMALL_FACES)(root=people)
    with pytest.raises(DataError, match=r"nobody of a known value .* has 20 photos; lower items"):
        FaceProfiles(items=20)(root=people)
    with pytest.raises(DataError, match="set COUNTERMOVE_DATA"):
        FaceProfiles()(root=people / "lfw_min10")


@pytest.mark.data
def test_real_faces_are_what_they_say(data_root: Path) -> None:
    data = FaceProfiles(side=16)(root=needs(data_root, "lfw_min10"))
    assert [per_value(data, split) for split in SPLITS] == [[19, 19], [8, 8], [17, 17]]
    assert (len(data.background), len(data.public), len(data.public_classes)) == (678, 1275, 68)


# Posters.


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """60 films, one in three an Action film, two of which share a poster; 24 users, every other fond of Action."""
    folder = tmp_path / "movielens100k_posters"
    items, marks, users = ["item_id,movielens_id,title,year,genres"], ["user_id,item_id,rating,timestamp"], []
    for film in range(60):
        genres = "Action Drama" if film % 3 == 0 else "Comedy" if film % 3 == 1 else "Drama"
        items.append(f"{film},{1000 + (film if film != 59 else 58)},Film {film},1990,{genres}")
        put(folder / "posters" / f"{film}.jpg", hostile.encoded(hostile.noise(width=12, height=16, seed=film)))
    for user in range(24):
        users.append(f"{user}\t{20 + user}\t{'FM'[user % 3 == 0]}")
        for film in range(60):
            liked = film % 3 == 0 if user % 2 else film % 3 != 0
            # Later films are rated earlier, so that time and ids disagree.
            marks.append(f"{user},{film},{4 if liked or film % 7 == user % 7 else 2},{5000 - film}")
    folder.mkdir(exist_ok=True)
    (folder / "items.csv").write_text("\n".join(items) + "\n")
    (folder / "interactions.csv").write_text("\n".join(marks) + "\n")
    head = "user_id:token\tage:token\tgender:token"
    (folder / "users.tsv").write_text("\n".join([head, *users]) + "\n")
    return tmp_path


SMALL_POSTERS: dict[str, Any] = {"items": 3, "side": 8, "public": 0.2, "background": 0.1}


def test_poster_profiles_are_what_was_liked_in_time(films: Path) -> None:
    data = PosterProfiles(**SMALL_POSTERS)(root=films)
    assert data.classes == ("little Action", "much Action")
    apart = {data.ids[row] for row in [*data.background.tolist(), *data.public.tolist()]}
    assert len(data.background) == round(0.1 * 59)
    assert len(data.public) == round(0.2 * 59)
    for bag, owner, label in zip(data.bags, data.owners, data.labels.tolist(), strict=True):
        user = int(owner)
        assert label == user % 2
        liked = [f for f in range(59) if (f % 3 == 0 if label else f % 3 != 0) or f % 7 == user % 7]
        left = [str(film) for film in reversed(liked) if str(film) not in apart]
        assert [data.ids[row] for row in bag.tolist()] == left[-3:], "the three rated last, oldest first"
    first = PosterProfiles(**SMALL_POSTERS, newest=False)(root=films)
    assert first.owners == data.owners
    assert not any(torch.equal(x, y) for x, y in zip(first.bags, data.bags, strict=True))
    genre = {"Action": 0, "Comedy": 1, "Drama": 2}
    for row, label in zip(data.public.tolist(), data.public_labels.tolist(), strict=True):
        assert genre[data.public_classes[label]] == int(data.ids[row]) % 3
    assert "59" not in data.ids, "a poster that two films share is there once"


def test_public_posters_are_those_that_fewest_liked(films: Path) -> None:
    table = films / "movielens100k_posters" / "interactions.csv"
    rows = [row for row in table.read_text().splitlines() if row.split(",")[1] not in map(str, range(10, 30))]
    table.write_text("\n".join(rows) + "\n")
    data = PosterProfiles(**SMALL_POSTERS)(root=films)
    untouched = set(map(str, range(10, 30))) - {data.ids[row] for row in data.background.tolist()}
    public = {data.ids[row] for row in data.public.tolist()}
    assert public <= untouched


@pytest.mark.parametrize(("attribute", "classes"), [("age", ("younger", "older")), ("gender", ("F", "M"))])
def test_posters_tell_what_users_said_of_themselves(films: Path, attribute: Any, classes: tuple[str, str]) -> None:
    data = PosterProfiles(**SMALL_POSTERS, attribute=attribute)(root=films)
    assert data.classes == classes
    for owner, label in zip(data.owners, data.labels.tolist(), strict=True):
        user = int(owner)
        assert label == (int(user % 3 == 0) if attribute == "gender" else int(user >= 12))
    assert len(data.labels) == (12 if attribute == "age" else 2 * 8)
    for split in ("train", "test"):
        one, other = per_value(data, split)
        assert one == other


def test_several_profiles_of_a_user_share_no_poster(films: Path) -> None:
    data = PosterProfiles(**SMALL_POSTERS, per_user=2)(root=films)
    assert set(map(data.owners.count, data.owners)) == {2}
    for owner in set(data.owners):
        mine = torch.cat([bag for bag, who in zip(data.bags, data.owners, strict=True) if who == owner])
        assert len(mine.unique()) == len(mine) == 6
    assert "owners have several" in PosterProfiles(**SMALL_POSTERS, per_user=2, split="profiles")(root=films).warning


def test_posters_refuse_what_is_not_there(films: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'Comedy'"):
        PosterProfiles(genre="Comdy", items=3)(root=films)
    before = PosterProfiles(**SMALL_POSTERS).fingerprint(root=films)
    table = films / "movielens100k_posters" / "users.tsv"
    table.write_text(table.read_text().replace("43", "44"))
    assert PosterProfiles(**SMALL_POSTERS).fingerprint(root=films, rehash=True) != before
    table.unlink()
    with pytest.raises(DataError, match=r"users\.tsv is not there"):
        PosterProfiles()(root=films)


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (FaceProfiles, {"side": 4}, "faces: side = 4 is refused"),
        (FaceProfiles, {"per_person": 0}, "faces: per_person = 0 is refused"),
        (FaceProfiles, {"public": 1.5}, r"faces: public = 1\.5 is refused"),
        (FaceProfiles, {"test": 0.0}, "faces: test = 0 is refused"),
        (PosterProfiles, {"attribute": "mood"}, "posters: attribute = 'mood' is refused; it is taste, age or gender"),
        (PosterProfiles, {"background": 0.5, "public": 0.5}, "leave something over for profiles"),
        (PosterProfiles, {"items": 0}, "posters: items = 0 is refused"),
    ],
)
def test_settings_of_real_sets_are_refused(make: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**settings)


@pytest.mark.data
def test_real_posters_are_what_they_say(data_root: Path) -> None:
    data = PosterProfiles(side=8)(root=needs(data_root, "movielens100k_posters"))
    assert [per_value(data, split) for split in SPLITS] == [[91, 91], [15, 15], [46, 46]]
    assert (len(data.background), len(data.public), set(data.lengths(data.test))) == (329, 658, {20})


# Speech.

SENTENCES = ("a01", "a02", "b01")
FEELINGS = ("anger", "neutral", "sadness", "anger")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """As in emodb: five women and five men with 12 clips of 0.1 s each, a tone whose pitch is the clip's number."""
    lines, clips = ["file,speaker,gender,text_code,emotion_from_filename"], []
    for i in range(120):
        speaker = i // 12
        lines.append(
            f"{speaker:02d}_{i:03d}.wav,{speaker:02d},{'male' if speaker % 2 else 'female'},{SENTENCES[i % 3]},"
            f"{FEELINGS[i % 12 // 3]}"
        )
        clips.append(np.round(20000 * np.sin(2 * np.pi * (200 + 20 * i) * np.arange(2205) / 22050)))
    (tmp_path / "emodb").mkdir()
    (tmp_path / "emodb" / "labels.csv").write_text("\n".join(lines) + "\n")
    np.savez(tmp_path / "emodb" / "emodb.npz", audio=np.array(clips, dtype=np.int16), sample_rate=np.int32(22050))
    return tmp_path


def clip_numbers(data: Profiles, rows: torch.Tensor) -> list[int]:
    return [int(data.ids[row][3:6]) for row in rows.tolist()]


@pytest.mark.parametrize("fold", [0, 3])
def test_speakers_are_in_one_split_or_in_the_background(speech: Path, fold: int) -> None:
    data = EmodbProfiles(fold=fold, validation=1, items=4, test=1)(root=speech)
    assert data.classes == ("female", "male")
    assert [per_value(data, split) for split in SPLITS] == [[6, 6], [3, 3], [3, 3]]
    whose = [owners_of(data, split) for split in SPLITS]
    added = {data.ids[row][:2] for row in data.background.tolist()}
    assert sum(map(len, [*whose, added])) == len(set.union(*whose, added)) == 10
    for bag, owner, label in zip(data.bags, data.owners, data.labels.tolist(), strict=True):
        names = [data.ids[row] for row in bag.tolist()]
        assert {name[:2] for name in names} == {owner}
        assert names == sorted(names)
        assert label == int(owner) % 2
    assert data.kinds.tolist() == [int(data.ids[row][:2]) % 2 for row in data.background.tolist()]
    assert len(torch.cat(data.bags).unique()) == 8 * 12
    assert data.public_classes == SENTENCES
    assert data.public_labels.tolist() == [i % 3 for i in clip_numbers(data, data.public)]


def test_five_folds_test_every_speaker_as_often(speech: Path) -> None:
    folds = [EmodbProfiles(fold=fold, items=6)(root=speech) for fold in range(5)]
    tested = [owner for data in folds for owner in owners_of(data, "test")]
    assert sorted(tested) == sorted([f"{k:02d}" for k in range(10)] * 2)
    other = EmodbProfiles(split_seed=1, items=6)(root=speech)
    assert owners_of(other, "test") != owners_of(folds[0], "test")


def test_emotions_are_told_apart_within_speakers(speech: Path) -> None:
    data = EmodbProfiles(attribute="emotion", items=2)(root=speech)
    assert data.classes == ("not anger", "anger")
    for bag, label in zip(data.bags, data.labels.tolist(), strict=True):
        assert [int(FEELINGS[i % 12 // 3] == "anger") for i in clip_numbers(data, bag)] == [label] * 2
    for owner in set(data.owners):
        mine = [label for who, label in zip(data.owners, data.labels.tolist(), strict=True) if who == owner]
        assert mine.count(0) == mine.count(1) == 3
    two = EmodbProfiles(attribute="emotion", emotion="sadness", against="neutral", items=3)(root=speech)
    assert two.classes == ("neutral", "sadness")
    value = {"neutral": 0, "sadness": 1, "anger": -1}
    assert two.kinds.tolist() == [value[FEELINGS[i % 12 // 3]] for i in clip_numbers(two, two.background)]
    for bag, label in zip(two.bags, two.labels.tolist(), strict=True):
        assert [value[FEELINGS[i % 12 // 3]] for i in clip_numbers(two, bag)] == [label] * 3
    tested = owners_of(two, "test")
    assert not tested & {two.ids[row][:2] for row in two.public.tolist()}, "nobody learns of those who are tested"
    assert len(two.public) > len(two.background), "clips left over of those who are trained on are public"


def test_clips_keep_their_pitch_at_another_rate(speech: Path) -> None:
    for rate, samples in ((22050, 2205), (11025, 1103), (8000, 800)):
        data = EmodbProfiles(rate=rate, seconds=0.1, items=4)(root=speech)
        assert (data.rate, data.items.dtype, data.items.shape[1]) == (rate, torch.int16, samples)
        spectrum = np.abs(np.fft.rfft(data.items.numpy() * np.hanning(data.items.shape[1]), n=rate)) ** 2
        for row, number in enumerate(int(name[3:6]) for name in data.ids):
            assert abs(int(spectrum[row].argmax()) - (200 + 20 * number)) <= 2


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"attribute": "mood"}, ConfigError, "it is gender or emotion"),
        ({"rate": 44100}, ConfigError, "rate = 44100 is refused"),
        ({"seconds": 3.0}, ConfigError, "seconds = 3 is refused"),
        ({"against": "anger"}, ConfigError, "it is the emotion itself"),
        ({"test": 0}, ConfigError, "test = 0 is refused"),
        ({"test": 4, "background": 1}, DataError, "take 5 of 5 female speakers"),
        ({"attribute": "emotion", "emotion": "angr"}, ConfigError, "did you mean 'anger'"),
        ({"attribute": "emotion", "items": 13}, DataError, r"nobody has enough clips of both values .* lower items"),
    ],
)
def test_speech_settings_are_refused(speech: Path, settings: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        EmodbProfiles(**settings)(root=speech)


@pytest.mark.data
def test_real_speech_is_what_it_says(data_root: Path) -> None:
    root = needs(data_root, "emodb")
    data = EmodbProfiles()(root=root)
    assert [per_value(data, split) for split in SPLITS] == [[14, 14], [0, 0], [14, 14]]
    assert (data.items.shape, data.rate, len(data.background)) == ((350, 22050), 11025, 70)
    assert per_value(EmodbProfiles(attribute="emotion")(root=root), "test") == [11, 11]
