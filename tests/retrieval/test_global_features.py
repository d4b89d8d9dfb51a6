"""The engine of CEDD and GIST: what is found, changed, saved and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError, RunError
from countermove.pixels.randomness import generator
from countermove.retrieval.collection import Read
from countermove.retrieval.indexes.global_features import GlobalFeatures
from countermove.retrieval.indexes.stored import by_shape

ENGINES = [GlobalFeatures(), GlobalFeatures(descriptor="gist", side=32)]


def scene(seed: int, height: int = 48, width: int = 64) -> Tensor:
    source = generator(seed, "scene")
    coarse = torch.rand(1, 3, 5, 5, generator=source) * 255
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 255).byte()


def brighter(picture: Tensor) -> Tensor:
    return (picture.float() * 0.97 + 3).byte()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_picture_finds_its_like_among_sizes(engine: GlobalFeatures) -> None:
    pictures = [scene(i, *[(48, 64), (64, 48), (90, 100)][i % 3]) for i in range(12)]
    index = engine.build(pictures)
    scores = index.scores([brighter(picture) for picture in pictures])
    assert scores.argmax(1).tolist() == list(range(12))
    assert scores.max() <= 0
    assert index.scores(pictures).diagonal().tolist() == pytest.approx([0] * 12, abs=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_adding_and_removing_is_building_anew(engine: GlobalFeatures) -> None:
    pictures = [scene(i) for i in range(8)]
    index = engine.build(pictures[:5])
    index.add(pictures[5:])
    index.remove([0, 6])
    left = [pictures[i] for i in (1, 2, 3, 4, 5, 7)]
    assert len(index) == 6
    assert torch.allclose(index.scores(pictures), engine.build(left).scores(pictures), atol=1e-5)
    for wrong in ([6], [-1]):
        with pytest.raises(DataError, match="taken out"):
            index.remove(wrong)
    assert len(index) == 6


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_saved_is_loaded(engine: GlobalFeatures, tmp_path: Path) -> None:
    pictures = [scene(i) for i in range(5)]
    index = engine.build(pictures)
    index.save(tmp_path / "index")
    assert torch.equal(engine.load(tmp_path / "index").scores(pictures), index.scores(pictures))
    with pytest.raises(RunError, match="empty folder"):
        index.save(tmp_path / "index")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (GlobalFeatures(descriptor="gist", side=36), "side was 32, now 36"),
        (GlobalFeatures(), "descriptor was 'gist', now 'cedd'"),
    ],
)
def test_an_index_built_otherwise_is_refused(other: GlobalFeatures, message: str, tmp_path: Path) -> None:
    ENGINES[1].build([scene(0)]).save(tmp_path)
    with pytest.raises(DataError, match=message):
        other.load(tmp_path)
    ENGINES[1].load(tmp_path)


def test_the_side_is_of_no_matter_to_cedd(tmp_path: Path) -> None:
    GlobalFeatures(side=64).build([scene(0)]).save(tmp_path)
    assert len(GlobalFeatures().load(tmp_path)) == 1


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"format": 1}', json.dumps({"format": 2, "fingerprint": {}}).encode()]
)
def test_broken_facts_are_refused(content: bytes, tmp_path: Path) -> None:
    engine = GlobalFeatures()
    with pytest.raises(DataError, match="no index"):
        engine.load(tmp_path)
    engine.build([scene(0)]).save(tmp_path)
    (tmp_path / "index.json").write_bytes(content)
    with pytest.raises(DataError, match=r"index\.json"):
        engine.load(tmp_path)


def test_broken_tensors_are_refused(tmp_path: Path) -> None:
    engine = GlobalFeatures()
    engine.build([scene(0)]).save(tmp_path / "a")
    file = tmp_path / "a" / "index.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-3])
    with pytest.raises(DataError, match="broken"):
        engine.load(tmp_path / "a")
    ENGINES[1].build([scene(0)]).save(tmp_path / "b")
    file.write_bytes((tmp_path / "b" / "index.safetensors").read_bytes())
    with pytest.raises(DataError, match="features"):
        engine.load(tmp_path / "a")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(8, 8), (8, 700), (1, 1)])
def test_one_tiny_or_long_or_gray_picture_is_searched(engine: GlobalFeatures, shape: tuple[int, int]) -> None:
    gray = scene(1, *shape)[:1].expand(3, -1, -1)
    scores = engine.build([gray]).scores([gray, scene(2)])
    assert scores.shape == (2, 1)
    assert scores.isfinite().all()
    assert float(scores[0, 0]) == pytest.approx(0, abs=1e-6)


def test_no_picture_and_what_is_none_are_refused() -> None:
    with pytest.raises(DataError, match="no picture"):
        GlobalFeatures().build([])
    for wrong in (torch.rand(3, 8, 8), torch.zeros(8, 8, dtype=torch.uint8), torch.zeros(3, 0, 8, dtype=torch.uint8)):
        with pytest.raises(DataError, match=r"uint8 \[3, H, W\]"):
            GlobalFeatures().build([wrong])


def test_settings_are_checked() -> None:
    wrong: Any = "gits"
    with pytest.raises(ConfigError, match="gist"):
        GlobalFeatures(descriptor=wrong)
    with pytest.raises(ConfigError, match="side"):
        GlobalFeatures(side=30)


@pytest.mark.parametrize(("sizes", "parts"), [(7, 4 * 8 + 3 * 7), (1, 50), (90, None)])
def test_same_sizes_are_described_together_in_any_order(sizes: int, parts: int | None) -> None:
    """And no more pictures wait than were asked for."""
    seen: list[int] = []
    read_first: list[int] = []

    def describe(same: Tensor) -> Tensor:
        seen.append(len(same))
        return same[:, 0, 0, :1].float()

    def read(row: int) -> Tensor:
        read_first.append(row - sum(seen))
        return torch.full((3, 8, 8 + row % sizes), row, dtype=torch.uint8)

    found = by_shape(Read(200, read), describe, at_once=4)
    assert found[:, 0].tolist() == list(range(200))
    assert max(seen) <= 4
    assert max(read_first) < 8 * 4
    assert parts in (None, len(seen))
