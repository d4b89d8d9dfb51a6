"""Squares of noise that lie somewhere on a picture.

Legend: n pictures of H x W, each with one square of P x P whose top left corner is its place, int64 [n, 2] (row,
column). Where places are None the noise is as large as the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from countermove.errors import DataError
from countermove.pixels.randomness import per_sample


def check_patch(patch: int, height: int, width: int) -> None:
    """Refuse a patch that does not fit on a picture; 0 stands for the whole picture.

    Raises:
        DataError: when it is larger than the picture.
    """
    if patch > min(height, width):
        raise DataError(
            f"a patch of {patch} x {patch} pixels does not fit on a picture of {height} x {width}; choose a patch of "
            f"at most {min(height, width)}, or 0 for noise on the whole picture"
        )


def draw_places(n: int, patch: int, height: int, width: int, generator: Generator) -> Tensor:
    """Draw one place for each of n squares, all places equally likely."""
    row = torch.randint(0, height - patch + 1, (n,), generator=generator)
    column = torch.randint(0, width - patch + 1, (n,), generator=generator)
    return torch.stack([row, column], dim=1)


def places_by_id(seed: int, ids: Sequence[str], patch: int, height: int, width: int) -> Tensor:
    """Return the place of each id, the same in any batch and any order."""
    return per_sample(seed, "patch", ids, lambda source: draw_places(1, patch, height, width, source)[0])


def put(squares: Tensor, places: Tensor | None, height: int, width: int) -> Tensor:
    """Lay squares [n, 3, P, P] on black [n, 3, H, W]. Differentiable."""
    if places is None:
        return squares
    canvas = squares.new_zeros(len(squares), squares.shape[1], height, width)
    canvas[_at(places, squares.shape[-1], squares.device)] = squares.permute(0, 2, 3, 1)
    return canvas


def cut(pictures: Tensor, places: Tensor | None, patch: int) -> Tensor:
    """Cut the squares [n, 3, P, P] out of pictures [n, 3, H, W]. Differentiable."""
    if places is None:
        return pictures
    return pictures[_at(places, patch, pictures.device)].permute(0, 3, 1, 2)


def _at(places: Tensor, patch: int, device: torch.device) -> tuple[Tensor, slice, Tensor, Tensor]:
    """Return the index of every pixel of the squares; it addresses [n, P, P, 3]."""
    places, along = places.to(device), torch.arange(patch, device=device)
    which = torch.arange(len(places), device=device)[:, None, None]
    rows, columns = places[:, 0, None, None] + along[:, None], places[:, 1, None, None] + along
    return which, slice(None), rows, columns
