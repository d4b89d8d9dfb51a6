"""JPEG: the real codec, and a differentiable stand-in for it."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.rounding import check_pictures, to_float, to_uint8


def jpeg(pictures: Tensor, quality: int = 10, *, threads: int | None = None) -> Tensor:
    """Save every picture as JPEG and read it back, through Pillow's libjpeg with its default 4:2:0 subsampling.

    Args:
        pictures: float [N, 3, H, W] in [0, 1]; rounded to 8 bits first. Any height and width.
        quality: 1 (strong) to 95.
        threads: how many work at once (the codec runs outside Python's lock); None takes torch's own number. The
            result does not depend on it.

    Returns:
        8-bit pictures as float, with the shape, dtype and device of pictures. No gradient.

    Raises:
        ConfigError: a quality or a number of threads out of range.
        DataError: not RGB pictures.
    """
    check_pictures(pictures)
    check_quality(quality)
    threads = torch.get_num_threads() if threads is None else threads
    if threads < 1:
        raise ConfigError(f"threads = {threads} must be at least 1")
    source = to_uint8(pictures).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    result = np.empty_like(source)

    def recode(rows: range) -> None:
        for row in rows:
            buffer = io.BytesIO()
            Image.fromarray(source[row]).save(buffer, "JPEG", quality=quality)
            result[row] = np.asarray(Image.open(buffer))

    if threads == 1:
        recode(range(len(source)))
    else:
        shares = [range(first, len(source), threads) for first in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(recode, shares))
    return torch.empty_like(pictures).copy_(to_float(torch.from_numpy(result).permute(0, 3, 1, 2)))


def jpeg_differentiable(pictures: Tensor, quality: int = 10) -> Tensor:
    """Imitate `jpeg` with a gradient, for moves that expect to be compressed.

    Kornia's codec (Reich et al. 2024, arXiv:2309.06978): rounding is replaced by round(x) + (x - round(x))^3, after
    Shin and Song 2017. On 32 x 32 photos it differs from the real codec by 1.4/255 (quality 95) to 2.4/255 (quality
    10) on average, where the codec itself changes the picture by 3.1/255 to 13.8/255. Sides that are no multiples of
    16 are padded by repeating the border, as the codec does, and cropped again. The output is not rounded to 8 bits.

    Args:
        pictures: float [N, 3, H, W] in [0, 1].
        quality: 1 to 95.

    Returns:
        Pictures in [0, 1] with the shape, dtype and device of pictures. A value that overshoots [0, 1] is clipped and
        has no gradient, as in the codec.

    Raises:
        ConfigError: a quality out of range.
        DataError: not RGB pictures.
    """
    check_pictures(pictures)
    check_quality(quality)
    if not len(pictures):
        return pictures
    from kornia.enhance import jpeg_codec_differentiable  # slow to import

    level = torch.tensor([float(quality)], dtype=pictures.dtype, device=pictures.device)
    return jpeg_codec_differentiable(pictures, level).clamp(0, 1)


def check_quality(quality: int) -> None:
    """Refuse a JPEG quality that is not a whole number from 1 to 95; raises ConfigError."""
    if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 95:
        raise ConfigError(
            f"quality = {quality!r} is not accepted; JPEG quality is a whole number from 1 to 95, and 10 is the default"
        )
