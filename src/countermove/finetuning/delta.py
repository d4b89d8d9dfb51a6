"""A task as a small file: what must change in known weights, and nothing else.

One safetensors file. Its metadata name the weights that it belongs to and those that it gives, both by SHA-256, and
what every tensor is: a mask (bits against a mask that can be computed again, entropy-coded), a whole tensor, a whole
tensor that the base does not have, or another name of one that is already there. Nothing in it can run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from countermove.errors import ConfigError, WeightsError
from countermove.finetuning.layers import put
from countermove.finetuning.masks import MaskStart
from countermove.game.store import write_atomic
from countermove.nets.weights import check_header, first_names, plain

FORMAT, KEY = "countermove delta 1", "delta"
Kind = Literal["mask", "whole", "new", "tied"]
State = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What becomes of one tensor.

    kind:  "mask", "whole", "new" or "tied".
    shape, dtype: of the tensor it gives.
    start: of a mask, the one that its bits are told against.
    flips: of a mask, how many bits differ from that.
    to:    of a tied tensor, the name it is another one of.
    data:  coded words (uint32 [n]) of a mask, the tensor itself for "whole" and "new"; None where nothing is stored.
    """

    kind: Kind
    shape: tuple[int, ...]
    dtype: str
    start: MaskStart | None = None
    flips: int = 0
    to: str = ""
    data: Tensor | None = None

    def described(self) -> dict[str, Any]:
        """Return everything but the data."""
        told: dict[str, Any] = {"kind": self.kind, "shape": list(self.shape), "dtype": self.dtype}
        if self.start is not None:
            told |= {"start": asdict(self.start), "flips": self.flips}
        return told | ({"to": self.to} if self.to else {})


@dataclass(frozen=True, kw_only=True)
class Delta:
    """The change from one set of weights to another.

    base, tuned: SHA-256 of the weights before, without those that are new, and after.
    fresh:       names of the tensors that are new: they may stand in a base with any content.
    entries:     by the name of the tensor.
    """

    base: str
    tuned: str
    fresh: tuple[str, ...] = ()
    entries: dict[str, Entry] = field(default_factory=dict)

    def save(self, path: Path) -> int:
        """Write the file, whole or not at all, and return its size in bytes.

        Raises:
            RunError: when it cannot be written.
        """
        raw = self.to_bytes()
        write_atomic(path, raw)
        return len(raw)

    def to_bytes(self) -> bytes:
        """Return the file's content; the same change gives the same bytes."""
        tensors = {name: e.data.contiguous() for name, e in sorted(self.entries.items()) if e.data is not None}
        facts = {
            "format": FORMAT,
            "base": self.base,
            "tuned": self.tuned,
            "fresh": list(self.fresh),
            "entries": {name: e.described() for name, e in sorted(self.entries.items())},
        }
        facts["content"] = _content(facts, tensors)
        # one key alone: safetensors writes several in any order
        return safetensors.torch.save(tensors, metadata={KEY: json.dumps(facts, sort_keys=True)})


def difference(
    base: State, tuned: State, *, starts: Mapping[str, MaskStart] | None = None, new: Collection[str] = ()
) -> Delta:
    """Return what leads from a base to tuned weights, bit by bit.

    A tensor whose changed entries all became zero is told as a mask, every other changed one as a whole.

    Args:
        base: weights and buffers by name.
        tuned: likewise; names that the base lacks, and those in `new`, are stored whole and do not count for its hash.
        starts: the masks that a training began with, by tensor; told against them, few bits carry information.
        new: names that no published base has, such as a task's own output layer.

    Raises:
        WeightsError: when the tuned weights lack some of the base's, or shapes or kinds differ.
    """
    fresh = {name for name in tuned if name not in base} | set(new)
    missing = sorted(name for name in base if name not in tuned and name not in fresh)
    if missing:
        raise WeightsError(f"the tuned weights lack {', '.join(missing[:5])}; is this another network?")
    firsts = first_names(tuned)
    entries: dict[str, Entry] = {}
    for name, tensor in tuned.items():
        shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
        if name not in fresh:
            if base[name].shape != tensor.shape or base[name].dtype != tensor.dtype:
                raise WeightsError(
                    f"{name} is {_form(tensor)} in the tuned weights and {_form(base[name])} in the base"
                )
            if _same(base[name], tensor):
                continue
        if firsts[name] != name:
            entries[name] = Entry(kind="tied", shape=shape, dtype=dtype, to=firsts[name])
        elif name in fresh:
            entries[name] = Entry(kind="new", shape=shape, dtype=dtype, data=plain(tensor))
        else:
            start = (starts or {}).get(name)
            entries[name] = _masked(name, base[name], tensor, start) or Entry(
                kind="whole", shape=shape, dtype=dtype, data=plain(tensor)
            )
    known = {name: tensor for name, tensor in base.items() if name not in fresh}
    return Delta(base=weights_hash(known), tuned=weights_hash(tuned), fresh=tuple(sorted(fresh)), entries=entries)


def read_delta(path: Path) -> Delta:
    """Read a file that `Delta.save` wrote.

    Raises:
        WeightsError: when it is absent, cut short, altered, or something else.
    """
    if not path.is_file():
        raise WeightsError(f"there is no delta at {path}; check the path")
    check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if facts["format"] != FORMAT:
            raise WeightsError(f"{path} is no delta of this version: its format is {facts['format']!r}, not {FORMAT!r}")
        if facts.pop("content") != _content(facts, tensors):
            raise WeightsError(f"{path} was altered after it was written: its content does not match its hash")
        entries = {name: _entry(one, tensors.get(name)) for name, one in facts["entries"].items()}
        fresh = tuple(str(name) for name in facts["fresh"])
        if not all(entry.kind != "new" or name in fresh for name, entry in entries.items()):
            raise ValueError("what is new in it is not named")
        return Delta(base=str(facts["base"]), tuned=str(facts["tuned"]), fresh=fresh, entries=entries)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}); fetch it again") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError, ConfigError) as error:
        raise WeightsError(f"{path} is no delta, or not a whole one: {error}") from None


def restored(base: State, delta: Delta) -> dict[str, Tensor]:
    """Return the tuned weights, bit-exact, as new tensors where something changes.

    Args:
        base: weights and buffers by name; those that are new for the delta may stand there with any content.
        delta: as read.

    Raises:
        WeightsError: when these are other weights, or the result is not what the delta promises.
    """
    found = weights_hash({name: tensor for name, tensor in base.items() if name not in delta.fresh})
    if found != delta.base:
        raise WeightsError(
            f"this delta belongs to other weights: it was made for {delta.base[:16]}, these are {found[:16]}; "
            "apply it to the very base it was made from"
        )
    tuned = dict(base)
    for name, entry in delta.entries.items():
        if entry.kind != "tied":
            tuned[name] = _given(name, entry, base)
    for name, entry in delta.entries.items():
        if entry.kind == "tied":
            if entry.to not in tuned:
                raise WeightsError(f"the delta ties {name} to {entry.to!r}, which is not there")
            tuned[name] = tuned[entry.to]
    if weights_hash(tuned) != delta.tuned:
        raise WeightsError("applying this delta does not give the weights that it promises; nothing was changed")
    return tuned


class Applied:
    """A delta that stands in a network, and what it replaced."""

    def __init__(self, network: nn.Module, delta: Delta, before: dict[str, Tensor]) -> None:
        self._network, self.delta, self._before = network, delta, before

    def remove(self) -> None:
        """Put back what was there.

        Raises:
            WeightsError: when something else was applied on top, or the weights were changed since.
        """
        own = self._network.state_dict()
        if weights_hash(own) != self.delta.tuned:
            raise WeightsError("the weights have changed since this delta was applied; remove what came later first")
        put(own, self._before)


def apply(network: nn.Module, delta: Delta) -> Applied:
    """Apply a delta to a network in place, whole or not at all. Deltas stack: the next one's base is this one's result.

    Raises:
        WeightsError: as `restored`, and when the network lacks a tensor or has it in another shape or kind.
    """
    own = network.state_dict()
    for name, entry in delta.entries.items():
        if name not in own:
            raise WeightsError(f"the network has no {name}, which the delta changes; is it the same network?")
        if (list(own[name].shape), str(own[name].dtype)) != (list(entry.shape), f"torch.{entry.dtype}"):
            raise WeightsError(
                f"{name} is {_form(own[name])} in the network and {entry.dtype} {list(entry.shape)} in the delta"
            )
    tuned = restored(own, delta)
    before = {name: own[name].detach().clone() for name in delta.entries}
    put(own, {name: tuned[name] for name in delta.entries})
    return Applied(network, delta, before)


def weights_hash(state: State) -> str:
    """Return SHA-256 over names, kinds, shapes and bytes of tensors, sorted by name."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        total.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        total.update(_bytes(tensor).numpy().tobytes())
    return total.hexdigest()


def _masked(name: str, base: Tensor, tuned: Tensor, start: MaskStart | None) -> Entry | None:
    """Tell a tensor as a mask of its base, None where it is none."""
    if not tuned.is_floating_point() or (start is None and base.numel() == 0):
        return None
    base, tuned = base.detach().cpu(), tuned.detach().cpu()
    kept = tuned != 0
    start = start or MaskStart(init="ones", sparsity=0.0)
    first = start.mask(name, base)
    kept = torch.where(base == 0, first, kept)  # where nothing can change, nothing is told
    if not _same(torch.where(kept, base, torch.zeros((), dtype=base.dtype)), tuned):
        return None
    flips = (kept != first).flatten()
    return Entry(
        kind="mask",
        shape=tuple(tuned.shape),
        dtype=str(tuned.dtype).removeprefix("torch."),
        start=start,
        flips=int(flips.sum()),
        data=_coded(flips),
    )


def _given(name: str, entry: Entry, base: State) -> Tensor:
    """Return the tensor that an entry gives."""
    if entry.kind != "mask":
        assert entry.data is not None, "checked when it was read"
        return entry.data.to(base[name].device) if name in base else entry.data
    weight = base.get(name)
    if weight is None or tuple(weight.shape) != entry.shape or str(weight.dtype) != f"torch.{entry.dtype}":
        raise WeightsError(f"the delta masks {name} as {entry.dtype} {list(entry.shape)}; the base has none like it")
    assert entry.start is not None, "checked when it was read"
    assert entry.data is not None, "checked when it was read"
    kept = entry.start.mask(name, weight) ^ _decoded(entry.data, entry.flips, weight.numel()).view(weight.shape)
    return torch.where(kept.to(weight.device), weight, torch.zeros((), dtype=weight.dtype, device=weight.device))


def _coded(flips: Tensor) -> Tensor:
    """Return bits [n] as words of a range coder, which takes their entropy (constriction)."""
    count, n = int(flips.sum()), len(flips)
    if count in (0, n):
        return torch.zeros(0, dtype=torch.uint32)
    constriction = _constriction()
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(flips.numpy().astype(np.int32), constriction.stream.model.Bernoulli(count / n, perfect=False))
    return torch.from_numpy(encoder.get_compressed().copy())


def _decoded(words: Tensor, flips: int, n: int) -> Tensor:
    """Return the bits [n], bool.

    Raises:
        WeightsError: when they are not as many as they should be.
    """
    if not 0 <= flips <= n:
        raise WeightsError(f"a mask of this delta flips {flips} of {n} bits; fetch the file again")
    if flips in (0, n):
        return torch.full((n,), flips == n and n > 0)
    constriction = _constriction()
    broken = WeightsError("a mask of this delta cannot be decoded; fetch the file again")
    try:
        decoder = constriction.stream.queue.RangeDecoder(words.numpy())
        found = decoder.decode(constriction.stream.model.Bernoulli(flips / n, perfect=False), n)
    except (AssertionError, ValueError):
        raise broken from None
    bits = torch.from_numpy(found).bool()
    if int(bits.sum()) != flips:
        raise broken
    return bits


def _constriction() -> Any:
    try:
        import constriction
    except ImportError:
        raise ConfigError("masks are coded with the package constriction: countermove[finetuning]") from None
    return constriction


def _entry(told: Mapping[str, Any], data: Tensor | None) -> Entry:
    """Read one entry; every kind has exactly what it needs."""
    kind = told["kind"]
    shape = tuple(told["shape"])
    start = MaskStart(**told["start"]) if kind == "mask" else None
    fits = {
        "mask": data is not None and data.dtype == torch.uint32 and data.ndim == 1,
        "tied": data is None and isinstance(told.get("to"), str),
    }
    whole = data is not None and tuple(data.shape) == shape and str(data.dtype) == f"torch.{told['dtype']}"
    if kind not in ("mask", "whole", "new", "tied") or not fits.get(kind, whole):
        raise ValueError(f"an entry of kind {kind!r} lacks what it needs")
    flips = told.get("flips", 0)
    if not isinstance(flips, int) or not all(isinstance(side, int) for side in told["shape"]):
        raise ValueError("sizes are whole numbers")
    return Entry(
        kind=kind, shape=shape, dtype=told["dtype"], start=start, flips=flips, to=told.get("to", ""), data=data
    )


def _content(facts: Mapping[str, Any], tensors: State) -> str:
    told = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(f"{told}\0{weights_hash(tensors)}".encode()).hexdigest()


def _bytes(tensor: Tensor) -> Tensor:
    return plain(tensor).reshape(-1).view(torch.uint8)


def _same(first: Tensor, second: Tensor) -> bool:
    return torch.equal(_bytes(first), _bytes(second))


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
