"""Unpickling without running anything that a pickle asks for.

A pickle is a program: it names functions, and the reader calls them. Here no name is ever looked up. The few that numpy
writes for its own arrays and numbers stand for the harmless classes below, which rebuild plain Python objects and
check what they are given; any other name ends the reading.
"""

from __future__ import annotations

import pickle
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn

import numpy as np

from countermove.errors import DataError

DAMAGE = (
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


class PlainArray(list):
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


def _array(*_: Any) -> PlainArray:
    """Stands for numpy's _reconstruct: an array that is filled afterwards."""
    return PlainArray()


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
    ("numpy", "ndarray"): PlainArray,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in (("_reconstruct", _array), ("scalar", _number))
    },
}


class PlainUnpickler(pickle.Unpickler):
    """An unpickler that looks no name up.

    strings: what Python 2 wrote as str becomes bytes, or text (latin1).
    """

    def __init__(self, file: BinaryIO, path: Path, *, strings: Literal["bytes", "latin1"] = "bytes") -> None:
        super().__init__(file, encoding=strings)
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
