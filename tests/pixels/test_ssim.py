"""SSIM against scikit-image."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from countermove.errors import DataError
from countermove.pixels.randomness import generator
from countermove.pixels.ssim import ssim


def pair(height: int, width: int, noise: float, base: float | None = None) -> tuple[Tensor, Tensor]:
    random = generator(0, "pair")
    a = torch.rand(3, 3, height, width, generator=random)
    if base is not None:
        a = base + (a - 0.5) * 0.02
    return a.clamp(0, 1), (a + noise * torch.randn(a.shape, generator=random)).clamp(0, 1)


def by_scikit_image(a: Tensor, b: Tensor) -> Tensor:
    values = [
        structural_similarity(
            x.double().numpy(),
            y.double().numpy(),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=0,
        )
        for x, y in zip(a, b, strict=True)
    ]
    return torch.tensor(values, dtype=torch.float32)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (11, 11), (40, 17)])
@pytest.mark.parametrize(("noise", "base"), [(0.02, None), (0.5, None), (0.01, 0.97), (0.01, 0.0)])
def test_equals_scikit_image(height: int, width: int, noise: float, base: float | None) -> None:
    a, b = pair(height, width, noise, base)
    torch.testing.assert_close(ssim(a, b), by_scikit_image(a, b), atol=1e-4, rtol=0)


def test_one_for_equal_symmetric_and_lower_for_more_noise() -> None:
    a, b = pair(32, 32, 0.1)
    _, worse = pair(32, 32, 0.3)
    torch.testing.assert_close(ssim(a, a), torch.ones(3))
    torch.testing.assert_close(ssim(a, b), ssim(b, a))
    assert (ssim(a, worse) < ssim(a, b)).all()
    black = torch.zeros(1, 3, 16, 16)
    assert ssim(black, black).tolist() == [1]
    assert ssim(a, 1 - a).max() < 0


def test_each_sample_alone() -> None:
    a, b = pair(24, 24, 0.1)
    together = ssim(a, b)
    assert together.shape == (3,)
    torch.testing.assert_close(torch.cat([ssim(a[i : i + 1], b[i : i + 1]) for i in range(3)]), together)
    assert ssim(a[:0], b[:0]).shape == (0,)


def test_has_a_gradient() -> None:
    a, b = pair(12, 12, 0.1)
    a, b = a[:1].double(), b[:1].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda moved: ssim(a, moved), b)


def test_refusals() -> None:
    a, b = pair(16, 16, 0.1)
    with pytest.raises(DataError, match="cannot be compared"):
        ssim(a, b[:, :, :12])
    with pytest.raises(DataError, match="smaller than the 11 x 11 window"):
        ssim(a[..., :10], b[..., :10])
