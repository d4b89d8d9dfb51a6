"""Pictures from files to one square size, and from sheets of tiles."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from countermove.errors import ConfigError, DataError
from countermove.game.content import data_folder
from countermove.pixels.decode import Limits, words
from countermove.pixels.files import OnBroken, read_picture

if TYPE_CHECKING:
    from torch import Tensor

LEAST_SIDE = 8
"""Pixels on a side: no network takes fewer."""

Cut = int | Literal["square", "whole"]
"""What of a picture is kept: a centre square of so many pixels, the largest one, or everything, without its aspect."""


def read_pictures(
    files: Mapping[str, Path],
    *,
    side: int,
    cut: Cut,
    max_pixels: int = 50_000_000,
    on_broken: OnBroken = "fail",
) -> tuple[list[str], Tensor, list[str]]:
    """Read pictures by id and resize what is kept of them (Lanczos) to side x side.

    Returns:
        ids of those that could be read, their pictures uint8 [N, 3, side, side], a message for every other.

    Raises:
        DataError: on a broken or too small picture, unless they are to be skipped; when none is left.
    """
    import torch

    ids: list[str] = []
    messages: list[str] = []
    pictures = np.empty((len(files), side, side, 3), dtype=np.uint8)
    for name, path in files.items():
        try:
            picture = read_picture(path, limits=Limits(max_pixels=max_pixels))
            pictures[len(ids)] = _resized(picture, str(path), side=side, cut=cut)
        except DataError as error:
            if on_broken == "fail":
                raise
            messages.append(str(error))
            continue
        ids.append(name)
    if not ids:
        raise DataError(f"none of {len(files)} pictures can be read: {messages[0] if messages else 'there is none'}")
    return ids, torch.from_numpy(pictures[: len(ids)]).permute(0, 3, 1, 2).contiguous(), messages


def read_tiles(path: Path, count: int, side: int) -> np.ndarray:
    """Read the first so many square tiles of a sheet, row by row: uint8 [count, side, side, 3].

    Raises:
        DataError: when the sheet is not made of whole tiles, or holds fewer.
    """
    sheet = read_picture(path)
    down, across = sheet.shape[0] // side, sheet.shape[1] // side
    if sheet.shape[:2] != (down * side, across * side) or down * across < count:
        raise DataError(f"{path} has {sheet.shape[1]} x {sheet.shape[0]} pixels, not {count} tiles of {side} x {side}")
    tiles = sheet.reshape(down, side, across, side, 3).swapaxes(1, 2)
    return tiles.reshape(-1, side, side, 3)[:count]


def read_rows(path: Path, *needed: str, delimiter: str = ",") -> list[dict[str, str]]:
    """Read a table whose first line names its columns.

    Raises:
        DataError: when it cannot be read, or a column is absent.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            absent = [column for column in needed if column not in (reader.fieldnames or [])]
            if absent:
                raise DataError(
                    f"{path} has no column {absent[0]!r}; it has {', '.join(reader.fieldnames or ['none'])}"
                )
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(f"{path}, line {reader.line_num} has another number of fields than the first line")
                rows.append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table in UTF-8: {words(error)}") from None
    return rows


def set_folder(folder: str, root: Path | None, *holds: str) -> Path:
    """Return a data set's folder below the data folder.

    Raises:
        DataError: when it or a part of it is not there.
    """
    path = data_folder(root) / folder
    absent = [part for part in holds if not (path / part).exists()]
    if absent:
        raise DataError(
            f"{path / absent[0]} is not there; set COUNTERMOVE_DATA to the folder that holds {folder}/ with "
            f"{', '.join(holds)}"
        )
    return path


def check_side(name: str, side: int) -> None:
    """Refuse a side that no network can take.

    Raises:
        ConfigError: below 8 or above 1024 pixels.
    """
    if not LEAST_SIDE <= side <= 1024:
        raise ConfigError(f"{name}: side = {side} is refused: pictures are {LEAST_SIDE} to 1024 pixels on a side")


def _resized(picture: np.ndarray, name: str, *, side: int, cut: Cut) -> np.ndarray:
    height, width = picture.shape[:2]
    whole = Image.fromarray(picture)
    if cut != "whole":
        edge = min(height, width) if cut == "square" else cut
        if min(height, width) < edge:
            raise DataError(
                f"{name} has {width} x {height} pixels; crop = {edge} needs more. Leave it out or crop less"
            )
        left, top = (width - edge) // 2, (height - edge) // 2
        whole = whole.crop((left, top, left + edge, top + edge))
    if min(height, width) < LEAST_SIDE:
        raise DataError(f"{name} has {width} x {height} pixels; at least {LEAST_SIDE} x {LEAST_SIDE} are needed")
    return np.asarray(whole.resize((side, side), Image.Resampling.LANCZOS))
