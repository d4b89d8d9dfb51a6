"""Faces: who is chosen, what is cut out, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import hostile
from tests.unlearnable.audits import played

from countermove.errors import ConfigError, DataError
from countermove.unlearnable.data.lfw import Lfw

REAL = Path(os.environ.get("COUNTERMOVE_DATA") or Path(__file__).parents[2] / "../shared/data")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERMOVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COUNTERMOVE_DATA", raising=False)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Four people of whom there are 4, 6, 8 and 10 pictures, 12 x 12 with a bright centre of 4 x 4."""
    for person, count in enumerate((4, 6, 8, 10)):
        for i in range(count):
            picture = np.zeros((12, 12, 3), np.uint8)
            picture[4:8, 4:8] = 10 * person + i + 100
            path = tmp_path / "lfw_min10" / "images" / f"Person_{person}" / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(hostile.encoded(picture))
    return tmp_path


def test_identities_are_chosen_by_how_many_pictures_there_are(people: Path) -> None:
    few = Lfw(side=4, crop=4, min_images=4, max_images=6)(root=people)
    many = Lfw(side=4, crop=4, min_images=8)(root=people)
    assert (few.classes, many.classes) == (("Person_0", "Person_1"), ("Person_2", "Person_3"))
    assert len(many.train) + len(many.test) == 18
    assert {name.split("/")[0] for name in many.train.ids} == set(many.classes)


def test_labels_are_the_identity_of_the_file(people: Path) -> None:
    data = Lfw(side=4, crop=4, min_images=6)(root=people)
    for part in (data.train, data.test):
        assert [data.classes[label] for label in part.labels.tolist()] == [name.split("/")[0] for name in part.ids]


def test_the_centre_is_cut_out(people: Path) -> None:
    data = Lfw(side=4, crop=4, min_images=4)(root=people)
    for pictures, name in zip(data.train.pictures, data.train.ids, strict=True):
        person, number = int(name[7]), int(name.split("/")[1][:2])
        assert torch.equal(pictures, torch.full((3, 4, 4), 10 * person + number + 100, dtype=torch.uint8))
    whole = Lfw(side=12, crop=12, min_images=4)(root=people)
    assert bool((whole.train.pictures[:, :, 0] == 0).all())


def test_every_identity_is_tested_and_another_seed_splits_off_others(people: Path) -> None:
    first, again, other = (Lfw(side=4, crop=4, min_images=4, split_seed=seed)(root=people) for seed in (0, 0, 1))
    assert torch.bincount(first.test.labels).tolist() == [1, 1, 2, 2]
    assert first.digest == again.digest
    assert set(first.test.ids) != set(other.test.ids)


def test_the_fingerprint_is_of_the_chosen_pictures(people: Path) -> None:
    chosen = Lfw(side=4, crop=4, min_images=8)
    before = chosen.fingerprint(root=people)
    (people / "lfw_min10" / "images" / "Person_0" / "00.png").write_bytes(
        hostile.encoded(hostile.noise(12, 12, seed=1))
    )
    assert chosen.fingerprint(root=people, rehash=True) == before
    (people / "lfw_min10" / "images" / "Person_3" / "00.png").write_bytes(
        hostile.encoded(hostile.noise(12, 12, seed=1))
    )
    assert chosen.fingerprint(root=people, rehash=True) != before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_images": 20, "max_images": 19}, "max_images = 19 is refused: no identity has at least 20 pictures"),
        ({"test_fraction": 1.0}, "test_fraction = 1.0 is refused"),
        ({"test_fraction": float("nan")}, "test_fraction = nan is refused"),
        ({"side": 0}, "side must be at least 1"),
        ({"crop": -1}, "crop must be at least 1"),
    ],
)
def test_refuses_settings(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Lfw(**settings)


def test_refuses_data_that_are_not_there_too_few_or_too_small(people: Path) -> None:
    with pytest.raises(DataError, match=r"lfw needs .*lfw_min10/images, which is not there; set COUNTERMOVE_DATA"):
        Lfw()(root=people / "elsewhere")
    with pytest.raises(DataError, match="1 identities have 9 to 10 pictures; at least two are needed"):
        Lfw(side=4, crop=4, min_images=9)(root=people)
    with pytest.raises(DataError, match="has 12 x 12 pixels; crop = 128 needs"):
        Lfw(min_images=4)(root=people)


def test_the_real_faces_give_two_disjoint_sets_of_people() -> None:
    if not (REAL / "lfw_min10").is_dir():
        pytest.skip("needs lfw_min10 in the development data; set COUNTERMOVE_DATA to the folder that holds it")
    few = Lfw(min_images=17, max_images=18)(root=REAL)
    others = Lfw(min_images=48)(root=REAL)
    assert not set(few.classes) & set(others.classes)
    assert others.train.pictures.shape[1:] == (3, 32, 32)
    assert all(count >= 9 for count in torch.bincount(others.test.labels).tolist())


def test_cells_on_people_report_verification_of_all_of_the_movers_and_of_the_others(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNTERMOVE_DATA", str(people))
    names = Lfw(crop=4, side=16, min_images=4, test_fraction=0.5)().classes
    data = f"lfw(crop=4, side=16, min_images=4, test_fraction=0.5)+moved(classes=[{names[0]}, {names[1]}])"
    _, results = played(tmp_path / "run", data=data, moves=["regions(regions=4)"], countermoves=["none"])
    rows = [row for row in results.rows if row.setting.move != "linear-separable"]
    assert rows
    for row in rows:
        for name in ("verification_auc", "verification_auc_moved", "verification_auc_others"):
            assert 0 <= row.metrics[name] <= 1
