"""From a changed gray picture back to colours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.squeezes import gray

Colour = Literal["minimum-norm", "ratio"]

_LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)  # ITU-R 601
_PIXELS_AT_ONCE = 1 << 16


def gray_of(picture: Tensor) -> Tensor:
    """Return the luma of a picture uint8 [3, H, W] in whole levels, uint8 [H, W]; Pillow's ``convert("L")``."""
    if picture.ndim != 3 or len(picture) != 3 or picture.dtype != torch.uint8:
        raise DataError(f"a picture is uint8 [3, H, W]; got {picture.dtype} {list(picture.shape)}")
    return to_uint8(gray(to_float(picture)[None])[0, 0])


def recoloured(picture: Tensor, moved: Tensor, *, colour: Colour) -> Tensor:
    """Return the picture with another luma, uint8 [3, H, W]; pixels whose luma stays are untouched.

    "ratio" is what Liu et al. 2019 did: every channel times new luma by old. Where the old one is 0 the new gray is
    taken; what would be over 255 is cut, so that the luma of bright colours falls short.

    "minimum-norm" takes the nearest colours that have exactly the new luma, clipped and rounded ones included: along
    the weights of the luma as far as channels have room, then by single levels. As green weighs most, it changes most.
    Pictures without any colour stay so.

    Args:
        picture: uint8 [3, H, W].
        moved: the new luma, uint8 [H, W].
        colour: how.

    Raises:
        ConfigError: another way.
        DataError: sizes that do not go together.
    """
    check_colour(colour)
    old = gray_of(picture)
    if old.shape != moved.shape or moved.dtype != torch.uint8:
        raise DataError(f"a luma of {moved.dtype} {list(moved.shape)} is none of a picture {list(picture.shape)}")
    if torch.equal(picture.amax(0), picture.amin(0)):
        return moved.expand(3, -1, -1).clone()
    changed = old != moved
    colours, before, after = picture[:, changed].double(), old[changed].double(), moved[changed].double()
    if colour == "ratio":
        scaled = colours * after / before.clamp(min=1)
        found = torch.where(before > 0, scaled, after.expand(3, -1)).round().clamp(0, 255)
    else:
        found = torch.cat(
            [_nearest(c, g) for c, g in zip(*(a.split(_PIXELS_AT_ONCE, -1) for a in (colours, after)), strict=True)], 1
        )
    done = picture.clone()
    done[:, changed] = found.to(torch.uint8)
    return done


def _nearest(colours: Tensor, luma: Tensor) -> Tensor:
    """Return whole colours [3, P] with that luma [P] in levels, float64."""
    exact = colours.clone()
    for _ in range(3):  # each time another channel may turn out to be at its end
        missing = luma - _LUMA @ exact
        room = torch.where(missing > 0, exact < 255, exact > 0)
        weights = _LUMA[:, None] * room
        exact = (exact + weights * missing / (weights**2).sum(0).clamp(min=1e-12)).clamp(0, 255)
    found = exact.round()
    # -2 to 2 in every channel reach the luma from wherever rounding has led, as a level of green is 0.587 of luma's
    steps = torch.arange(-2.0, 3.0, dtype=torch.float64)
    moves = torch.cartesian_prod(steps, steps, steps).T
    wrong = (_whole_luma(found) != luma).nonzero().flatten()
    for rows in wrong.split(_PIXELS_AT_ONCE // 16):
        tried = found[:, rows, None] + moves[:, None]
        legal = ((tried >= 0) & (tried <= 255)).all(0) & (_whole_luma(tried) == luma[rows, None])
        price = (tried - exact[:, rows, None]).square().sum(0)
        best = torch.where(legal, price, torch.inf).argmin(-1)
        found[:, rows] = tried.gather(-1, best.expand(3, -1)[..., None])[..., 0]
    return found


def _whole_luma(colours: Tensor) -> Tensor:
    """Return the rounded luma of whole colours [3, ...], clipped, as `gray_of` has it."""
    flat = colours.reshape(3, -1, 1).clamp(0, 255).to(torch.uint8)
    return gray_of(flat).double().reshape(colours.shape[1:])


def through_gray(pictures: Tensor, change: Callable[[NDArray[np.uint8]], NDArray[Any]], *, colour: Colour) -> Tensor:
    """Return pictures with a changed luma.

    Args:
        pictures: float [N, 3, H, W] in [0, 1].
        change: from a luma [H, W] in levels to another; it is rounded and clipped.
        colour: how colours follow.
    """
    done = []
    for picture in to_uint8(pictures):
        luma = np.clip(np.rint(change(gray_of(picture).numpy())), 0, 255).astype(np.uint8)
        done.append(recoloured(picture, torch.from_numpy(luma), colour=colour))
    return torch.empty_like(pictures).copy_(to_float(torch.stack(done))) if done else pictures


def check_colour(colour: str) -> None:
    """Refuse an unknown way; raises ConfigError."""
    if colour not in get_args(Colour):
        raise ConfigError(f"colour = {colour!r} is refused; it is {' or '.join(get_args(Colour))}")
