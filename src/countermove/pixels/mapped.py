"""8-bit pictures that may be more than memory holds.

A tensor above a size lies in a file without a name, and this process sees the file as memory: the kernel brings its
pages in, writes them out and drops them as it needs. A smaller one lies in memory as any other. Values, and all that is
computed from them, are the same either way.

COUNTERMOVE_MAP_ABOVE: bytes above which a tensor lies in a file; 256 MiB (268435456) by default.
COUNTERMOVE_SCRATCH:   the folder of these files; by default TMPDIR, else /var/tmp. It should not be a tmpfs, as /tmp
                       often is: that is memory again. The files are gone when the process ends, however it ends.

Legend: N pictures of 3 x H x W.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from countermove.errors import ConfigError, RunError
from countermove.pixels.decode import words

MAP_ABOVE = 256 * 2**20
"""Bytes above which a tensor lies in a file, where nothing else was said."""

PORTION_PIXELS = 1 << 19
"""Pixels of the pictures that are worked on at once: 512 pictures of 32 x 32, 6 MiB as floats."""


def is_large(size: int) -> bool:
    """Return whether so many bytes lie in a file.

    Raises:
        ConfigError: when COUNTERMOVE_MAP_ABOVE is no number of bytes.
    """
    named = os.environ.get("COUNTERMOVE_MAP_ABOVE")
    if not named:
        return size > MAP_ABOVE
    if not (named.isdecimal() and named.isascii()):
        raise ConfigError(
            f"COUNTERMOVE_MAP_ABOVE = {named!r} is refused: give a whole number of bytes, such as {MAP_ABOVE} (256 MiB)"
        )
    return size > int(named)


def room_for(shape: Sequence[int]) -> Tensor:
    """Return an uint8 tensor to be filled, in a file where it is large.

    Raises:
        RunError: when the file cannot be made, or the disk has no room for it.
    """
    size = math.prod(shape)
    if not is_large(size):
        return torch.empty(tuple(shape), dtype=torch.uint8)
    folder = scratch_folder()
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".countermove-") as file:
            _claim(file.fileno(), size)
            pages = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise RunError(
            f"{size:,} bytes of pictures cannot be laid into {folder}: {words(error)}. Make room there, or name "
            "another folder with COUNTERMOVE_SCRATCH"
        ) from None
    return torch.frombuffer(pages, dtype=torch.uint8).view(tuple(shape))


def _claim(handle: int, size: int) -> None:
    """Give a file its size and, where the system can, its blocks: a disk that fills up later would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
    else:
        os.ftruncate(handle, size)


def scratch_folder() -> str:
    """Return where the files lie: COUNTERMOVE_SCRATCH, else TMPDIR, else /var/tmp, else what Python calls temporary."""
    named = os.environ.get("COUNTERMOVE_SCRATCH") or os.environ.get("TMPDIR")
    if named:
        return named
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()  # noqa: S108 - files without a name


def portions(pictures: int, shape: Sequence[int]) -> Iterator[slice]:
    """Divide so many pictures of a shape that ends in H, W into what is worked on at once."""
    step = max(1, PORTION_PIXELS // max(1, shape[-2] * shape[-1]))
    for start in range(0, pictures, step):
        yield slice(start, min(start + step, pictures))


def selected(pictures: Tensor, rows: Tensor) -> Tensor:
    """Return a copy of some uint8 pictures [N, 3, H, W], chosen by bool [N] or by positions."""
    if rows.dtype == torch.bool:
        rows = rows.nonzero().flatten()
    chosen = room_for((len(rows), *pictures.shape[1:]))
    for part in portions(len(rows), pictures.shape):
        torch.index_select(pictures, 0, rows[part], out=chosen[part])
    return chosen


def replaced(pictures: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """Return a copy of uint8 pictures [N, 3, H, W] with others in the places of bool [N]."""
    copy = joined(pictures)
    places = rows.nonzero().flatten()
    for part in portions(len(places), pictures.shape):
        copy.index_copy_(0, places[part], others[part])
    return copy


def joined(*parts: Tensor) -> Tensor:
    """Return uint8 pictures [n, 3, H, W] of several tensors behind one another, copied."""
    whole = room_for((sum(len(part) for part in parts), *parts[0].shape[1:]))
    at = 0
    for part in parts:
        for rows in portions(len(part), part.shape):
            whole[at + rows.start : at + rows.stop] = part[rows]
        at += len(part)
    return whole
