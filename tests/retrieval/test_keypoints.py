"""Our keypoints are OpenCV's, and the patches change what they should."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.retrieval.textures import texture

from countermove.errors import ConfigError
from countermove.retrieval.keypoints import (
    Keypoints,
    added_patches,
    detect,
    differences,
    smoothed,
    surviving,
)
from countermove.retrieval.recolouring import gray_of


def opencv_keypoints(gray: NDArray[np.uint8], contrast: float = 0.04) -> NDArray[np.float64]:
    """Return places, scales and strengths, each place once however many directions it has."""
    cv2 = pytest.importorskip("cv2")
    found = cv2.SIFT_create(contrastThreshold=contrast).detect(gray, None)
    rows = {(p.pt[0] - 0.25, p.pt[1] - 0.25, p.size / 2, p.response * 255) for p in found}
    return np.array(sorted(rows)).reshape(-1, 4)


def ours(points: Keypoints) -> NDArray[np.float64]:
    return np.stack([points.x, points.y, points.sigma, np.abs(points.value)], 1)


def assert_same(gray: NDArray[np.uint8], *, threshold: float = 0.04) -> None:
    theirs, found = opencv_keypoints(gray, threshold), ours(detect(gray, contrast=threshold / 3 * 255))
    assert len(theirs) == len(found)
    for row in theirs:
        assert np.abs(found - row).max(1).min() < 1e-2


@pytest.mark.parametrize(("height", "width"), [(96, 128), (61, 75), (12, 200), (20, 20)])
def test_keypoints_are_those_of_opencv(height: int, width: int) -> None:
    gray = gray_of(texture(height, width)).numpy()
    assert len(detect(gray)) > 0
    assert_same(gray)
    assert_same(gray, threshold=0.02)


def test_keypoints_of_a_photo_are_those_of_opencv(data_root: Path) -> None:
    path = data_root / "landmarks_small" / "boofcv_scene" / "image00.jpg"
    if not path.is_file():
        pytest.skip(f"needs the photo {path}")
    assert_same(np.asarray(Image.open(path).convert("L"))[:200, :200].copy())


@pytest.mark.parametrize("side", [1, 2, 8, 10])
def test_tiny_and_flat_pictures_have_no_keypoints(side: int) -> None:
    assert len(detect(np.full((side, side), 77, np.uint8))) == 0
    assert len(detect(np.full((64, 64), 77, np.uint8))) == 0
    assert len(detect(gray_of(texture(side, side)).numpy())) == len(
        opencv_keypoints(gray_of(texture(side, side)).numpy())
    )


def test_the_sign_tells_dark_from_bright() -> None:
    y, x = np.mgrid[:64, :64]
    blob = 100 * np.exp(-((x - 30.0) ** 2 + (y - 34.0) ** 2) / (2 * 4.0**2))
    for sign in (1, -1):
        found = detect((128 + sign * blob).astype(np.float32))
        strongest = found.where(np.abs(found.value) == np.abs(found.value).max())
        assert np.sign(strongest.value) == -sign  # a wide blur less a narrow one is negative where it is bright
        assert float(strongest.x[0]) == pytest.approx(30, abs=0.3)
        assert float(strongest.y[0]) == pytest.approx(34, abs=0.3)
        assert float(strongest.sigma[0]) == pytest.approx(4, rel=0.2)


def test_samples_named_are_extrema() -> None:
    gray = gray_of(texture()).numpy()
    pyramid, found = differences(gray), detect(gray)
    for i in range(len(found)):
        dog = pyramid[found.octave[i]]
        box = [slice(at - 1, at + 2) for at in (found.layer[i], found.row[i], found.column[i])]
        block, centre = dog[tuple(box)], dog[found.layer[i], found.row[i], found.column[i]]
        assert centre == (block.max() if found.value[i] > 0 else block.min())
    only = detect(gray, octaves=(1,))
    assert np.array_equal(ours(only), ours(found.where(found.octave == 1)))


def test_a_patch_changes_the_difference_by_what_was_asked() -> None:
    gray = gray_of(texture()).numpy().astype(np.float32)
    found = detect(gray)
    inner = (np.minimum(found.x, 127 - found.x) > 4 * found.sigma) & (
        np.minimum(found.y, 95 - found.y) > 4 * found.sigma
    )
    found, effects = found.where(inner), []
    assert len(found) > 20
    for i in range(len(found)):
        one = found.where(np.array([i]))
        patch = added_patches(gray.shape, one, np.array([2.0]))
        before, after = (differences(g)[one.octave[0]] for g in (gray, gray + patch))
        where = one.layer[0], one.row[0], one.column[0]
        effects.append(after[where] - before[where])
    # the sample is not the interpolated place, so that the kernel there is a little another one
    assert float(np.mean(effects)) == pytest.approx(2.0, rel=0.05)
    assert min(effects) > 1.5


def test_no_smaller_patch_does_the_same() -> None:
    """The patch is along the kernel: anything orthogonal to it would only add norm."""
    height, width, sigma = 41, 41, 2.5
    point = Keypoints(
        x=np.array([20.3]),
        y=np.array([19.6]),
        sigma=np.array([sigma]),
        value=np.array([4.0]),
        octave=np.array([1]),
        layer=np.array([1]),
        row=np.array([20]),
        column=np.array([20]),
    )
    patch = added_patches((height, width), point, np.array([1.0]), reach=4.0)
    y, x = np.mgrid[:height, :width]
    square = (x - 20.3) ** 2 + (y - 19.6) ** 2
    wide, narrow = ((f * sigma) ** 2 - 0.0625 for f in (2 ** (1 / 3), 1.0))
    kernel = np.exp(-square / (2 * wide)) / (2 * np.pi * wide) - np.exp(-square / (2 * narrow)) / (2 * np.pi * narrow)
    cosine = (kernel * patch).sum() / np.sqrt((kernel**2).sum() * (patch**2).sum())
    assert float(cosine) == pytest.approx(1.0, abs=1e-3)
    assert float((kernel * patch).sum()) == pytest.approx(1.0, abs=1e-3)


def test_patches_add_up_and_stay_near() -> None:
    found = detect(gray_of(texture()).numpy())
    change = np.linspace(-1, 1, len(found))
    together = added_patches((96, 128), found, change)
    one_by_one = np.sum(
        [added_patches((96, 128), found.where(np.array([i])), change[[i]]) for i in range(len(found))], axis=0
    )
    assert np.allclose(together, one_by_one, atol=1e-9)
    assert not added_patches((96, 128), Keypoints.joined([]), np.zeros(0)).any()


def test_smoothing_is_around_keypoints_only() -> None:
    gray = gray_of(texture()).numpy()
    found = detect(gray)
    one = found.where((found.x > 20) & (found.x < 100) & (found.y > 20) & (found.y < 70)).where(np.array([0]))
    done = smoothed(gray, one, sigma=1.3, radius=4)
    rows, columns = (done != gray).nonzero()
    assert len(rows) > 40
    assert np.abs(rows - np.rint(one.y)).max() <= 4
    assert np.abs(columns - np.rint(one.x)).max() <= 4


def test_survival_is_nearness_in_place_and_scale() -> None:
    found = detect(gray_of(texture()).numpy())
    assert surviving(found, found).all()
    moved = {f: getattr(found, f) for f in ("y", "value", "octave", "layer", "row", "column")}
    lone = found.where(np.array([0]))
    near = Keypoints(x=found.x + 1.4, sigma=found.sigma * 2**0.4, **moved).where(np.array([0]))
    far = Keypoints(x=found.x + 1.6, sigma=found.sigma, **moved).where(np.array([0]))
    larger = Keypoints(x=found.x, sigma=found.sigma * 2**0.6, **moved).where(np.array([0]))
    assert surviving(lone, near).tolist() == [True]
    assert surviving(lone, far).tolist() == [False]
    assert surviving(lone, larger).tolist() == [False]
    assert surviving(lone, Keypoints.joined([])).tolist() == [False]
    assert len(surviving(Keypoints.joined([]), found)) == 0


def test_without_opencv_people_are_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"countermove\[retrieval\]"):
        detect(np.zeros((32, 32), np.uint8))
