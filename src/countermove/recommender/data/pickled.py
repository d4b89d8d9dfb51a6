"""Reading an .npy file of pickled objects without running anything that it asks for.

A pickle is a program: it names functions, and the reader calls them. Here no name is ever looked up. The few that numpy
writes for its own arrays and numbers stand for the harmless classes below, which rebuild plain Python objects and
check what they are given; any other name ends the reading.
"""

from __future__ import annotations

import pickle
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.lib import format as npy

from countermove.errors import DataError

_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    OSError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    struct.error,
)
"""What damaged input was seen to raise, or is documented to."""

_NUMBER = re.compile(r"[biuf][1248]")


def read_pickled_npy(path: Path) -> list[Any]:
    """Read the objects of a one-dimensional .npy file: dicts, lists, numbers, texts and bytes.

    Arrays and numpy's numbers become lists and numbers; arrays of anything but numbers and objects come back empty.
    What Python 2 wrote as str comes back as bytes. The whole file is held in memory.

    Raises:
        DataError: when the file is absent, broken, holds no pickled objects, or asks for anything else to be run.
    """
    try:
        with path.open("rb") as file:
            _check_header(file, path)
            content = _Plain(file, path).load()
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(f"{path} cannot be read as an .npy file of objects: {error}. Fetch it again") from None
    if not isinstance(content, _Array):
        raise DataError(f"{path} holds {type(content).__name__}, not an array of objects")
    return content


def _check_header(file: BinaryIO, path: Path) -> None:
    """Read up to the pickle."""
    version = npy.read_magic(file)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise DataError(f"{path} is an .npy file of version {version}; pickled objects come in 1.0 and 2.0")
    shape, _, kind = readers[version](file)
    if not kind.hasobject or len(shape) != 1:
        raise DataError(f"{path} holds {kind} {list(shape)}, not a list of pickled objects")


class _Array(list):
    """Stands for numpy.ndarray."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, _, kind, _, content = state
        self[:] = content if isinstance(content, list) else kind.read(content)


class _Kind:
    """Stands for numpy.dtype."""

    def __init__(self, code: str | bytes, *_: Any) -> None:
        self.code = _text(code)
        self.order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = _text(state[1])

    def read(self, content: bytes) -> list[Any]:
        """Return the numbers that bytes hold; none where they hold something else."""
        if not _NUMBER.fullmatch(self.code) or self.order not in ("|", "<", ">", "="):
            return []
        return np.frombuffer(content, self.order + self.code).tolist()


def _array(*_: Any) -> _Array:
    """Stands for numpy's _reconstruct: an array that is filled afterwards."""
    return _Array()


def _number(kind: _Kind, content: bytes) -> Any:
    """Stands for numpy's scalar."""
    (number,) = kind.read(content)
    return number


def _encode(text: str, codec: str | bytes) -> bytes:
    """Stands for _codecs.encode, by which Python 3 writes bytes for Python 2."""
    if _text(codec) != "latin1":
        raise ValueError(f"bytes are written as latin1, not as {codec!r}")
    return text.encode("latin1")


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value


_STAND_INS = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in (("_reconstruct", _array), ("scalar", _number))
    },
}


class _Plain(pickle.Unpickler):
    """An unpickler that looks no name up."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, encoding="bytes")
        self._path = path

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return the stand-in of a name."""
        if (module_name, global_name) not in _STAND_INS:
            self._refuse(f"{module_name}.{global_name}")
        return _STAND_INS[module_name, global_name]

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse references to objects outside the file."""
        self._refuse(f"an object outside the file ({pid!r})")

    def _refuse(self, name: str) -> NoReturn:
        raise DataError(
            f"{self._path} asks for {name} to be loaded, which a file of plain data and numpy arrays has no need of. "
            "Nothing was run. Check where the file comes from"
        )
