"""JPEG: the real codec by a second way, and the differentiable one against it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.balls import Ball
from countermove.pixels.jpeg import jpeg, jpeg_differentiable
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import quantize_move, to_float, to_uint8

QUALITIES = [10, 30, 50, 75, 95]
DATA = Path(os.environ.get("COUNTERMOVE_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def scenes(n: int = 8, height: int = 32, width: int = 32) -> Tensor:
    """Return 8-bit pictures that look a little like photos: smooth colours, edges and some grain."""
    random = generator(0, "scenes")
    coarse = torch.rand(n, 3, 5, 5, generator=random)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    shapes = F.interpolate((torch.rand(n, 1, 4, 4, generator=random) > 0.6).float(), (height, width), mode="nearest")
    grain = torch.randn(n, 3, height, width, generator=random) * 0.03
    return to_float(to_uint8((0.7 * smooth + 0.25 * shapes + grain).clamp(0, 1)))


def odd_sides() -> Tensor:
    return scenes(8, 30, 37)


def tiny() -> Tensor:
    return scenes(4, 5, 9)


def photos() -> Tensor:
    path = DATA / "cifar10_lossless" / "cifar10_lossless.npz"
    if not path.exists():
        pytest.skip(f"needs {path} (CIFAR-10 as lossless pictures); set COUNTERMOVE_DATA to the folder that holds it")
    with np.load(path) as data:
        return to_float(torch.from_numpy(data["x_test"][:64]).permute(0, 3, 1, 2))


def one_by_one(pictures: Tensor, quality: int) -> Tensor:
    rows = []
    for picture in pictures.permute(0, 2, 3, 1):
        buffer = io.BytesIO()
        Image.fromarray((picture * 255).round().byte().numpy()).save(buffer, format="JPEG", quality=quality)
        rows.append(torch.from_numpy(np.array(Image.open(buffer).convert("RGB"))))
    return to_float(torch.stack(rows).permute(0, 3, 1, 2))


@pytest.mark.parametrize("quality", [1, 10, 95])
@pytest.mark.parametrize("threads", [None, 1, 3, 50])
def test_the_real_codec_whatever_the_threads(quality: int, threads: int | None) -> None:
    pictures = scenes(5, 30, 37)
    assert torch.equal(jpeg(pictures, quality, threads=threads), one_by_one(pictures, quality))


def test_default_quality_is_10_with_chroma_at_half_resolution() -> None:
    pictures = scenes()
    assert torch.equal(jpeg(pictures), jpeg(pictures, 10))
    flat = torch.full((1, 3, 16, 16), 0.5)
    flat[:, 0, :, ::2], flat[:, 0, :, 1::2] = 0.4, 0.6  # red stripes: their colour does not survive 4:2:0, luma does
    kept = jpeg(flat, 95)
    colour = (kept[:, 0] - kept[:, 2])[..., 4:12]
    assert colour.std() < 0.2 * (flat[:, 0] - flat[:, 2]).std()


def test_layout_dtype_and_gradient() -> None:
    pictures = scenes()
    last = pictures.contiguous(memory_format=torch.channels_last)
    assert torch.equal(jpeg(last), jpeg(pictures))
    assert jpeg(pictures.double()).dtype == torch.float64
    assert not jpeg(pictures.requires_grad_()).requires_grad
    assert jpeg(pictures[:0]).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("source", [scenes, photos, odd_sides, tiny], ids=lambda source: source.__name__)
def test_the_differentiable_codec_is_near_the_real_one(source: Callable[[], Tensor], quality: int) -> None:
    pictures = source()
    real, soft = jpeg(pictures, quality), jpeg_differentiable(pictures, quality)
    assert soft.shape == pictures.shape
    assert soft.min() >= 0
    assert soft.max() <= 1
    distance, change = (soft - real).abs().mean(), (real - pictures).abs().mean()
    assert distance < 0.5 * change
    if source is photos:
        assert distance < 3 / 255


@pytest.mark.parametrize("quality", QUALITIES)
def test_gradient_is_that_of_the_function(quality: int) -> None:
    """Away from the jumps of its rounding; at a jump a numerical derivative means nothing, so the input is fixed."""
    inner = torch.rand(1, 3, 6, 5, generator=generator(4, "gradient"), dtype=torch.float64) * 0.4 + 0.3
    assert torch.autograd.gradcheck(
        lambda pictures: jpeg_differentiable(pictures, quality), inner.requires_grad_(), eps=1e-7, atol=1e-4
    )


@pytest.mark.parametrize(("quality", "factor"), [(10, 4.0), (50, 2.0), (95, 1.2)])
@pytest.mark.parametrize("source", [scenes, photos])
def test_steps_along_the_gradient_help_after_the_real_codec(
    source: Callable[[], Tensor], quality: int, factor: float
) -> None:
    """Raise the answer of a noise-like detector; what ignores the codec mostly dies in it."""
    pictures, ball = source()[:8], Ball(norm="linf", radius=8 / 255)
    detector = torch.randn(1, 3, 32, 32, generator=generator(0, "detector"))

    def answer(seen: Tensor) -> Tensor:
        return (seen * detector).sum((1, 2, 3)).mean()

    def gain(transform: Callable[[Tensor], Tensor]) -> Tensor:
        delta = torch.zeros_like(pictures)
        for _ in range(10):
            moved = (pictures + delta).requires_grad_()
            (gradient,) = torch.autograd.grad(answer(transform(moved)), moved)
            assert gradient.isfinite().all()
            assert gradient.abs().flatten(1).sum(1).min() > 0
            delta = ball.project(delta + 2 / 255 * gradient.sign())
            delta = (pictures + delta).clamp(0, 1) - pictures
        published = quantize_move(pictures + delta, pictures, ball)
        return answer(jpeg(published, quality)) - answer(jpeg(pictures, quality))

    aware = gain(lambda moved: jpeg_differentiable(moved, quality))
    unaware = gain(lambda moved: moved)
    assert aware > factor * unaware > 0


@pytest.mark.parametrize("quality", [0, 96, 100, -1, 10.0, True, "10"])
@pytest.mark.parametrize("codec", [jpeg, jpeg_differentiable])
def test_quality_out_of_range(codec: Callable[[Tensor, Any], Tensor], quality: Any) -> None:
    with pytest.raises(ConfigError, match="from 1 to 95"):
        codec(scenes(1), quality)


def test_threads_out_of_range() -> None:
    with pytest.raises(ConfigError, match="threads = 0"):
        jpeg(scenes(1), threads=0)
