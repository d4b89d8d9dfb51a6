"""Reading an .npy file of pickled objects without running anything that it asks for."""

from __future__ import annotations

import tokenize
from pathlib import Path
from typing import Any, BinaryIO

from numpy.lib import format as npy

from countermove.errors import DataError
from countermove.pixels.plain_pickle import DAMAGE, PlainArray, PlainUnpickler


def read_pickled_npy(path: Path) -> list[Any]:
    """Read the objects of a one-dimensional .npy file: dicts, lists, numbers, texts and bytes.

    Arrays and numpy's numbers become lists and numbers; arrays of anything but numbers and objects come back empty.
    What Python 2 wrote as str comes back as bytes. The whole file is held in memory.

    Raises:
        DataError: when the file is absent, broken, holds no pickled objects, or asks for anything else to be run.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would block
            raise DataError(f"{path} is no regular file")
        with path.open("rb") as file:
            _check_header(file, path)
            content = PlainUnpickler(file, path, most=path.stat().st_size).load()
    except DataError:
        raise
    except (*DAMAGE, tokenize.TokenError) as error:
        raise DataError(f"{path} cannot be read as an .npy file of objects: {error}. Fetch it again") from None
    if not isinstance(content, PlainArray):
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
