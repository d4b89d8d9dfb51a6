"""Unpickling without running anything that a pickle asks for.

A pickle is a program: it names functions, and the reader calls them. Here no name is ever looked up. The few that numpy
writes for its own arrays and numbers stand for the harmless classes below, which rebuild plain Python objects and
check what they are given; any other name ends the reading.

Nor may a few bytes become much: what is unpacked or copied is counted and may have so many entries as the file has
bytes, keys are texts and numbers (to hash nested tuples that share their parts takes for ever), and instructions that
plain data do not need are refused. The reader is Python's own in Python, whose memory of objects is a dict; the one in
C reserves room for any number that a file names.
"""

from __future__ import annotations

import pickle
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, NoReturn

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


class _Meter:
    """Counts what is unpacked from bytes or copied from lists; both may be done again and again from the same."""

    def __init__(self, most: int) -> None:
        self.left = most

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ValueError("it unpacks to more than its size allows")


class PlainArray(list):
    """Stands for an array of numpy's, flat."""

    def __init__(self, meter: _Meter) -> None:
        super().__init__()
        self._meter = meter

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, _, kind, _, content = state
        self._meter.take(len(content))
        self[:] = content if isinstance(content, list) else kind.read(content)


class _Kind:
    """Stands for numpy.dtype."""

    def __init__(self, code: str | bytes) -> None:
        self.code = _text(code)
        self.order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = _text(state[1])

    def read(self, content: bytes) -> list[Any]:
        """Return the numbers that bytes hold; none where they hold something else."""
        if not _NUMBER.fullmatch(self.code) or self.order not in ("|", "<", ">", "="):
            return []
        return np.frombuffer(content, self.order + self.code).tolist()


class _StandIns:
    """What stands for each name that a pickle of plain data and arrays holds."""

    def __init__(self, meter: _Meter) -> None:
        self._meter = meter

    def array(self, *_: Any) -> PlainArray:
        """Stands for numpy's _reconstruct: an array that is filled afterwards."""
        return PlainArray(self._meter)

    def kind(self, code: str | bytes, *_: Any) -> _Kind:
        """Stands for numpy.dtype."""
        return _Kind(code)

    def number(self, kind: _Kind, content: bytes) -> Any:
        """Stands for numpy's scalar."""
        self._meter.take(len(content))
        (number,) = kind.read(content)
        return number

    def encode(self, text: str, codec: str | bytes) -> bytes:
        """Stands for _codecs.encode, by which Python 3 writes bytes for Python 2."""
        if _text(codec) != "latin1":
            raise ValueError("bytes are written as latin1 only")
        self._meter.take(len(text))
        return text.encode("latin1")

    def nothing(self, *_: Any) -> Any:
        """Stands for numpy.ndarray, which is named and never called."""
        raise ValueError("an array is rebuilt, not called")


def _text(value: str | bytes) -> str:
    if not isinstance(value, (str, bytes)) or len(value) > 100:
        raise ValueError("a name is expected")
    return value.decode("ascii") if isinstance(value, bytes) else value


_STAND_INS = {
    ("numpy", "ndarray"): "nothing",
    ("numpy", "dtype"): "kind",
    ("_codecs", "encode"): "encode",
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in (("_reconstruct", "array"), ("scalar", "number"))
    },
}

_REFUSED = (
    *(pickle.PERSID, pickle.BINPERSID),  # objects outside the file
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX),  # other calls
    *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),  # they hash what they hold
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),  # they reserve what they name
)


_Reader: Any = pickle._Unpickler


class PlainUnpickler(_Reader):
    """An unpickler that looks no name up.

    strings: what Python 2 wrote as str becomes bytes, or text (latin1).
    most:    entries that may be unpacked from bytes or copied; as a rule the size of the file.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(_Reader.dispatch)

    def __init__(self, file: BinaryIO, path: Path, *, most: int, strings: Literal["bytes", "latin1"] = "bytes") -> None:
        super().__init__(file, encoding=strings)
        self._path = path
        self._stand_ins = _StandIns(_Meter(most))

    def find_class(self, module: str, name: str, /) -> Any:
        """Return the stand-in of a name."""
        if (module, name) not in _STAND_INS:
            self._refuse(f"{module[:60]}.{name[:60]}")
        return getattr(self._stand_ins, _STAND_INS[module, name])

    def _refuse_instruction(self) -> NoReturn:
        self._refuse("an object outside the file, a set or another class")

    def _build(self) -> None:
        if not isinstance(self.stack[-2], (PlainArray, _Kind)):
            raise pickle.UnpicklingError("only arrays and their kinds are given a state")
        _Reader.load_build(self)

    def _set_item(self) -> None:
        _check_key(self.stack[-2])
        _Reader.load_setitem(self)

    def _set_items(self) -> None:
        for key in self.stack[::2]:
            _check_key(key)
        _Reader.load_setitems(self)

    def _dict(self) -> None:
        for key in self.stack[::2]:
            _check_key(key)
        _Reader.load_dict(self)

    for _code in _REFUSED:
        dispatch[_code[0]] = _refuse_instruction
    dispatch[pickle.BUILD[0]] = _build
    dispatch[pickle.SETITEM[0]] = _set_item
    dispatch[pickle.SETITEMS[0]] = _set_items
    dispatch[pickle.DICT[0]] = _dict

    def _refuse(self, name: str) -> NoReturn:
        raise DataError(
            f"{self._path} asks for {name} to be loaded, which a file of plain data and numpy arrays has no need of. "
            "Nothing was run. Check where the file comes from"
        )


def _check_key(key: object) -> None:
    if not isinstance(key, (str, bytes, int, float, type(None))):
        raise pickle.UnpicklingError("a key is neither a text nor a number")
