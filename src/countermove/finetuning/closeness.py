"""How far a tuned network lies from where it began, layer by layer.

Radiya-Dixit and Wang 2020 (arXiv:2004.14129) measure L1 and angular distances in the space of parameters, and compare
them with those between independent random initialisations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from countermove.errors import WeightsError
from countermove.finetuning.layers import block_of
from countermove.nets.weights import SUFFIXES, read_state
from countermove.pixels.randomness import generator

State = Mapping[str, Tensor]
ONE_FILE = ("model.safetensors", "adapter_model.safetensors", "pytorch_model.bin")
SHARDED = "model.safetensors.index.json"


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far two tensors, or two layers, lie apart.

    name:    of the tensor or layer.
    numel:   how many numbers it holds; `changed` of them differ.
    l1, l2:  norms of the difference.
    angle:   between the two as vectors, in parts of a half turn: 0 the same direction, 0.5 at right angles, 1 opposite.
    scale:   L1 norm of the first, to tell `l1` against.
    chance:  the angle to a vector with the same entries in random order: what two unrelated networks would have.
    chance_l1: likewise, the L1 distance.
    """

    name: str
    numel: int
    changed: int
    l1: float
    l2: float
    angle: float
    scale: float
    chance: float
    chance_l1: float


def distances(base: State, tuned: State, *, seed: int = 0) -> list[Distance]:
    """Return the distance of every floating-point tensor that both have, in the base's order.

    Args:
        base: weights by name.
        tuned: likewise.
        seed: of the random order that `chance` is measured with.

    Raises:
        WeightsError: when no tensor is in both, or a shape differs.
    """
    shared = [name for name in base if name in tuned and base[name].is_floating_point()]
    if not shared:
        raise WeightsError("the two networks share no parameter by name; are they of one kind?")
    for name in shared:
        if base[name].shape != tuned[name].shape:
            raise WeightsError(
                f"{name} is {list(base[name].shape)} in one network and {list(tuned[name].shape)} in the other"
            )
    return [_between(name, [(name, base[name], tuned[name])], seed) for name in shared]


def layer_distances(base: State, tuned: State, *, seed: int = 0) -> list[Distance]:
    """Return the distance of every block (see `layers.block_of`), all its tensors joined to one vector.

    Raises:
        WeightsError: as `distances`.
    """
    _ = distances(base, tuned, seed=seed)
    blocks: dict[str, list[tuple[str, Tensor, Tensor]]] = {}
    for name in base:
        if name in tuned and base[name].is_floating_point():
            blocks.setdefault(block_of(name), []).append((name, base[name], tuned[name]))
    return [_between(block, held, seed) for block, held in blocks.items()]


def unshared(base: State, tuned: State) -> tuple[list[str], list[str]]:
    """Return the names that only the base has, and those that only the tuned network has."""
    return sorted(set(base) - set(tuned)), sorted(set(tuned) - set(base))


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read weights from a file (.safetensors, .pt, .pth, .ckpt) or a folder as transformers writes it, shards joined.

    Raises:
        WeightsError: when there is nothing, it is broken, or a shard lies outside the folder.
    """
    if not path.is_dir():
        return read_state(path)
    index = path / SHARDED
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise WeightsError(f"{index} names no shards ({error}); fetch it again") from None
        if any(not isinstance(shard, str) or Path(shard).name != shard for shard in shards):
            raise WeightsError(f"{index} names shards outside its folder; it is not read")
        return {name: tensor for shard in shards for name, tensor in read_state(path / shard).items()}
    for name in ONE_FILE:
        if (path / name).is_file():
            return _bin(path / name) if name.endswith(".bin") else read_state(path / name)
    raise WeightsError(f"{path} holds none of {', '.join([SHARDED, *ONE_FILE])}; name a file of {', '.join(SUFFIXES)}")


def _bin(path: Path) -> dict[str, Tensor]:
    """Read the older kind of file, which is a pickle of tensors, with the restricted reader."""
    from countermove.nets.weights import read_tree

    state = read_tree(path)
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds more than tensors; save model.state_dict() itself")
    return state


def _between(name: str, held: list[tuple[str, Tensor, Tensor]], seed: int) -> Distance:
    """Measure pairs of tensors as one pair of vectors."""
    one, other, order = (_joined(held, part, seed) for part in ("base", "tuned", "shuffled"))
    gap = other - one
    return Distance(
        name=name,
        numel=one.numel(),
        changed=int((gap != 0).sum()),
        l1=float(gap.abs().sum()),
        l2=float(gap.norm()),
        angle=angle(one, other),
        scale=float(one.abs().sum()),
        chance=angle(one, order),
        chance_l1=float((order - one).abs().sum()),
    )


def _joined(held: list[tuple[str, Tensor, Tensor]], part: str, seed: int) -> Tensor:
    """Join tensors to one vector; shuffled: each within itself, so that its distribution stays."""
    if part == "tuned":
        return torch.cat([tuned.detach().double().flatten() for _, _, tuned in held])
    vectors = [base.detach().double().flatten() for _, base, _ in held]
    if part == "shuffled":
        vectors = [
            vector[torch.randperm(len(vector), generator=generator(seed, "shuffled", name))]
            for vector, (name, _, _) in zip(vectors, held, strict=True)
        ]
    return torch.cat(vectors)


def angle(first: Tensor, second: Tensor) -> float:
    """Return the angle between two vectors in parts of a half turn; 0 where both are zero, 0.5 where one is.

    By the half-angle form, which keeps its digits where vectors are nearly parallel (Kahan 2006).
    """
    a, b = first.double(), second.double()
    long, short = a.norm(), b.norm()
    if not long or not short:
        return 0.0 if not long and not short else 0.5
    a, b = a / long, b / short
    return float(2 * torch.atan2((a - b).norm(), (a + b).norm())) / math.pi
