from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests import hostile

from countermove.errors import ConfigError, DataError, RunError
from countermove.pixels.decode import Limits, decode_picture
from countermove.pixels.files import iter_pictures, read_npz, read_picture, safe_child, walk_pictures, write_png

KINDS = {
    "png": hostile.encoded(hostile.noise()),
    "jpeg": hostile.encoded(hostile.noise(), "JPEG"),
    "progressive": hostile.encoded(hostile.noise(), "JPEG", progressive=True),
    "webp": hostile.encoded(hostile.noise(), "WEBP", lossless=True),
    "lossy-webp": hostile.encoded(hostile.noise(), "WEBP"),
    "bmp": hostile.encoded(hostile.noise(), "BMP"),
}
LOSSLESS = ("png", "webp", "bmp")


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_reads_the_four_formats_whatever_the_name(tmp_path: Path, kind: str) -> None:
    picture = read_picture(put(tmp_path, "picture.txt", KINDS[kind]))
    assert picture.shape == (8, 8, 3)
    assert picture.dtype == np.uint8
    if kind in LOSSLESS:
        np.testing.assert_array_equal(picture, hostile.noise())


@pytest.mark.parametrize("kind", KINDS)
def test_refuses_every_proper_prefix(kind: str) -> None:
    data = KINDS[kind]
    for length in range(len(data)):
        with pytest.raises(DataError, match=r"cat\.png"):
            decode_picture(data[:length], name="cat.png")


def test_refuses_a_png_with_any_bit_flipped() -> None:
    data = KINDS["png"]
    for position in range(8, len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(DataError):
            decode_picture(bytes(damaged), name="cat.png")


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1),
)
def test_damage_gives_a_picture_or_a_data_error(kind: str, edits: list[tuple[int, int]]) -> None:
    data = bytearray(KINDS[kind])
    for position, value in edits:
        data[position % len(data)] = value
    try:
        picture = decode_picture(bytes(data), name="x", limits=Limits(max_pixels=100_000))
    except DataError as error:
        assert str(error).startswith("x ")  # noqa: PT017
    else:
        assert picture.ndim == 3
        assert picture.dtype == np.uint8


@pytest.mark.parametrize(
    "data",
    [hostile.huge_png(), hostile.huge_bmp(), hostile.huge_jpeg(), hostile.huge_webp()],
    ids=["png", "bmp", "jpeg", "webp"],
)
def test_refuses_a_huge_header_before_decoding(data: bytes) -> None:
    with pytest.raises(DataError, match=r"bomb\.png .*pixels"):
        decode_picture(data, name="bomb.png")


def test_the_cap_is_ours_and_not_pillows() -> None:
    header_side = 10_000  # between Pillow's warning (89 megapixels) and its error (179)
    data = hostile.huge_png(header_side)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match="broken or cut short"):
            decode_picture(data, name="x", limits=Limits(max_pixels=header_side**2))
    with pytest.raises(DataError, match="at most 63 are decoded"):
        decode_picture(KINDS["png"], name="x", limits=Limits(max_pixels=63))
    assert decode_picture(KINDS["png"], name="x", limits=Limits(max_pixels=64)).shape == (8, 8, 3)
    with pytest.raises(ConfigError, match="at least 1"):
        Limits(max_pixels=0)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_refuses_animation(kind: str) -> None:
    with pytest.raises(DataError, match=r"animated \(2 frames\)"):
        decode_picture(hostile.animated(kind), name="x")


@pytest.mark.parametrize(
    ("data", "begins"),
    [
        (hostile.animated("GIF"), "GIF89a"),
        (hostile.encoded(hostile.noise(), "TIFF"), "II"),
        (b"just some words", "just some"),
        (b"", "empty"),
    ],
)
def test_refuses_other_content_by_what_it_is(tmp_path: Path, data: bytes, begins: str) -> None:
    with pytest.raises(DataError, match=rf"(?s)cat\.png is not a PNG, JPEG, WebP or BMP.*{begins}"):
        read_picture(put(tmp_path, "cat.png", data))


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_picture(tmp_path / "absent.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="no regular file"):
        read_picture(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="at most 3 are read"):
        read_picture(put(tmp_path, "large.png", KINDS["png"]), limits=Limits(max_bytes=3))


def test_converts_gray_and_one_bit() -> None:
    gray = hostile.noise()[..., 0]
    np.testing.assert_array_equal(decode_picture(hostile.encoded(gray), name="x"), np.stack([gray] * 3, axis=-1))
    bits = Image.fromarray(gray > 127)
    expected = np.where(gray > 127, 255, 0)[..., None].repeat(3, axis=-1)
    np.testing.assert_array_equal(decode_picture(hostile.encoded(bits), name="x"), expected)


def test_converts_16_bit_to_the_upper_8() -> None:
    gray = np.array([[0, 255, 256, 511], [32_768, 65_279, 65_280, 65_535]], dtype=np.uint16)
    read = decode_picture(hostile.gray_16_png(gray), name="x")
    np.testing.assert_array_equal(read, (gray >> 8)[..., None].repeat(3, axis=-1))
    rgb = np.random.default_rng(0).integers(0, 65_536, (3, 5, 3)).astype(np.uint16)
    np.testing.assert_array_equal(decode_picture(hostile.rgb_16_png(rgb), name="x"), rgb >> 8)
    keyed = decode_picture(hostile.gray_16_png(gray, transparent=256), name="x")
    np.testing.assert_array_equal(keyed[..., 0], [[0, 0, 255, 1], [128, 254, 255, 255]])


def test_composites_alpha_on_white() -> None:
    rgba = np.dstack([hostile.noise(), hostile.noise(seed=1)[..., 0]])
    colour, alpha = rgba[..., :3].astype(float), rgba[..., 3:].astype(float) / 255
    expected = colour * alpha + 255 * (1 - alpha)
    read = decode_picture(hostile.encoded(rgba), name="x")
    assert np.abs(read - expected).max() <= 1
    assert decode_picture(hostile.palette_png_with_alpha(), name="x").tolist() == [[[255, 0, 0], [255, 255, 255]]]
    gray_alpha = Image.new("LA", (1, 1), (0, 0))
    assert decode_picture(hostile.encoded(gray_alpha), name="x").tolist() == [[[255, 255, 255]]]


def test_converts_cmyk() -> None:
    read = decode_picture(hostile.cmyk_jpeg(255, 0, 0, 0), name="x").astype(int)
    assert np.abs(read - [0, 255, 255]).max() <= 2
    read = decode_picture(hostile.cmyk_jpeg(0, 0, 0, 255), name="x").astype(int)
    assert read.max() <= 2


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda p: p),
        (2, np.fliplr),
        (3, lambda p: np.rot90(p, 2)),
        (4, np.flipud),
        (5, lambda p: p.swapaxes(0, 1)),
        (6, lambda p: np.rot90(p, -1)),
        (7, lambda p: np.rot90(p, 2).swapaxes(0, 1)),
        (8, np.rot90),
    ],
)
def test_applies_exif_orientation(orientation: int, turn) -> None:
    picture = np.repeat(np.repeat(hostile.noise(2, 3), 8, axis=0), 8, axis=1)
    plain = decode_picture(hostile.rotated_jpeg(picture, 1), name="x")
    np.testing.assert_array_equal(decode_picture(hostile.rotated_jpeg(picture, orientation), name="x"), turn(plain))


def test_damaged_exif_says_nothing() -> None:
    assert decode_picture(hostile.damaged_exif_jpeg(), name="x").shape == (8, 8, 3)


def test_reading_in_threads_leaves_the_warning_filters_alone() -> None:
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [decode_picture(KINDS["webp"], name="x") for _ in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_walks_sorted_and_passes_over_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b/ü ж.png", "b/2.JPG", "a.bmp", ".hidden.png", ".git/x.png", "notes.txt", "b/z.gif"):
        put(tmp_path, name, KINDS["png"])
    assert walk_pictures(tmp_path) == sorted(["a.bmp", "b/2.JPG", "b/z.gif", "b/ü ж.png"])
    with pytest.raises(DataError, match="is not a folder"):
        walk_pictures(tmp_path / "a.bmp")


def test_walk_refuses_links_that_lead_outside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    inside = put(root, "a/real.png", KINDS["png"])
    (root / "link.png").symlink_to(inside)
    assert walk_pictures(root) == ["a/real.png", "link.png"]
    secret = put(tmp_path, "secret.png", KINDS["png"])
    for target in (secret, tmp_path / "nowhere.png"):
        (root / "bad.png").symlink_to(target)
        with pytest.raises(DataError, match=r"bad\.png is a link that leads outside"):
            walk_pictures(root)
        (root / "bad.png").unlink()
    (root / "loop").symlink_to(root)
    with pytest.raises(DataError, match="loop is a link to a folder"):
        walk_pictures(root)


def test_walk_refuses_names_that_are_not_utf8(tmp_path: Path) -> None:
    try:
        put(tmp_path, os.fsdecode(b"\xff.png"), KINDS["png"])
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    with pytest.raises(DataError, match="not valid UTF-8"):
        walk_pictures(tmp_path)


def test_iterates_and_names_what_it_skips(tmp_path: Path) -> None:
    put(tmp_path, "1.png", KINDS["png"])
    put(tmp_path, "2.png", KINDS["png"][:-5])
    put(tmp_path, "3.webp", KINDS["webp"])
    with pytest.raises(DataError, match=r"2\.png is broken or cut short"):
        list(iter_pictures(tmp_path))
    skipped: list[str] = []
    pictures = list(iter_pictures(tmp_path, on_broken="skip", skipped=skipped))
    assert [name for name, _ in pictures] == ["1.png", "3.webp"]
    assert len(skipped) == 1
    assert "2.png" in skipped[0]


@pytest.mark.parametrize(
    "relative",
    ["..", "../x.png", "a/../../x.png", "/etc/passwd", "", ".", "C:\\x.png", "a\\..\\..\\x.png", "\\\\host\\x", "a\0b"],
)
def test_safe_child_refuses_escapes(tmp_path: Path, relative: str) -> None:
    with pytest.raises(DataError, match="leads outside"):
        safe_child(tmp_path, relative)


def test_safe_child_takes_paths_below(tmp_path: Path) -> None:
    assert safe_child(tmp_path, "a/ü b.png") == tmp_path / "a" / "ü b.png"
    assert safe_child(tmp_path, "./a..b.png") == tmp_path / "a..b.png"
    (tmp_path / "out").symlink_to(tmp_path.parent)
    with pytest.raises(DataError, match="leads outside"):
        safe_child(tmp_path, "out/x.png")


@settings(max_examples=200, deadline=None)
@given(relative=st.text(alphabet="a./\\:\0", max_size=12))
def test_safe_child_never_leaves(relative: str) -> None:
    root = Path("/nowhere/root")
    try:
        path = safe_child(root, relative)
    except DataError:
        return
    assert Path(os.path.normpath(path)).is_relative_to(root)


def test_writes_png_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    write_png(path, hostile.noise())
    np.testing.assert_array_equal(read_picture(path), hostile.noise())
    monkeypatch.setattr(os, "fsync", _full_disk)
    with pytest.raises(RunError, match=r"x\.png cannot be written: No space left"):
        write_png(path, hostile.noise(seed=1))
    np.testing.assert_array_equal(read_picture(path), hostile.noise())
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.png"]


def _full_disk(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_write_png_refuses_other_arrays(tmp_path: Path) -> None:
    for array in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(DataError, match="uint8"):
            write_png(tmp_path / "x.png", array)
    with pytest.raises(RunError, match="No such file"):
        write_png(tmp_path / "absent" / "x.png", hostile.noise())


def test_reads_npz_without_unpickling(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.arange(3), b=np.zeros(2))
    assert read_npz(path, ["a"])["a"].tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"no array c; it has a, b"):
        read_npz(path, ["a", "c"])
    put(tmp_path, "pickled.npz", hostile.pickled_npz())
    with pytest.raises(DataError, match=r"pickled\.npz cannot be read as an \.npz file of plain arrays"):
        read_npz(tmp_path / "pickled.npz", ["x_train"])
    for data in (b"", b"words", path.read_bytes()[:-40]):
        with pytest.raises(DataError, match=r"broken\.npz"):
            read_npz(put(tmp_path, "broken.npz", data), ["a"])
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(DataError, match="single array"):
        read_npz(tmp_path / "single.npy", ["a"])
