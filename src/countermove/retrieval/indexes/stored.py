"""Indexes on disk: one file of tensors and one of facts, loaded only by an engine with the same fingerprint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from countermove.errors import DataError, RunError
from countermove.pixels.files import write_atomic
from countermove.retrieval.collection import Pictures

FACTS, TENSORS = "index.json", "index.safetensors"
FORMAT = 1


def write_index(folder: Path, fingerprint: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write an index into an empty folder, which is made where it is not there.

    Raises:
        RunError: when something is in the folder, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}. Choose another folder") from None
    if there:
        raise RunError(f"{folder} holds {there[0]}; an index is saved into an empty folder")
    write_atomic(folder / TENSORS, save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))
    # Last, so that a folder with facts is a whole index.
    facts = {"format": FORMAT, "fingerprint": fingerprint}
    write_atomic(folder / FACTS, json.dumps(facts, indent=2, sort_keys=True).encode())


def read_index(folder: Path, fingerprint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of an index.

    Raises:
        DataError: when there is none, it is broken, or was built with other settings or weights.
    """
    stored = read_facts(folder)
    asked = json.loads(json.dumps(fingerprint))
    if stored != asked:
        differ = [name for name in sorted({*stored, *asked}) if stored.get(name) != asked.get(name)]
        told = "; ".join(f"{name} was {stored.get(name)!r}, now {asked.get(name)!r}" for name in differ)
        raise DataError(
            f"the index in {folder} was built otherwise: {told}. Build it again, or use what it was built by"
        )
    try:
        return load_file(folder / TENSORS)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder / TENSORS} is broken: {error}. Build the index again") from None


def read_facts(folder: Path) -> dict[str, Any]:
    """Return the fingerprint of the engine that built an index.

    Raises:
        DataError: when there is no index, or one of another format.
    """
    try:
        facts = json.loads((folder / FACTS).read_bytes())
        form, fingerprint = facts["format"], facts["fingerprint"]
    except OSError as error:
        raise DataError(f"{folder} holds no index ({FACTS}: {error.strerror})") from None
    except (ValueError, LookupError, TypeError):
        raise DataError(f"{folder / FACTS} is broken. Build the index again") from None
    if form != FORMAT or not isinstance(fingerprint, dict):
        raise DataError(f"{folder / FACTS} has the format {form!r}; this version reads {FORMAT}. Build the index again")
    return fingerprint


def stored_tensor(tensors: Mapping[str, Tensor], name: str, dtype: torch.dtype, *shape: int | None) -> Tensor:
    """Return a tensor that was read, of a kind and a shape, of which None is free.

    Raises:
        DataError: when there is none such.
    """
    tensor = tensors.get(name)
    fits = (
        tensor is not None
        and tensor.dtype == dtype
        and len(tensor.shape) == len(shape)
        and all(want in (None, size) for size, want in zip(tensor.shape, shape, strict=True))
    )
    if tensor is None or not fits:
        raise DataError(f"{TENSORS} has no tensor {name} of the kind an index has. Build the index again")
    return tensor


def kept_rows(count: int, removed: Sequence[int]) -> Tensor:
    """Return the rows that stay, int64.

    Raises:
        DataError: when there is no such row.
    """
    wrong = [row for row in removed if not 0 <= row < count]
    if wrong:
        raise DataError(f"row {wrong[0]} cannot be taken out of an index of {count} pictures")
    stays = torch.ones(count, dtype=torch.bool)
    stays[torch.tensor(list(removed), dtype=torch.int64)] = False
    return stays.nonzero()[:, 0]


def by_shape(
    pictures: Pictures | Sequence[Tensor], describe: Callable[[Tensor], Tensor], *, at_once: int = 32
) -> Tensor:
    """Describe pictures of several sizes, same-sized ones together; rows come back in the order given.

    Args:
        pictures: uint8 [3, H, W] each.
        describe: from [n, 3, H, W] to [n, D].
        at_once:  how many pictures of one size are gathered before they are described.
    """
    waiting: dict[tuple[int, ...], list[tuple[int, Tensor]]] = {}
    found: dict[int, Tensor] = {}

    def flush(group: list[tuple[int, Tensor]]) -> None:
        if group:
            described = describe(torch.stack([picture for _, picture in group]))
            found.update(zip((row for row, _ in group), described, strict=True))
            group.clear()

    for row in range(len(pictures)):
        picture = checked(pictures[row])
        group = waiting.setdefault(tuple(picture.shape), [])
        group.append((row, picture))
        if len(group) == at_once:
            flush(group)
        # A folder of photographs may have as many sizes as pictures; what waits must not become the folder.
        elif sum(map(len, waiting.values())) >= 8 * at_once:
            for other in waiting.values():
                flush(other)
    for group in waiting.values():
        flush(group)
    if not found:
        raise DataError("there is no picture; an index or a search needs at least one")
    return torch.stack([found[row] for row in range(len(found))])


def checked(picture: Tensor) -> Tensor:
    """Return a picture as it is; refuse what is none.

    Raises:
        DataError: when it is not uint8 [3, H, W] with pixels.
    """
    if picture.dtype != torch.uint8 or picture.ndim != 3 or picture.shape[0] != 3 or 0 in picture.shape:
        raise DataError(f"a picture must be uint8 [3, H, W]; got {picture.dtype} {list(picture.shape)}")
    return picture
