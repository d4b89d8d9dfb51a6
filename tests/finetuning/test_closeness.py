"""Distances between networks, and reading them from disk."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from countermove.errors import WeightsError
from countermove.finetuning.closeness import angle, distances, layer_distances, read_checkpoint, unshared
from countermove.finetuning.layers import block_of


def state(seed: int) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return {
        "encoder.layer.0.dense.weight": torch.randn(30, 40, generator=source),
        "encoder.layer.0.dense.bias": torch.randn(30, generator=source),
        "encoder.layer.1.dense.weight": torch.randn(30, 40, generator=source),
        "head.weight": torch.randn(4, 30, generator=source),
        "steps": torch.tensor(3),
    }


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("bert.encoder.layer.3.output.dense.weight", "bert.encoder.layer.3"),
        ("layer1.0.conv1.weight", "layer1.0"),
        ("bert.embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings"),
        ("classifier.bias", "classifier"),
        ("weight", "weight"),
    ],
)
def test_blocks(name: str, block: str) -> None:
    assert block_of(name) == block


def test_distances_by_hand() -> None:
    base, tuned = {"w": torch.tensor([3.0, 0.0])}, {"w": torch.tensor([3.0, 4.0])}
    (found,) = distances(base, tuned)
    assert (found.l1, found.l2, found.numel, found.changed, found.scale) == (4.0, 4.0, 2, 1, 3.0)
    assert found.angle == pytest.approx(math.atan2(4, 3) / math.pi)


def test_angles_keep_their_digits_where_vectors_are_nearly_parallel() -> None:
    """acos of a cosine in single precision would give 0 or a thousandth."""
    one = torch.randn(10_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    side = torch.randn(10_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    side -= one * (side @ one) / (one @ one)
    for tangent in (1e-9, 1e-6, 1e-3):
        moved = one + tangent * side * one.norm() / side.norm()
        assert angle(one, moved) == pytest.approx(tangent / math.pi, rel=1e-5)
    assert angle(one, -one) == pytest.approx(1)
    assert angle(one, side) == pytest.approx(0.5)
    assert angle(one * 0, one * 0) == 0
    assert angle(one, one * 0) == 0.5


def test_layers_join_their_tensors_and_chance_is_a_right_angle() -> None:
    base, tuned = state(0), state(1)
    layers = {d.name: d for d in layer_distances(base, tuned)}
    assert list(layers) == ["encoder.layer.0", "encoder.layer.1", "head"]
    parts = {d.name: d for d in distances(base, tuned)}
    first = layers["encoder.layer.0"]
    inner = [parts["encoder.layer.0.dense.weight"], parts["encoder.layer.0.dense.bias"]]
    assert first.numel == 1230
    assert first.l1 == pytest.approx(sum(d.l1 for d in inner))
    assert first.l2 == pytest.approx(math.hypot(*(d.l2 for d in inner)))
    assert first.chance == pytest.approx(0.5, abs=0.03)
    assert first.angle == pytest.approx(first.chance, abs=0.03), "two random networks lie as far as chance says"
    assert first.l1 == pytest.approx(first.chance_l1, rel=0.1)
    close = {name: tensor + 0.001 if tensor.is_floating_point() else tensor for name, tensor in base.items()}
    assert all(d.angle < d.chance / 100 for d in layer_distances(base, close))


def test_networks_of_other_kinds_are_refused() -> None:
    with pytest.raises(WeightsError, match="share no parameter"):
        distances({"a": torch.zeros(2)}, {"b": torch.zeros(2)})
    with pytest.raises(WeightsError, match="in one network"):
        distances({"a": torch.zeros(2)}, {"a": torch.zeros(3)})
    assert unshared({"a": torch.zeros(2), "c": torch.zeros(1)}, {"b": torch.zeros(2), "c": torch.zeros(1)}) == (
        ["a"],
        ["b"],
    )


def test_checkpoints_are_read_from_files_folders_and_shards(tmp_path: Path) -> None:
    held = {name: tensor for name, tensor in state(0).items()}
    safetensors.torch.save_file(held, tmp_path / "one.safetensors")
    folder = tmp_path / "folder"
    folder.mkdir()
    safetensors.torch.save_file(held, folder / "model.safetensors")
    shards = tmp_path / "shards"
    shards.mkdir()
    names = list(held)
    parts = {"model-1.safetensors": names[:2], "model-2.safetensors": names[2:]}
    for file, inner in parts.items():
        safetensors.torch.save_file({name: held[name] for name in inner}, shards / file)
    where = {name: file for file, inner in parts.items() for name in inner}
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    old = tmp_path / "old"
    old.mkdir()
    torch.save(held, old / "pytorch_model.bin")
    for path in (tmp_path / "one.safetensors", folder, shards, old):
        found = read_checkpoint(path)
        assert set(found) == set(held)
        assert all(torch.equal(found[name], held[name]) for name in held)


def test_bad_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there are no weights"):
        read_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="holds none of"):
        read_checkpoint(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    for told in ("{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": "../other.safetensors"}}'):
        index.write_text(told)
        with pytest.raises(WeightsError):
            read_checkpoint(tmp_path)
