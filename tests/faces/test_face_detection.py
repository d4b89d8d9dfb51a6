"""Faces found in photos, and what is said of photos without one, with several, with tiny or turned ones."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage import data, transform

from countermove.errors import ConfigError, DataError
from countermove.faces import detection
from countermove.faces.alignment import template, warp
from countermove.faces.detection import CascadeDetector, Face, choose_faces, find_faces
from countermove.pixels.files import read_picture

EYES = {"left": (203.0, 100.5), "right": (246.5, 103.5)}
"""In scikit-image's portrait of Eileen Collins (NASA, public domain), measured by hand to a few pixels."""


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return data.astronaut()


def face(length: float, angle: float = 0.0, points: torch.Tensor | None = None) -> Face:
    return Face(box=(10.0, 20.0, length, length), points=points, confidence=5.0, angle=angle)


def middle(found: Face) -> np.ndarray:
    x, y, width, height = found.box
    return np.array([x + width / 2, y + height / 2])


def test_a_face_is_found_and_cropped_about_as_arcface_would(portrait: np.ndarray):
    found = find_faces(portrait)
    assert len(found) == 1
    assert found[0].points is None
    assert found[0].angle == 0
    assert middle(found[0]) == pytest.approx([230, 120], abs=15)
    assert 70 < found[0].length < 130
    matrix = found[0].matrix(112)
    crop = warp(torch.from_numpy(portrait).permute(2, 0, 1)[None].double() / 255, matrix[None], 112)
    assert crop.shape == (1, 3, 112, 112)
    eyes = torch.tensor([EYES["left"], EYES["right"]], dtype=torch.float64) @ matrix[:, :2].T + matrix[:, 2]
    assert (eyes - template(112)[:2]).abs().max() < 7


@pytest.mark.parametrize("turns", [1, 3])
def test_a_lying_face_is_found_where_it_is(portrait: np.ndarray, turns: int):
    upright = find_faces(portrait)[0]
    found = find_faces(np.rot90(portrait, turns))[0]
    assert found.angle == {1: 90, 3: -90}[turns]
    assert found.box[2:] == upright.box[2:]
    a = warp(torch.from_numpy(portrait.copy()).permute(2, 0, 1)[None].double(), upright.matrix(64)[None], 64)
    turned = torch.from_numpy(np.rot90(portrait, turns).copy()).permute(2, 0, 1)[None].double()
    torch.testing.assert_close(warp(turned, found.matrix(64)[None], 64), a, atol=1e-6, rtol=0)


def test_a_tilted_face_is_found_where_it_is(portrait: np.ndarray):
    tilted = np.asarray(transform.rotate(portrait, 35, mode="reflect") * 255, dtype=np.uint8)
    found = find_faces(tilted)[0]
    assert found.angle == 30
    turn = np.deg2rad(35)
    offset = middle(find_faces(portrait)[0]) - 256
    wanted = 256 + np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) @ offset
    assert middle(found) == pytest.approx(wanted, abs=12)


def test_a_large_photo_is_searched_small_and_answered_large(portrait: np.ndarray):
    small, large = find_faces(portrait)[0], find_faces(portrait.repeat(4, 0).repeat(4, 1))[0]
    assert middle(large) == pytest.approx(4 * middle(small), abs=20)
    assert large.length == pytest.approx(4 * small.length, rel=0.15)


def test_several_faces_come_largest_first_and_in_the_same_order_again(portrait: np.ndarray):
    head = portrait[:240, 110:350]
    smaller = np.asarray(transform.resize(head, (160, 160)) * 255, dtype=np.uint8)
    both = np.zeros((240, 400, 3), np.uint8)
    both[:160, :160], both[:, 160:] = smaller, head
    found = find_faces(both)
    assert len(found) == 2
    assert found[0].length > found[1].length
    assert middle(found[0])[0] > 160 > middle(found[1])[0]
    assert [f.box for f in find_faces(both)] == [f.box for f in found]


def test_nothing_is_found_where_nothing_is():
    assert find_faces(np.full((60, 80, 3), 128, np.uint8)) == []
    assert find_faces(np.zeros((1, 1, 3), np.uint8)) == []


@pytest.mark.parametrize("wrong", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)])
def test_what_is_no_photo_is_refused(wrong: np.ndarray):
    with pytest.raises(DataError, match="a photo must be uint8"):
        find_faces(wrong)


@pytest.mark.parametrize("wrong", [{"neighbors": 0}, {"smallest": 5}, {"longest": 10}])
def test_settings_that_find_nothing_are_refused(wrong: dict):
    with pytest.raises(ConfigError, match="neighbors"):
        CascadeDetector(**wrong)


def test_another_detector_can_be_given():
    assert find_faces(np.zeros((4, 4, 3), np.uint8), detector=lambda picture: [face(len(picture))])[0].length == 4


def test_points_are_used_where_there_are_some():
    turned = template(112).float() * 2 + 7
    matrix = face(50, points=turned).matrix(112)
    torch.testing.assert_close(turned.double() @ matrix[:, :2].T + matrix[:, 2], template(112), atol=1e-4, rtol=0)


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"pip install 'countermove\[faces\]'"):
        find_faces(np.zeros((8, 8, 3), np.uint8))


def test_opencv_5_is_named_where_it_lacks_the_cascades(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    stand_in = SimpleNamespace(__version__="5.0.0", data=SimpleNamespace(haarcascades=str(tmp_path)))
    monkeypatch.setitem(sys.modules, "cv2", stand_in)
    with pytest.raises(ConfigError, match=r"OpenCV 5\.0\.0 comes without face cascades.*<5"):
        find_faces(np.zeros((8, 8, 3), np.uint8))


def test_opencv_is_only_imported_to_find_something():
    assert "cv2" not in vars(detection)


# --- what is said ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "several", "kept", "said"),
    [
        ([], "largest", [], ["a.jpg: no face found"]),
        ([80], "largest", [80], []),
        ([40, 80], "largest", [80], ["a.jpg: 2 faces, the largest taken"]),
        ([40, 80], "all", [80, 40], ["a.jpg: 2 faces, all taken"]),
        ([25, 80], "largest", [80], ["a.jpg: 1 face under 30 pixels left out"]),
        ([25, 29.9], "all", [], ["a.jpg: 2 faces under 30 pixels left out", "a.jpg: no face of at least 30 pixels"]),
    ],
)
def test_every_odd_photo_is_named(lengths: list[float], several: str, kept: list[float], said: list[str]):
    chosen, notes = choose_faces([face(n) for n in lengths], name="a.jpg", several=several)  # pyright: ignore[reportArgumentType]
    assert [f.length for f in chosen] == kept
    assert notes == said


def test_a_turned_face_is_named():
    assert choose_faces([face(80, angle=90)], name="a.jpg")[1] == [
        "a.jpg: found only after turning the photo by -90 degrees; the crop is turned upright"
    ]


@pytest.mark.data
def test_the_people_of_lfw_are_found(data_root: Path):
    """The rates on 200 photos are in the detector's docstring; these are every 84th of 3364."""
    files = sorted((data_root / "lfw_min10" / "images").rglob("*.jpg"))[::84]
    found = [find_faces(read_picture(file)) for file in files]
    largest = [faces[0] for faces in found if faces]
    assert len(largest) == len(files)
    assert sum(len(faces) == 1 for faces in found) >= 0.9 * len(files)
    assert all(abs(middle(f) - 125).max() < 30 and f.angle == 0 for f in largest)
