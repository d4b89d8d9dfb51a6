"""Files of weights: read without running anything, checked against a hash, fitted to a network by exact names."""

from __future__ import annotations

import hashlib
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from countermove.errors import WeightsError

MAX_HEADER = 8 * 2**20
"""Bytes of a safetensors file's list of tensors, enough for fifty thousand of them."""

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")

BROKEN = (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, struct.error)
BROKEN += (AssertionError, ArithmeticError, MemoryError, zipfile.BadZipFile)
"""What readers that check little before they act, torch's restricted one among them, make of broken bytes."""


def save_weights(model: nn.Module, path: Path) -> None:
    """Write all parameters and persistent buffers as safetensors; tensors that share memory are written once.

    The same weights give the same bytes, whatever the device or the memory format.
    """
    state = model.state_dict()
    first = first_names(state)
    kept = {name: plain(tensor) for name, tensor in sorted(state.items()) if first[name] == name}
    safetensors.torch.save_file(kept, path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Read what `save_weights` wrote into a network of the same form, in place. Its device and mode are kept.

    Raises:
        WeightsError: when the file is absent, broken, or of another network; the model is then unchanged.
    """
    fit(model, read_state(path), path)


def read_state(path: Path, *, sha256: str | None = None, under: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors, .pt, .pth or .ckpt file by name, on the CPU.

    All but the first are pickles: only tensors and plain containers are let through, and there is no way around that.
    `under` is the entry of such a file that holds them, where a training run saved other things beside; a file that
    holds nothing but tensors is read as it is.

    Raises:
        WeightsError: when the file is absent, has another hash, is broken, or holds anything but tensors.
    """
    if not path.is_file():
        raise WeightsError(f"there are no weights at {path}; check the path")
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path} does not end in {', '.join(SUFFIXES)}; no other file of weights is read")
    if sha256 is not None:
        check_sha256(path, sha256)
    if path.suffix == ".safetensors":
        check_header(path)
        try:
            return safetensors.torch.load_file(path)
        except (SafetensorError, *BROKEN) as error:
            raise WeightsError(f"{path} is not a whole safetensors file ({error}); fetch or save it again") from error
    state = _restricted(path)
    if under is not None and not (isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())):
        state = state.get(under) if isinstance(state, dict) else None
        if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
            raise WeightsError(f'{path} holds no tensors under "{under}"; name the network it was saved from')
        return {str(key): value for key, value in state.items()}
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        held = f"a dictionary with {_some(state)}" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise WeightsError(f"{path} holds {held}; save model.state_dict() itself, which is names and tensors only")
    return state


def read_tree(path: Path, *, sha256: str | None = None) -> dict[str, Any]:
    """Return what a pickle of torch's holds: names, tensors, numbers, texts, containers and numpy arrays of numbers.

    For files that keep more than tensors, which `read_state` refuses. Nothing else is let through either.

    Raises:
        WeightsError: when the file is absent, has another hash, is broken, or holds anything else.
    """
    if not path.is_file():
        raise WeightsError(f"there are no weights at {path}; check the path")
    if sha256 is not None:
        check_sha256(path, sha256)
    allowing = getattr(torch.serialization, "safe_globals", None)
    if allowing is None:
        raise WeightsError(
            f"{path} may hold numpy arrays, which torch {torch.__version__} cannot be let read; take 2.6"
        )
    kinds = {type(np.dtype(code)) for code in ("f2", "f4", "f8", "i4", "i8")}
    rebuild = np.zeros(0).__reduce__()[0]
    # the function that rebuilds an array moved when numpy 2 came
    named = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    with allowing([*named, np.ndarray, np.dtype, *kinds]):
        tree = _restricted(path)
    if not isinstance(tree, dict):
        raise WeightsError(f"{path} holds a {type(tree).__name__}, not names and what they stand for")
    return tree


def _restricted(path: Path) -> Any:
    """Read a pickle of torch's with the restricted reader.

    Raises:
        WeightsError: when it is broken, or holds what that reader does not let through.
    """
    try:
        _check_stored(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle's age; what matters is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} was not opened: it is a pickle that holds more than tensors, and could run code, or it is broken. "
            "Ask for the weights as .safetensors, or save model.state_dict() where you trust the file"
        ) from error
    except BROKEN as error:
        raise WeightsError(f"{path} is not a whole PyTorch file ({error}); fetch or save it again") from error


def check_header(path: Path) -> None:
    """Refuse a safetensors file whose list of tensors is longer than any network's; reading it takes many times that.

    Raises:
        WeightsError: when it is, or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if length > MAX_HEADER:
        raise WeightsError(f"{path} has a header of {length:,} bytes; at most {MAX_HEADER:,} are read")


def _check_stored(path: Path) -> None:
    """Refuse a packed archive: torch packs nothing, and what is packed may be any size when it is read."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if packed or sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError("its parts are packed, or larger than the file")


def check_sha256(path: Path, expected: str, *, origin: str = "the hash that was given") -> None:
    """Compare a file with its SHA-256 in hexadecimal digits, or with the first digits of it.

    Raises:
        WeightsError: when they differ.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected.lower()):
        raise WeightsError(
            f"{path} has SHA-256 {found}, but {origin} is {expected}; "
            "the file is another one or was cut short: delete it and fetch it again, or correct the hash"
        )


def fit(model: nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    """Copy tensors into a network; the names and shapes must be exactly its own.

    Raises:
        WeightsError: listing missing and unexpected names and wrong shapes; the model is then unchanged.
    """
    own = model.state_dict()
    first = first_names(own)
    present = {first[name]: name for name in state if name in own}
    missing = sorted(name for name in own if first[name] not in present)
    unexpected = sorted(name for name in state if name not in own)
    shapes = [
        f"{name} is {list(state[name].shape)}, not {list(own[name].shape)}"
        for name in sorted(state)
        if name in own and state[name].shape != own[name].shape
    ]
    if missing or unexpected or shapes:
        parts = [f"missing: {_some(missing)}"] if missing else []
        parts += [f"unexpected: {_some(unexpected)}"] if unexpected else []
        parts += [f"wrong shape: {_some(shapes)}"] if shapes else []
        raise WeightsError(f"{source} does not fit the network; {'; '.join(parts)}. Name the network it was saved from")
    model.load_state_dict({name: state[name] if name in state else state[present[first[name]]] for name in own})


def first_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Map every name to the first, in sorted order, under which the very same tensor is found."""
    seen: dict[object, str] = {}
    names = {}
    for name in sorted(state):
        tensor = state[name]
        place = (tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride())
        names[name] = seen.setdefault(place, name) if tensor.numel() else name
    return names


def plain(tensor: Tensor) -> Tensor:
    """Return a copy on the CPU, laid out as files want it."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _some(names: Iterable[object], most: int = 8) -> str:
    names = [str(name) for name in names]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
