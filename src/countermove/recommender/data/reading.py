"""Item pictures from files to one size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.decode import Limits
from countermove.pixels.files import OnBroken, read_picture

LEAST_SIDE = 8


def read_item_pictures(
    files: Mapping[str, Path], *, side: int, max_pixels: int, on_broken: OnBroken
) -> tuple[list[str], Tensor, list[str]]:
    """Read one picture an item and resize it to side x side, without keeping its aspect, as the papers' shops do.

    Returns:
        ids of the items that could be read, their pictures uint8 [I, 3, side, side], a message for every other.

    Raises:
        DataError: on a broken picture, unless they are to be skipped; when none is left.
    """
    items: list[str] = []
    messages: list[str] = []
    pictures = np.empty((len(files), side, side, 3), dtype=np.uint8)
    for item, path in files.items():
        try:
            picture = read_picture(path, limits=Limits(max_pixels=max_pixels))
        except DataError as error:
            if on_broken == "fail":
                raise
            messages.append(str(error))
            continue
        pictures[len(items)] = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))
        items.append(item)
    if not items:
        raise DataError("no item has a picture that can be read")
    return items, torch.from_numpy(pictures[: len(items)]).permute(0, 3, 1, 2).contiguous(), messages


def check_side(side: int) -> None:
    """Refuse a side that no network can take.

    Raises:
        ConfigError: below 8 or above 1024 pixels.
    """
    if not LEAST_SIDE <= side <= 1024:
        raise ConfigError(f"side = {side} is refused: item pictures are {LEAST_SIDE} to 1024 pixels on a side")
