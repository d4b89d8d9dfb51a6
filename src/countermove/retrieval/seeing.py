"""How a picture of any size is shown to an engine that searches a folder, and to what queries are made on."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.pixels.decode import decode_picture, words
from countermove.retrieval.collection import Box, cropped
from countermove.retrieval.data.reading import MOST_SIDE, shrunk_size

LONGEST = 512
LEAST_SIDE = 32
"""Pixels that a side is enlarged to: feature maps of some networks vanish below."""
SHRINKING = f"Lanczos, sides at least {LEAST_SIDE}, boxes cut first"


def check_longest(longest: int | str) -> int:
    """Return the number of pixels that longer sides are shrunk to.

    Raises:
        ConfigError: when it is none that makes sense.
    """
    try:
        number = int(longest)
    except ValueError:
        number = 0
    if not LEAST_SIDE <= number <= MOST_SIDE:
        raise ConfigError(
            f"longest = {longest} is refused: it is {LEAST_SIDE} to {MOST_SIDE} pixels, such as {LONGEST}"
        )
    return number


def seen_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return the size at which a picture is seen: shrunk to `longest`, no side below the least."""
    first, second = shrunk_size(size, longest)
    return max(LEAST_SIDE, first), max(LEAST_SIDE, second)


def seen(picture: np.ndarray, longest: int, box: Box | None = None) -> Tensor:
    """Return what an engine sees of a picture uint8 [H, W, 3]: uint8 [3, h, w].

    A box is cut out first and then shrunk as much as the whole picture would be.

    Raises:
        DataError: when the box is none, or no whole pixel of the picture is inside.
    """
    height, width = picture.shape[:2]
    factor = min(1.0, longest / max(height, width))
    if box is not None:
        if len(box) != 4 or not all(math.isfinite(float(edge)) for edge in box):
            raise DataError(f"the box {box} is refused: it is four numbers, left top right bottom, in pixels")
        whole = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        picture = cropped(whole, box).permute(1, 2, 0).contiguous().numpy()
    tall, wide = picture.shape[:2]
    size = (max(LEAST_SIDE, round(factor * wide)), max(LEAST_SIDE, round(factor * tall)))
    if size != (wide, tall):
        picture = np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.LANCZOS))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def pixels_of(picture: Image.Image | np.ndarray) -> np.ndarray:
    """Return a picture that is in memory as uint8 [H, W, 3].

    Pillow's go through the same rules as files: orientation is applied, alpha comes on white.

    Raises:
        DataError: when it is no such picture.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise DataError(f"an array must be uint8 [H, W, 3], RGB; got {picture.dtype} {list(picture.shape)}")
        return picture
    if getattr(picture, "n_frames", 1) > 1:
        raise DataError("the picture is animated; give the one frame you mean")
    buffer = io.BytesIO()
    try:
        turned = ImageOps.exif_transpose(picture)
        if turned.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX", "F"):
            turned = turned.convert("RGB")
        turned.save(buffer, "PNG", compress_level=1, exif=b"")
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"the picture cannot be used: {words(error)}") from None
    return decode_picture(buffer.getvalue(), name="the picture")


class Seen(nn.Module):
    """A network that is shown pictures at the size at which an engine would see them. Differentiable.

    Engines shrink with Pillow; here it is bilinear with antialiasing, which differs by a level or two.
    """

    def __init__(self, network: nn.Module, longest: int) -> None:
        """Keep the network."""
        super().__init__()
        self.network, self.longest = network, longest

    def forward(self, pictures: Tensor) -> Tensor:
        """Return unit vectors."""
        size = seen_size((pictures.shape[2], pictures.shape[3]), self.longest)
        if size == tuple(pictures.shape[2:]):
            return self.network(pictures)
        return self.network(F.interpolate(pictures, size, mode="bilinear", antialias=True, align_corners=False))
