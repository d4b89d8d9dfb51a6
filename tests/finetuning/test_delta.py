"""A task as a file: round trips, sizes, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from countermove.errors import RunError, WeightsError
from countermove.finetuning.delta import _content, apply, difference, read_delta, restored, weights_hash
from countermove.finetuning.masks import MaskStart

State = dict[str, Tensor]


def base(seed: int = 0, dtype: torch.dtype = torch.float32) -> State:
    source = torch.Generator().manual_seed(seed)
    return {
        "a.weight": torch.randn(40, 30, generator=source).to(dtype),
        "a.bias": torch.randn(40, generator=source).to(dtype),
        "norm.steps": torch.tensor(7),
    }


def masked(state: State, start: MaskStart, flips: int) -> State:
    """Return the state with the start's mask, some bits of it turned over."""
    mask = start.mask("a.weight", state["a.weight"]).flatten()
    turned = torch.randperm(mask.numel(), generator=torch.Generator().manual_seed(9))[:flips]
    mask[turned] = ~mask[turned]
    return {
        **state,
        "a.weight": torch.where(mask.view(40, 30), state["a.weight"], torch.zeros((), dtype=state["a.weight"].dtype)),
    }


def same(first: State, second: State) -> bool:
    return weights_hash(first) == weights_hash(second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "start", [MaskStart(sparsity=0.2), MaskStart(init="random", sparsity=0.2), MaskStart(init="ones")]
)
@pytest.mark.parametrize("flips", [0, 1, 60, 1200])
def test_masks_come_back_bit_by_bit(tmp_path: Path, dtype: torch.dtype, start: MaskStart, flips: int) -> None:
    before = base(dtype=dtype)
    after = masked(before, start, flips)
    delta = difference(before, after, starts={"a.weight": start})
    size = delta.save(tmp_path / "task.safetensors")
    assert size == (tmp_path / "task.safetensors").stat().st_size
    kinds = {name: entry.kind for name, entry in delta.entries.items()}
    assert kinds in ({"a.weight": "mask"}, {}), "nothing else is stored"
    assert same(restored(before, read_delta(tmp_path / "task.safetensors")), after)


def test_whole_new_and_tied_tensors_come_back(tmp_path: Path) -> None:
    before = base()
    head = torch.randn(3, 40)
    after = {**before, "a.bias": before["a.bias"] + 1e-7, "norm.steps": torch.tensor(9), "head.weight": head}
    after["again.weight"] = after["head.weight"]
    delta = difference(before, after)
    delta.save(tmp_path / "task.safetensors")
    found = read_delta(tmp_path / "task.safetensors")
    assert {name: entry.kind for name, entry in found.entries.items()} == {
        "a.bias": "whole",
        "norm.steps": "whole",
        "again.weight": "new",
        "head.weight": "tied",
    }
    assert same(restored(before, found), after)
    drawn = {**before, "head.weight": torch.randn(3, 40), "again.weight": torch.randn(3, 40)}
    assert same(restored(drawn, found), after), "what stands where something new comes does not matter"


def test_few_flips_take_their_entropy() -> None:
    """0.5 % of a million bits: within 2 % of the entropy, and far below a bit each."""
    source = torch.Generator().manual_seed(0)
    before = {"w": torch.randn(1000, 1000, generator=source)}
    start = MaskStart(sparsity=0.1)
    mask = start.mask("w", before["w"]) ^ (torch.rand(1000, 1000, generator=source) < 0.005)
    delta = difference(before, {"w": torch.where(mask, before["w"], 0)}, starts={"w": start})
    p = delta.entries["w"].flips / 1e6
    entropy = -(p * math.log2(p) + (1 - p) * math.log2(1 - p)) * 1e6 / 8
    assert entropy <= len(delta.to_bytes()) < 1.02 * entropy + 1000


def test_the_same_change_gives_the_same_bytes() -> None:
    before, start = base(), MaskStart(sparsity=0.2)
    after = masked(before, start, 50)
    one, other = (difference(dict(s), dict(after), starts={"a.weight": start}) for s in (before, reversed_(before)))
    assert one.to_bytes() == other.to_bytes()


def reversed_(state: State) -> State:
    return dict(reversed(state.items()))


def test_a_hash_sees_names_kinds_shapes_and_bits() -> None:
    state = {"a": torch.zeros(4)}
    others = [{"b": torch.zeros(4)}, {"a": torch.zeros(2, 2)}, {"a": torch.zeros(4).int()}, {"a": -torch.zeros(4)}]
    hashes = {weights_hash(state), *(weights_hash(other) for other in others)}
    assert len(hashes) == 5
    net = nn.Conv2d(3, 4, 3)
    before = weights_hash(net.state_dict())
    assert weights_hash(net.to(memory_format=torch.channels_last).state_dict()) == before, "not the layout"  # pyright: ignore


def small() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 2))


def changed(net: nn.Module, name: str, add: float) -> State:
    state = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    state[name] += add
    return state


def test_deltas_stack_and_come_off_in_reverse() -> None:
    net = small()
    bottom = weights_hash(net.state_dict())
    first = apply(net, difference(net.state_dict(), changed(net, "0.bias", 1.0)))
    middle = weights_hash(net.state_dict())
    second = apply(net, difference(net.state_dict(), changed(net, "1.weight", 0.5)))
    with pytest.raises(WeightsError, match="remove what came later first"):
        first.remove()
    second.remove()
    assert weights_hash(net.state_dict()) == middle
    first.remove()
    assert weights_hash(net.state_dict()) == bottom


def test_a_wrong_base_is_refused_and_left_alone() -> None:
    net = small()
    delta = difference(net.state_dict(), changed(net, "0.bias", 1.0))
    other = small()
    with torch.no_grad():
        other.get_parameter("1.weight")[0, 0] += 1e-6
    before = weights_hash(other.state_dict())
    with pytest.raises(WeightsError, match="belongs to other weights"):
        apply(other, delta)
    assert weights_hash(other.state_dict()) == before
    with pytest.raises(WeightsError, match="the network has no"):
        apply(nn.Sequential(nn.Linear(5, 6, bias=False)), delta)
    with pytest.raises(WeightsError, match="in the network and"):
        apply(small().half(), delta)
    renamed = {name.replace("0.", "first."): tensor for name, tensor in net.state_dict().items()}
    with pytest.raises(WeightsError, match="lack 0"):
        difference(net.state_dict(), renamed)
    with pytest.raises(WeightsError, match="in the tuned weights"):
        difference(net.state_dict(), {**net.state_dict(), "0.bias": torch.zeros(7)})


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    before, start = base(), MaskStart(sparsity=0.2)
    after = {**masked(before, start, 50), "head.weight": torch.randn(3, 40)}
    difference(before, after, starts={"a.weight": start}).save(tmp_path / "task.safetensors")
    return tmp_path / "task.safetensors"


def test_every_flipped_byte_is_noticed(stored: Path) -> None:
    raw = stored.read_bytes()
    source = torch.Generator().manual_seed(0)
    for place in torch.randint(len(raw), (60,), generator=source).tolist():
        broken = bytearray(raw)
        broken[place] ^= 1
        stored.write_bytes(broken)
        with pytest.raises(WeightsError):
            read_delta(stored)


@pytest.mark.parametrize("keep", [0, 1, 8, 100, -1, -100])
def test_a_file_that_was_cut_short_is_refused(stored: Path, keep: int) -> None:
    stored.write_bytes(stored.read_bytes()[:keep])
    with pytest.raises(WeightsError):
        read_delta(stored)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no delta"):
        read_delta(tmp_path / "none.safetensors")
    safetensors.torch.save_file({"a": torch.zeros(3)}, tmp_path / "plain.safetensors")
    with pytest.raises(WeightsError, match="is no delta"):
        read_delta(tmp_path / "plain.safetensors")


MASKED = {"kind": "mask", "shape": [40, 30], "dtype": "float32", "start": {"sparsity": 0.2}, "flips": 50}


def facts_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["delta"])


def rewritten(path: Path, change: dict[str, Any]) -> None:
    """Write the file anew with other facts and the hash that belongs to them, as an attacker would."""
    facts = {**facts_of(path), **change}
    del facts["content"]
    tensors = safetensors.torch.load_file(path)
    told = json.dumps({**facts, "content": _content(facts, tensors)})
    safetensors.torch.save_file(tensors, path, metadata={"delta": told})


@pytest.mark.parametrize(
    "entries",
    [
        [],
        None,
        {"a.weight": {}},
        {"a.weight": {"kind": "code", "shape": [1], "dtype": "float32"}},
        {"a.weight": {"kind": "mask", "shape": [40, 30], "dtype": "float32"}},
        {"a.weight": {"kind": "mask", "shape": [40, 30], "dtype": "float32", "start": {"sparsity": 7}}},
        {"a.bias": {"kind": "whole", "shape": [40], "dtype": "float32"}},
        {"a.weight": {"kind": "tied", "shape": [40], "dtype": "float32"}},
        {"a.bias": {"kind": "tied", "shape": [40], "dtype": "float32", "to": 7}},
        {"a.weight": {**MASKED, "shape": [float("inf"), 30]}},
        {"a.weight": {**MASKED, "flips": float("inf")}},
        {"a.weight": {**MASKED, "flips": "50"}},
    ],
)
def test_lying_descriptions_are_refused(stored: Path, entries: Any) -> None:
    rewritten(stored, {"entries": entries})
    with pytest.raises(WeightsError):
        read_delta(stored)


@pytest.mark.parametrize("flips", [-1, 10**400, 1201])
def test_masks_that_flip_more_or_less_than_there_is_are_refused(stored: Path, flips: int) -> None:
    told = facts_of(stored)["entries"]
    told["a.weight"]["flips"] = flips
    rewritten(stored, {"entries": told})
    with pytest.raises(WeightsError):
        restored(base(), read_delta(stored))


def test_a_tie_to_nowhere_is_refused(stored: Path) -> None:
    told = facts_of(stored)["entries"]
    told["a.bias"] = {"kind": "tied", "shape": [40], "dtype": "float32", "to": "nowhere"}
    rewritten(stored, {"entries": told})
    with pytest.raises(WeightsError, match="ties"):
        restored(base(), read_delta(stored))


@pytest.mark.parametrize(("first", "second"), [("a.bias", "copy.bias"), ("0.bias", "a.bias")])
def test_a_new_name_for_a_tensor_of_the_base_comes_back(tmp_path: Path, first: str, second: str) -> None:
    """As of a decoder that is tied to the embeddings and that files leave out."""
    before = base()
    tuned = before["a.bias"] + 1
    after = {first: tuned, second: tuned, **{name: before[name] for name in before if name != "a.bias"}}
    difference(before, after).save(tmp_path / "task.safetensors")
    assert same(restored(before, read_delta(tmp_path / "task.safetensors")), after)


def test_a_mask_that_decodes_to_something_else_is_refused_by_the_promise(stored: Path) -> None:
    told = facts_of(stored)["entries"]
    told["a.weight"]["flips"] += 1
    rewritten(stored, {"entries": told})
    with pytest.raises(WeightsError):
        restored(base(), read_delta(stored))
    rewritten(stored, {"tuned": "0" * 64})
    with pytest.raises(WeightsError):
        restored(base(), read_delta(stored))


def test_a_mask_for_a_tensor_of_another_size_is_refused_before_it_is_decoded(stored: Path) -> None:
    told = facts_of(stored)["entries"]
    told["a.weight"]["shape"] = [10**9, 10**9]
    rewritten(stored, {"entries": told})
    with pytest.raises(WeightsError, match="the base has none like it"):
        restored(base(), read_delta(stored))


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot write"):
        difference(base(), base()).save(tmp_path / "no" / "task.safetensors")


def test_metadata_nested_beyond_reason_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(3)}, path, metadata={"delta": "[" * 100_000})
    with pytest.raises(WeightsError):
        read_delta(path)
