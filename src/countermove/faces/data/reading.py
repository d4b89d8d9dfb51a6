"""Photos from a tree of people's folders to one square size, and checks of the settings that all face sets share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from countermove.errors import ConfigError, DataError
from countermove.pixels.decode import Limits
from countermove.pixels.files import OnBroken, read_picture, walk_pictures

if TYPE_CHECKING:
    from torch import Tensor

LEAST_SIDE = 8
"""Pixels on a side: fewer show no face, and no network takes them."""

ALIGNED = "face"
"""The folder of a person's aligned photos beside the whole ones, as FaceScrub and PubFig have it."""


@dataclass(frozen=True, kw_only=True)
class PhotoFile:
    """A photo that is still a file.

    id:     its name in the data.
    person: whose it is.
    """

    id: str
    person: str
    path: Path


def photo_files(tree: Path, prefix: str = "") -> list[PhotoFile]:
    """List the photos below TREE/PERSON, sorted by id; ids are the prefix and the path below the tree.

    Files in deeper folders belong to the person above them. Where a person has a folder `face`, only that is listed.

    Raises:
        DataError: when there is no photo, or one lies in no person's folder.
    """
    names = walk_pictures(tree)
    if not names:
        raise DataError(f"{tree} holds no photos; expected {tree}/PERSON/PHOTO.jpg (or .png, .webp, .bmp)")
    loose = [name for name in names if "/" not in name]
    if loose:
        raise DataError(f"{tree / loose[0]} lies in no person's folder; expected {tree}/PERSON/{loose[0]}")
    owner = {name: name.split("/", 1)[0] for name in names}
    aligned = {person for person in set(owner.values()) if (tree / person / ALIGNED).is_dir()}
    return [
        PhotoFile(id=prefix + name, person=owner[name], path=tree / name)
        for name in names
        if owner[name] not in aligned or name.startswith(f"{owner[name]}/{ALIGNED}/")
    ]


def read_photos(
    files: Sequence[PhotoFile],
    *,
    side: int,
    crop: int | None,
    limits: Limits | None = None,
    on_broken: OnBroken = "fail",
) -> tuple[list[PhotoFile], Tensor, list[str]]:
    """Read photos, cut out their centres and resize these (Lanczos) to side x side.

    Args:
        files: what to read.
        side: of the result.
        crop: side of the square that is cut out; None: the largest there is.
        limits: the largest file and picture that is read.
        on_broken: "fail" raises at the first photo that is broken or too small, "skip" leaves it out.

    Returns:
        the files that could be read, their photos uint8 [N, 3, side, side], a message for every other.

    Raises:
        DataError: on a broken or too small photo; when none is left.
    """
    import torch

    kept: list[PhotoFile] = []
    messages: list[str] = []
    photos = np.empty((len(files), side, side, 3), dtype=np.uint8)
    for file in files:
        try:
            photos[len(kept)] = _square(read_picture(file.path, limits=limits), str(file.path), side=side, crop=crop)
        except DataError as error:
            if on_broken == "fail":
                raise
            messages.append(str(error))
            continue
        kept.append(file)
    if not kept:
        raise DataError(f"none of the {len(files)} photos can be read: {messages[0] if messages else 'there is none'}")
    return kept, torch.from_numpy(photos[: len(kept)]).permute(0, 3, 1, 2).contiguous(), messages


def check_settings(name: str, settings: Any, **least: int) -> None:
    """Refuse a side or a test_fraction that cannot be, and numbers below their least; None is not looked at.

    Raises:
        ConfigError: naming the setting and its value.
    """
    if not LEAST_SIDE <= settings.side <= 1024:
        raise ConfigError(
            f"{name}: side = {settings.side} is refused: photos are {LEAST_SIDE} to 1024 pixels on a side"
        )
    if not 0 < settings.test_fraction < 1:
        raise ConfigError(f"{name}: test_fraction = {settings.test_fraction} is refused: it lies between 0 and 1")
    for setting, smallest in least.items():
        value = getattr(settings, setting)
        if value is not None and value < smallest:
            raise ConfigError(f"{name}: {setting} = {value} is refused: it must be at least {smallest}")


def _square(picture: np.ndarray, name: str, *, side: int, crop: int | None) -> np.ndarray:
    height, width = picture.shape[:2]
    edge = min(height, width) if crop is None else crop
    if min(height, width) < max(edge, LEAST_SIDE):
        needs = (
            f"a face needs at least {LEAST_SIDE} x {LEAST_SIDE}" if edge < LEAST_SIDE else f"crop = {crop} needs more"
        )
        raise DataError(f"{name} has {width} x {height} pixels; {needs}. Leave it out or fetch a larger one")
    left, top = (width - edge) // 2, (height - edge) // 2
    cut = Image.fromarray(picture).crop((left, top, left + edge, top + edge))
    return np.asarray(cut.resize((side, side), Image.Resampling.LANCZOS))
