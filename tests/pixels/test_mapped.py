"""Pictures that lie in a file: the same values, the same results, nothing left behind, clear refusals."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from tests.mapping import lies_in
from torch import Tensor

from countermove.errors import ConfigError, RunError
from countermove.learning.augment import Bordered, Window
from countermove.pixels import mapped
from countermove.pixels.mapped import is_large, joined, portions, replaced, room_for, scratch_folder, selected
from countermove.pixels.randomness import generator
from countermove.pixels.squeezes import gray, squeeze_uint8


@pytest.fixture(params=["in memory", "in a file"])
def in_file(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bool:
    monkeypatch.setenv("COUNTERMOVE_MAP_ABOVE", "100" if request.param == "in a file" else "10000000")
    monkeypatch.setenv("COUNTERMOVE_SCRATCH", str(tmp_path))
    monkeypatch.setattr(mapped, "PORTION_PIXELS", 3 * 8 * 6)
    return request.param == "in a file"


def made_up(n: int = 17) -> Tensor:
    return torch.randint(0, 256, (n, 3, 8, 6), generator=generator(n), dtype=torch.uint8)


def test_copies_lie_where_they_should_and_hold_the_same(in_file: bool, tmp_path: Path) -> None:
    pictures, rows = made_up(), torch.arange(17) % 3 == 1
    others = made_up(int(rows.sum()))
    expected = pictures.clone()
    expected[rows] = others
    order = torch.tensor([16, 3, 3, 0, 9, 8, 7, 1])
    made = {
        "selected": (selected(pictures, rows), pictures[rows]),
        "ordered": (selected(pictures, order), pictures[order]),
        "replaced": (replaced(pictures, rows, others), expected),
        "joined": (joined(pictures, others), torch.cat([pictures, others])),
        "squeezed": (squeeze_uint8(pictures, gray), torch.cat([squeeze_uint8(one[None], gray) for one in pictures])),
    }
    for name, (copy, wanted) in made.items():
        assert torch.equal(copy, wanted), name
        assert lies_in(copy, tmp_path) == in_file, name
        assert copy.is_contiguous(), name
        copy.fill_(7)  # it is the caller's own
    assert torch.equal(pictures, made_up())
    assert list(tmp_path.iterdir()) == [], "the files have no name"


def test_windows_are_the_same(in_file: bool) -> None:
    pictures, index = made_up(), torch.tensor([4, 4, 16, 0])
    window = Window.draw(4, 8, 6, crop=2, flip=True, generator=generator(1))
    expected = torch.stack(
        [
            torch.nn.functional.pad(pictures[i], (2,) * 4)[:, window.rows[k]][:, :, window.columns[k]]
            for k, i in enumerate(index.tolist())
        ]
    )
    seen = Bordered(pictures, 2, "cpu").look(window, index)
    assert torch.equal(seen, expected)
    assert seen.is_contiguous(memory_format=torch.channels_last)


def test_a_room_above_the_size_is_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COUNTERMOVE_SCRATCH", str(tmp_path))
    monkeypatch.setenv("COUNTERMOVE_MAP_ABOVE", "24")
    assert lies_in(room_for((1, 5, 5)), tmp_path)
    monkeypatch.setenv("COUNTERMOVE_MAP_ABOVE", "25")
    assert not lies_in(room_for((1, 5, 5)), tmp_path)
    monkeypatch.delenv("COUNTERMOVE_MAP_ABOVE")
    assert not is_large(256 * 2**20)
    assert is_large(256 * 2**20 + 1)
    assert room_for((0, 3, 4, 4)).shape == (0, 3, 4, 4)


def test_portions_cover_every_row_once() -> None:
    assert [(p.start, p.stop) for p in portions(5, (5, 3, 512, 512))] == [(0, 2), (2, 4), (4, 5)]
    assert [(p.start, p.stop) for p in portions(2, (2, 3, 5000, 5000))] == [(0, 1), (1, 2)]
    assert list(portions(0, (0, 3, 4, 4))) == []


def test_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/there")
    assert scratch_folder() == "/there"
    monkeypatch.setenv("COUNTERMOVE_SCRATCH", "/here")
    assert scratch_folder() == "/here"
    monkeypatch.delenv("COUNTERMOVE_SCRATCH")
    monkeypatch.delenv("TMPDIR")
    assert os.access(scratch_folder(), os.W_OK)


def test_refusals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COUNTERMOVE_MAP_ABOVE", "1 MB")
    with pytest.raises(ConfigError, match="COUNTERMOVE_MAP_ABOVE = '1 MB' is refused"):
        room_for((1, 3, 4, 4))
    monkeypatch.setenv("COUNTERMOVE_MAP_ABOVE", "0")
    monkeypatch.setenv("COUNTERMOVE_SCRATCH", str(tmp_path / "nowhere"))
    with pytest.raises(RunError, match=r"48 bytes of pictures cannot be laid into .*nowhere.*COUNTERMOVE_SCRATCH"):
        room_for((1, 3, 4, 4))

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("COUNTERMOVE_SCRATCH", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match=r"No space left on device\. Make room there"):
        room_for((1, 3, 4, 4))
    assert list(tmp_path.iterdir()) == []
