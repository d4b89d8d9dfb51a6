"""Simple operations that throw information away: gray, fewer bits, filters, JPEG.

All take and return float pictures [N, 3, H, W] in [0, 1], keep dtype and device, and are deterministic. Gray, channel
mean, luma quantization, bit depth and JPEG return 8-bit values; the mean and Gaussian filters are not rounded and have
a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError, did_you_mean
from countermove.pixels.jpeg import jpeg, jpeg_differentiable
from countermove.pixels.mapped import PORTION_PIXELS, room_for
from countermove.pixels.rounding import check_pictures, to_float, to_uint8

__all__ = [
    "bit_depth",
    "channel_mean",
    "gaussian",
    "gray",
    "gray_soft",
    "jpeg",
    "jpeg_differentiable",
    "luma_quantization",
    "mean",
    "median",
    "shrink",
    "single_channel",
    "squeeze_uint8",
]

Channel = Literal["r", "g", "b"]
Squeeze = Callable[[Tensor], Tensor]
"""From pictures [N, 3, H, W] in [0, 1] to the same; deterministic, picture by picture."""

SQUEEZE_CHUNK = 500
"""Pictures that are squeezed at once where there are many; fewer of those with more than 32 x 32 pixels."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601
_ENTRIES_AT_ONCE = 1 << 24


def gray(pictures: Tensor) -> Tensor:
    """Replace the colours by their ITU-R 601 luma, in three equal channels; exactly Pillow's ``convert("L")``."""
    check_pictures(pictures)
    return _like(pictures, to_float(_luma(pictures).to(torch.uint8))[:, None])


def gray_soft(pictures: Tensor) -> Tensor:
    """Gray without rounding, for gradients; within half a level of `gray` on 8-bit pictures."""
    check_pictures(pictures)
    luma = torch.einsum("nchw,c->nhw", pictures, pictures.new_tensor(_LUMA))
    return luma[:, None].clamp(0, 1).repeat(1, 3, 1, 1)


def channel_mean(pictures: Tensor) -> Tensor:
    """Replace the colours by the mean of the three 8-bit values, rounded, in three equal channels."""
    check_pictures(pictures)
    total = to_uint8(pictures).int().sum(1, keepdim=True)
    return _like(pictures, to_float((2 * total + 3).div(6, rounding_mode="floor").to(torch.uint8)))


def single_channel(pictures: Tensor, channel: Channel = "g") -> Tensor:
    """Put one of the channels red, green and blue in the place of all three; values stay as they are.

    Raises:
        ConfigError: a channel that is not "r", "g" or "b".
    """
    check_pictures(pictures)
    chosen = "rgb".index(check_channel(channel))
    return _like(pictures, pictures[:, chosen : chosen + 1])


def luma_quantization(pictures: Tensor, levels: int = 16, chroma: int = 1) -> Tensor:
    """Keep few levels of the luma and of both colour differences (ITU-R 601 YCbCr, as JPEG has them).

    Args:
        pictures: float [N, 3, H, W] in [0, 1].
        levels: of the luma, equidistant from black to white.
        chroma: levels of each colour difference, equidistant in [-1/2, 1/2] and with 0 among them; 1 drops the colours.

    Raises:
        ConfigError: levels that are not 2 to 256, or chroma that is not odd and 1 to 255.
    """
    check_pictures(pictures)
    check_levels(levels, chroma)
    level = (2 * (levels - 1) * _luma(pictures) + 255).div(510, rounding_mode="floor")  # the nearest, in integers
    luma = to_float((510 * level + levels - 1).div(2 * (levels - 1), rounding_mode="floor").to(torch.uint8))
    if chroma == 1:
        return _like(pictures, luma[:, None])
    rounded = to_float(to_uint8(pictures))
    exact, colours = gray_soft(rounded)[:, 0], []
    for channel in (0, 2):
        widest = 2 - 2 * _LUMA[channel]  # from the most negative difference to the most positive one
        difference = ((rounded[:, channel] - exact) / widest * (chroma - 1)).round() / (chroma - 1)
        colours.append(luma + widest * difference)
    red, blue = colours
    green = (luma - _LUMA[0] * red - _LUMA[2] * blue) / _LUMA[1]
    return _like(pictures, to_float(to_uint8(torch.stack([red, green, blue], 1).clamp(0, 1))))


def bit_depth(pictures: Tensor, bits: int = 2) -> Tensor:
    """Keep the top bits of every 8-bit value and set the others to zero; exactly Pillow's ``ImageOps.posterize``.

    Raises:
        ConfigError: bits that are not 1 to 7 (8 would change nothing).
    """
    check_pictures(pictures)
    check_bits(bits)
    return _like(pictures, to_float(to_uint8(pictures) & (256 - 2 ** (8 - bits))))


def median(pictures: Tensor, size: int = 3) -> Tensor:
    """Median of a size x size window in each channel, borders repeated (OpenCV's rule for its median).

    Raises:
        ConfigError: a size that is not odd, or under 3 (it would change nothing).
    """
    check_pictures(pictures)
    check_size(size)
    half = size // 2
    filtered = torch.empty_like(pictures)
    rows = max(1, _ENTRIES_AT_ONCE // max(1, pictures[:1].numel() * size**2))
    for out, part in zip(filtered.split(rows), pictures.split(rows), strict=True):
        padded = F.pad(part, (half,) * 4, mode="replicate")
        out.copy_(padded.unfold(2, size, 1).unfold(3, size, 1).flatten(4).median(-1).values)
    return filtered


def mean(pictures: Tensor, size: int = 3) -> Tensor:
    """Mean of a size x size window in each channel, borders mirrored (OpenCV's and torchvision's rule).

    Raises:
        ConfigError: a size that is not odd, under 3, or too large to be mirrored inside the picture.
    """
    check_pictures(pictures)
    check_size(size)
    return _filter(pictures, [1 / size] * size)


def gaussian(pictures: Tensor, size: int = 3, sigma: float = 1.0) -> Tensor:
    """Gaussian blur with a size x size window in each channel, borders mirrored (OpenCV's and torchvision's rule).

    Published code (Image Shortcut Squeezing, APBench) uses sigma 0.1 with size 3: all weight is then on the centre,
    and nothing is blurred. Such a filter is refused here.

    Args:
        pictures: float [N, 3, H, W] in [0, 1].
        size: side of the window, odd, at least 3.
        sigma: standard deviation in pixels.

    Raises:
        ConfigError: a bad size, a sigma that is not positive and finite, or one so narrow that all weights off the
            centre sum to less than 1/512, so that no 8-bit value can change.
    """
    check_pictures(pictures)
    return _filter(pictures, gaussian_weights(size, sigma))


def gaussian_weights(size: int, sigma: float) -> list[float]:
    """Return the weights of a Gaussian window in one direction; they sum to one.

    Raises:
        ConfigError: as `gaussian`.
    """
    check_size(size)
    if not (math.isfinite(sigma) and sigma > 0):
        raise ConfigError(f"sigma = {sigma:g} is no width for a Gaussian; it must be positive and finite, like 1.0")
    offsets = torch.arange(size, dtype=torch.float64) - size // 2
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    off_centre = 1 - weights[size // 2].item() ** 2
    if off_centre < 1 / 512:
        raise ConfigError(
            f"sigma = {sigma:g} is so narrow that only {off_centre:.1e} of the filter's weight is off its centre: no "
            "8-bit value would change; use sigma >= 0.3, such as 1.0"
        )
    return weights.tolist()


def _luma(pictures: Tensor) -> Tensor:
    """Return the luma in whole levels, int32 [N, H, W]."""
    red, green, blue = to_uint8(pictures).int().unbind(1)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16  # the weights times 2^16, as Pillow has them


def _filter(pictures: Tensor, weights: list[float]) -> Tensor:
    """Filter the columns and the rows of every channel with the same odd number of weights."""
    half = len(weights) // 2
    smallest = min(pictures.shape[2:])
    if half >= smallest:
        raise ConfigError(
            f"size = {len(weights)} is too large for pictures of {pictures.shape[2]} x {pictures.shape[3]}; "
            f"at most {2 * smallest - 1} can be mirrored at the border"
        )
    for dim, pad in ((2, (0, 0, half, half)), (3, (half, half, 0, 0))):
        padded, side = F.pad(pictures, pad, mode="reflect"), pictures.shape[dim]
        # shifted sums, not a convolution: a GPU may run those in TF32, an error of a tenth of a level
        pictures = torch.zeros_like(pictures)
        for offset, weight in enumerate(weights):
            pictures = pictures + weight * padded.narrow(dim, offset, side)
    return pictures.clamp(0, 1)


def shrink(pictures: Tensor, factor: float = 0.5) -> Tensor:
    """Make pictures smaller by a factor and as large as before, bicubic with antialiasing.

    Raises:
        ConfigError: a factor that is not between 0 and 1.
    """
    check_pictures(pictures)
    check_factor(factor)
    height, width = pictures.shape[2:]
    smaller = (max(1, round(factor * height)), max(1, round(factor * width)))
    for size in (smaller, (height, width)):
        pictures = F.interpolate(pictures, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    return pictures


def squeeze_uint8(pictures: Tensor, *squeezes: Squeeze) -> Tensor:
    """Squeeze 8-bit pictures [N, 3, H, W] in portions, one squeeze after the other; what comes back is 8-bit again."""
    if not squeezes:
        return pictures
    done = room_for(pictures.shape) if pictures.device.type == "cpu" else pictures.new_empty(pictures.shape)
    rows = max(1, min(SQUEEZE_CHUNK, PORTION_PIXELS // max(1, pictures[0, 0].numel()))) if len(pictures) else 1
    for start in range(0, len(pictures), rows):
        part = to_float(pictures[start : start + rows])
        for squeeze in squeezes:
            part = squeeze(part)
        done[start : start + rows] = to_uint8(part)
    return done


def check_factor(factor: float) -> float:
    """Return the factor when it makes pictures smaller; ConfigError otherwise."""
    if not 0 < factor < 1:
        raise ConfigError(f"factor = {factor!r} is not accepted; it lies between 0 and 1, such as 0.5")
    return factor


def check_bits(bits: int) -> int:
    """Return the bit depth when it is 1 to 7; ConfigError otherwise."""
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 7:
        raise ConfigError(f"bits = {bits!r} is not accepted; a bit depth is 1 to 7, and 8 would change nothing")
    return bits


def check_channel(channel: Channel) -> Channel:
    """Return the channel when it is "r", "g" or "b"; ConfigError otherwise."""
    if channel not in get_args(Channel):
        raise ConfigError(f"unknown channel {channel!r}; {did_you_mean(str(channel), get_args(Channel))}")
    return channel


def check_levels(levels: int, chroma: int) -> None:
    """Refuse levels of luma that are not 2 to 256, and of chroma that are not odd and 1 to 255, with a ConfigError."""
    if isinstance(levels, bool) or not isinstance(levels, int) or not 2 <= levels <= 256:
        raise ConfigError(f"levels = {levels!r} is not accepted; the luma has 2 to 256 levels, such as 16")
    if isinstance(chroma, bool) or not isinstance(chroma, int) or not 1 <= chroma <= 255 or chroma % 2 == 0:
        raise ConfigError(
            f"chroma = {chroma!r} is not accepted; colour differences have an odd number of levels, 1 (gray) to 255"
        )


def check_size(size: int) -> int:
    """Return a filter's side when it is odd and at least 3; ConfigError otherwise."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 3 or size % 2 == 0:
        raise ConfigError(f"size = {size!r} is not accepted; a filter's side is odd and at least 3 (1 changes nothing)")
    return size


def _like(pictures: Tensor, values: Tensor) -> Tensor:
    return torch.empty_like(pictures).copy_(values)
