"""Picture files to tensors of a bounded size, and what all collections check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from countermove.errors import ConfigError, DataError
from countermove.game.content import data_folder
from countermove.pixels.decode import Limits
from countermove.pixels.files import read_picture

if TYPE_CHECKING:
    from torch import Tensor

    from countermove.retrieval.collection import Box, Read

LEAST_SIDE, MOST_SIDE = 8, 4096


def needed_folder(data: str, name: str, root: Path | None) -> Path:
    """Return a folder of the data folder.

    Raises:
        DataError: when it is not there.
    """
    folder = data_folder(root) / name
    if not folder.is_dir():
        raise DataError(
            f"{data} needs {folder}, which is not there; set COUNTERMOVE_DATA to the folder that holds {name}"
        )
    return folder


def read_shrunk(path: Path, longest: int, *, max_pixels: int = 50_000_000) -> Tensor:
    """Read a picture, uint8 [3, H, W]; a longer side above `longest` is shrunk to it (Lanczos), none is enlarged."""
    picture = Image.fromarray(read_picture(path, limits=Limits(max_pixels=max_pixels)))
    size = shrunk_size(picture.size, longest)
    return _tensor(picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS))


def read_square(path: Path, side: int) -> Tensor:
    """Read a picture, cut out its centre and resize this (Lanczos), uint8 [3, side, side]."""
    picture = Image.fromarray(read_picture(path))
    edge = min(picture.size)
    left, top = ((length - edge) // 2 for length in picture.size)
    cut = picture.crop((left, top, left + edge, top + edge))
    return _tensor(cut.resize((side, side), Image.Resampling.LANCZOS))


def shrunk_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return a size whose longer side is at most `longest`; a side is at least one pixel."""
    factor = min(1.0, longest / max(size))
    return max(1, round(factor * size[0])), max(1, round(factor * size[1]))


def shrunk_box(path: Path, box: Box, longest: int, *, name: str, max_pixels: int = 50_000_000) -> Box:
    """Return a box of a file's own pixels as one of the shrunk picture's.

    The factor is the whole picture's, as in the common evaluations. These cut the box out first and shrink it then,
    so the pixels at its border differ a little.

    Raises:
        DataError: when the box reaches outside the picture by more than a pixel, or has no pixel inside.
    """
    height, width = read_picture(path, limits=Limits(max_pixels=max_pixels)).shape[:2]
    left, top, right, bottom = box
    # Published boxes are off by part of a pixel at the borders.
    if left < -1 or top < -1 or right > width + 1 or bottom > height + 1 or right - left < 1 or bottom - top < 1:
        raise DataError(
            f"{name}: the box {box} does not lie in the {width} x {height} pixels of {path}; "
            "it is left, top, right, bottom"
        )
    size = shrunk_size((width, height), longest)
    across, down = size[0] / width, size[1] / height
    # A small box in a large picture keeps a pixel.
    begin = (min(round(max(0, left) * across), size[0] - 1), min(round(max(0, top) * down), size[1] - 1))
    end = (
        max(begin[0] + 1, min(round(right * across), size[0])),
        max(begin[1] + 1, min(round(bottom * down), size[1])),
    )
    return (float(begin[0]), float(begin[1]), float(end[0]), float(end[1]))


def lazily(paths: Sequence[Path], longest: int, *, max_pixels: int = 50_000_000) -> Read:
    """Return pictures that are read when they are asked for."""
    from countermove.retrieval.collection import Read

    return Read(len(paths), lambda row: read_shrunk(paths[row], longest, max_pixels=max_pixels))


def check_sides(name: str, **sides: int) -> None:
    """Refuse sides that no engine takes.

    Raises:
        ConfigError: below 8 or above 4096 pixels.
    """
    for setting, side in sides.items():
        if not LEAST_SIDE <= side <= MOST_SIDE:
            raise ConfigError(f"{name}: {setting} = {side} is refused: it is {LEAST_SIDE} to {MOST_SIDE} pixels")


def check_least(name: str, **numbers: tuple[int, int]) -> None:
    """Refuse numbers, each with the least that is accepted, that are below it.

    Raises:
        ConfigError: naming the setting and its value.
    """
    for setting, (value, least) in numbers.items():
        if value < least:
            raise ConfigError(f"{name}: {setting} = {value} is refused: it must be at least {least}")


def _tensor(picture: Image.Image) -> Tensor:
    import torch

    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
