"""Structural similarity of two pictures."""

from __future__ import annotations

from torch import Tensor

from countermove.errors import DataError
from countermove.pixels.rounding import check_pictures

_WINDOW = 11


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity of each pair of pictures, 1 for equal ones. Wang et al. 2004.

    Gaussian window of 11 x 11 with sigma 1.5, population covariance, data range 1; the mean over the channels and over
    those positions whose window lies inside the picture. These are the paper's settings, and scikit-image's with
    ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1``. Kornia does the work, on any
    device and with a gradient.

    Args:
        a: float pictures [N, 3, H, W] in [0, 1], both sides at least 11.
        b: the same shape.

    Returns:
        [N], at most 1.

    Raises:
        DataError: shapes that differ, or a side under 11 pixels.
    """
    check_pictures(a)
    check_pictures(b)
    if a.shape != b.shape:
        raise DataError(f"pictures of shape {list(a.shape)} and {list(b.shape)} cannot be compared; resize one of them")
    if min(a.shape[2:]) < _WINDOW:
        raise DataError(
            f"pictures of {a.shape[2]} x {a.shape[3]} pixels are smaller than the {_WINDOW} x {_WINDOW} window of SSIM"
        )
    if not len(a):
        return a.new_zeros(0)
    from kornia.metrics import ssim as similarity_map  # slow to import

    # float64, because variances are differences of nearly equal numbers: float32 is off by 2e-4 on flat bright pictures
    # (and by more on a GPU that convolves in TF32)
    similarity = similarity_map(a.double(), b.double(), _WINDOW, max_val=1.0, eps=0.0, padding="valid")
    return similarity.mean((1, 2, 3)).to(a.dtype)
