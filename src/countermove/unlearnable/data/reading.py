"""Reading many pictures of one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from countermove.errors import DataError
from countermove.pixels.decode import Limits, decode_picture
from countermove.pixels.files import OnBroken, read_picture
from countermove.pixels.selection import pick
from countermove.unlearnable.data.parquet import Cell

Split = tuple[np.ndarray, np.ndarray | Sequence[int], Sequence[str]]
"""Pictures uint8 [N, H, W, 3], labels [N], ids."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One picture that is still a file, or a cell of one.

    id:     its name in the data set.
    label:  index of its class.
    source: the file, or the cell of a Parquet file.
    """

    id: str
    label: int
    source: Path | Cell


def read_entries(
    entries: Sequence[Entry], *, side: int | None, limits: Limits, on_broken: OnBroken
) -> tuple[Split, list[str]]:
    """Read pictures in the order given.

    Args:
        entries: what to read.
        side: crop each to its centre square and resize it (Lanczos) to side x side; None takes them as they are.
        limits: the largest file and picture that is read.
        on_broken: "fail" raises at the first broken picture, "skip" leaves it out.

    Returns:
        (pictures uint8 [N, H, W, 3], labels int64 [N], ids), and a message for every picture left out.

    Raises:
        DataError: on a broken picture, unequal sizes, or nothing to read.
    """
    shape = _shape(entries, side=side, limits=limits, on_broken=on_broken)
    pictures = room(len(entries), shape)
    kept: list[Entry] = []
    skipped: list[str] = []
    for entry in entries:
        try:
            picture = _read(entry, limits)
        except DataError as error:
            if on_broken == "fail":
                raise
            skipped.append(str(error))
            continue
        if side is not None:
            picture = resize_square(picture, side)
        if picture.shape[:2] != shape:
            raise DataError(
                f"unequal sizes: {kept[0].id} is {_size(shape)}, but {entry.id} is {_size(picture.shape[:2])} "
                "(width x height); make all pictures one size, "
                f"or give side={min(*shape, *picture.shape[:2])} to crop and resize them"
            )
        pictures[len(kept)] = picture
        kept.append(entry)
    labels = np.array([entry.label for entry in kept], dtype=np.int64)
    return (pictures[: len(kept)], labels, [entry.id for entry in kept]), skipped


def room(n: int, size: tuple[int, int]) -> np.ndarray:
    """Return uint8 [N, H, W, 3] to be filled, laid out as a data set holds it: channels first, in a file if large.

    Args:
        n: how many pictures.
        size: (H, W).
    """
    from countermove.pixels.mapped import room_for  # torch, which listing and hashing do without

    return room_for((n, 3, *size)).permute(0, 2, 3, 1).numpy()


def thin(entries: Sequence[Entry], limit: int | None, *, seed: int) -> Sequence[Entry]:
    """Keep `limit` entries, chosen by id and seed, in their order. The first n of a folder would be one class."""
    if limit is None or limit >= len(entries):
        return entries
    chosen = pick([entry.id for entry in entries], limit / len(entries), seed=seed, purpose="limit")
    return [entry for entry, take in zip(entries, chosen, strict=True) if take]


def resize_square(picture: np.ndarray, side: int) -> np.ndarray:
    """Crop uint8 [H, W, 3] to its centre square and resize it with Lanczos to [side, side, 3]."""
    height, width = picture.shape[:2]
    edge = min(height, width)
    left, top = (width - edge) // 2, (height - edge) // 2
    box = (left, top, left + edge, top + edge)
    return np.asarray(Image.fromarray(picture).crop(box).resize((side, side), Image.Resampling.LANCZOS))


def _shape(entries: Sequence[Entry], *, side: int | None, limits: Limits, on_broken: OnBroken) -> tuple[int, int]:
    """Return (H, W) of the pictures, from the first that can be read."""
    if side is not None:
        return side, side
    for entry in entries:
        try:
            height, width = _read(entry, limits).shape[:2]
        except DataError:
            if on_broken == "fail":
                raise
            continue
        return height, width
    raise DataError("there is no readable picture here")


def _read(entry: Entry, limits: Limits) -> np.ndarray:
    source = entry.source
    content = source if isinstance(source, Path) else source.content(name=entry.id, limits=limits)
    if isinstance(content, bytes):
        return decode_picture(content, name=entry.id, limits=limits)
    return read_picture(content, limits=limits)


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[0]}"
