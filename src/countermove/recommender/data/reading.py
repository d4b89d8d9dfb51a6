"""Item pictures from files to one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def read_several_pictures(
    files: Mapping[str, Sequence[Path]], *, side: int, max_pixels: int, on_broken: OnBroken
) -> tuple[list[str], Tensor, tuple[Tensor, Tensor], list[str]]:
    """Read all pictures of every item; the first that can be read is its own.

    Returns:
        ids of the items of which one could be read; their own pictures, uint8 [I, 3, side, side]; the further ones,
        uint8 [E, 3, side, side], with their items' numbers, int64 [E]; a message for every picture that was left out.

    Raises:
        DataError: as `read_item_pictures`.
    """
    whose = [item for item, paths in files.items() for _ in paths]
    every = {str(i): path for i, path in enumerate(path for paths in files.values() for path in paths)}
    read, pictures, messages = read_item_pictures(every, side=side, max_pixels=max_pixels, on_broken=on_broken)
    shown = [whose[int(i)] for i in read]
    items = list(dict.fromkeys(shown))
    place = {item: k for k, item in enumerate(items)}
    number = torch.tensor([place[item] for item in shown])
    again = torch.zeros(len(number), dtype=torch.bool)
    again[1:] = number[1:] == number[:-1]
    return items, pictures[~again], (pictures[again], number[again]), messages


def check_side(side: int) -> None:
    """Refuse a side that no network can take.

    Raises:
        ConfigError: below 8 or above 1024 pixels.
    """
    if not LEAST_SIDE <= side <= 1024:
        raise ConfigError(f"side = {side} is refused: item pictures are {LEAST_SIDE} to 1024 pixels on a side")
