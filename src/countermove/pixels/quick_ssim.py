"""SSIM to fixed pictures, many times over: their own terms are computed once."""

from __future__ import annotations

import torch
from torch import Tensor

from countermove.errors import DataError
from countermove.pixels.squeezes import gaussian_weights

WINDOW, SIGMA = 11, 1.5
_STEADY, _CONTRAST = 0.01**2, 0.03**2
EVERY = slice(None)


class QuickSsim:
    """Structural similarity, Wang et al. 2004, with the settings of `pixels.ssim`, in float32.

    All values are shifted by the clean picture's mean first, which changes neither variances nor covariance and keeps
    their differences accurate.
    """

    def __init__(self, clean: Tensor) -> None:
        """Compute the clean pictures' terms, [N, 3, H, W].

        Raises:
            DataError: when a side is under 11 pixels.
        """
        if min(clean.shape[2:]) < WINDOW:
            raise DataError(f"pictures of {clean.shape[3]} x {clean.shape[2]} pixels are too small for SSIM: 11 x 11")
        self.shift = clean.mean((2, 3), keepdim=True)
        self.clean = clean - self.shift
        self.down, self.across = (_window(side).to(clean) for side in clean.shape[2:])
        self.mean = self._blur(self.clean)
        self.variance = self._blur(self.clean.square()) - self.mean.square()

    def __call__(self, moved: Tensor, rows: Tensor | slice = EVERY) -> Tensor:
        """Return one number a picture, [n], for pictures that all, or some of the rows, became; differentiable."""
        moved, clean = moved - self.shift[rows], self.clean[rows]
        mean, square, product = self._blur(torch.cat([moved, moved.square(), moved * clean])).split(len(moved))
        light, other = mean + self.shift[rows], self.mean[rows] + self.shift[rows]
        similar = (2 * light * other + _STEADY) / (light.square() + other.square() + _STEADY)
        covariance, variance = product - mean * self.mean[rows], square - mean.square()
        shape = (2 * covariance + _CONTRAST) / (variance + self.variance[rows] + _CONTRAST)
        return (similar * shape).mean((1, 2, 3))

    def rows(self, index: Tensor) -> QuickSsim:
        """Return the same for some of the pictures."""
        some = object.__new__(QuickSsim)
        some.down, some.across = self.down, self.across
        for name in ("shift", "clean", "mean", "variance"):
            setattr(some, name, getattr(self, name)[index])
        return some

    def _blur(self, pictures: Tensor) -> Tensor:
        # two products with banded matrices: for small pictures many times faster than convolutions of one channel
        return self.down @ pictures @ self.across.T


def _window(side: int) -> Tensor:
    """Return the matrix that slides the Gaussian window along one direction, [side - 10, side]."""
    weights = torch.tensor(gaussian_weights(WINDOW, SIGMA), dtype=torch.float64)
    matrix = torch.zeros(side - WINDOW + 1, side, dtype=torch.float64)
    for row in range(len(matrix)):
        matrix[row, row : row + WINDOW] = weights
    return matrix
