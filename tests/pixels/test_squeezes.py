"""Squeezes against Pillow and SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy import ndimage
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels import squeezes
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float, to_uint8

ALL: dict[str, Callable[[Tensor], Tensor]] = {
    "gray": squeezes.gray,
    "gray_soft": squeezes.gray_soft,
    "channel_mean": squeezes.channel_mean,
    "single_channel": squeezes.single_channel,
    "luma_quantization": squeezes.luma_quantization,
    "bit_depth": squeezes.bit_depth,
    "median": squeezes.median,
    "mean": squeezes.mean,
    "gaussian": squeezes.gaussian,
    "jpeg": squeezes.jpeg,
    "jpeg_differentiable": squeezes.jpeg_differentiable,
}


def pictures(n: int = 3, height: int = 20, width: int = 13) -> Tensor:
    return to_float(torch.randint(0, 256, (n, 3, height, width), generator=generator(0, "pictures")).to(torch.uint8))


def with_pillow(batch: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    rows = [np.array(change(Image.fromarray(row))) for row in to_uint8(batch).permute(0, 2, 3, 1).numpy()]
    return to_float(torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", ALL)
def test_every_squeeze_keeps_the_rules(name: str) -> None:
    squeeze, batch = ALL[name], pictures()
    before = batch.clone()
    squeezed = squeeze(batch)
    assert torch.equal(batch, before)
    assert squeezed.shape == batch.shape
    assert squeezed.min() >= 0
    assert squeezed.max() <= 1
    assert not torch.equal(squeezed, batch)
    assert torch.equal(squeezed, squeeze(batch))
    torch.testing.assert_close(squeeze(batch[1:2]), squeezed[1:2])
    white = torch.ones(1, 3, 16, 16)
    assert squeeze(white).max() <= 1
    last = squeeze(batch.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, squeezed)
    assert squeeze(batch[:0]).shape == batch[:0].shape
    for kind in (torch.float32, torch.float64):
        assert squeeze(batch.to(kind)).dtype == kind
    with pytest.raises(DataError, match=r"\[N, 3, H, W\]"):
        squeeze(batch[:, :1])


def test_gray_is_pillows_for_every_luma() -> None:
    batch = pictures(8, 64, 64)
    assert torch.equal(squeezes.gray(batch), with_pillow(batch, lambda image: image.convert("L").convert("RGB")))
    soft = squeezes.gray_soft(batch)
    assert (soft - squeezes.gray(batch)).abs().max() * 255 < 0.51
    assert torch.equal(squeezes.gray(squeezes.gray(batch)), squeezes.gray(batch))


def test_channel_mean_is_the_nearest_level() -> None:
    batch = pictures(8, 64, 64)
    levels = to_uint8(batch).double().mean(1, keepdim=True).round().expand(-1, 3, -1, -1)  # thirds: never a tie
    assert torch.equal(to_uint8(squeezes.channel_mean(batch)).double(), levels)


@pytest.mark.parametrize(("channel", "position"), [("r", 0), ("g", 1), ("b", 2)])
def test_single_channel_is_that_channel_three_times(channel: squeezes.Channel, position: int) -> None:
    batch = pictures()
    single = squeezes.single_channel(batch, channel)
    assert all(torch.equal(single[:, i], batch[:, position]) for i in range(3))


def test_luma_quantization_with_all_levels_is_gray_or_nothing() -> None:
    batch = pictures(8, 64, 64)
    assert torch.equal(squeezes.luma_quantization(batch, levels=256, chroma=1), squeezes.gray(batch))
    neutral = squeezes.gray(batch)
    assert torch.equal(
        squeezes.luma_quantization(neutral, levels=7, chroma=5), squeezes.luma_quantization(neutral, levels=7)
    )
    same = squeezes.luma_quantization(batch, levels=256, chroma=255)
    assert (to_uint8(same).int() - to_uint8(batch).int()).abs().max() <= 3


@pytest.mark.parametrize(("levels", "chroma"), [(2, 1), (4, 3), (16, 5)])
def test_luma_quantization_is_pillows_ycbcr_with_fewer_levels(levels: int, chroma: int) -> None:
    batch = pictures(2, 24, 24) * 0.3 + 0.35  # soft colours, so that nothing is clipped
    images = [Image.fromarray(row).convert("YCbCr") for row in to_uint8(batch).permute(0, 2, 3, 1).numpy()]
    y, cb, cr = torch.from_numpy(np.stack([np.array(image) for image in images])).double().unbind(-1)
    found = [
        Image.fromarray(row)
        for row in to_uint8(squeezes.luma_quantization(batch, levels, chroma)).permute(0, 2, 3, 1).numpy()
    ]
    got_y, got_cb, got_cr = (
        torch.from_numpy(np.stack([np.array(image.convert("YCbCr")) for image in found])).double().unbind(-1)
    )
    step = 255 / (levels - 1)
    assert (got_y / step - (got_y / step).round()).abs().max() * step < 3  # every luma is one of the levels
    assert (got_y - y).abs().max() <= step / 2 + 3  # and the nearest
    for got, was in ((got_cb, cb), (got_cr, cr)):
        step = 255 / max(chroma - 1, 1)
        offset = got - 128
        assert (offset / step - (offset / step).round()).abs().max() * step < 3
        assert (got - was).abs().max() <= (step / 2 + 3 if chroma > 1 else 128)


@pytest.mark.parametrize("bits", range(1, 8))
def test_bit_depth_is_pillows_posterize(bits: int) -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    batch = torch.cat([to_float(levels), pictures(1, 16, 16)])
    squeezed = squeezes.bit_depth(batch, bits)
    assert torch.equal(squeezed, with_pillow(batch, lambda image: ImageOps.posterize(image, bits)))
    assert len(squeezed[:1].unique()) == 2**bits


@pytest.mark.parametrize("size", [3, 5])
def test_median_is_scipys(size: int) -> None:
    batch = pictures()
    expected = ndimage.median_filter(batch.numpy(), size=(1, 1, size, size), mode="nearest")
    assert torch.equal(squeezes.median(batch, size), torch.from_numpy(expected))


def test_median_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = squeezes.median(pictures(5))
    monkeypatch.setattr(squeezes, "_ENTRIES_AT_ONCE", 1)
    assert torch.equal(squeezes.median(pictures(5)), whole)


@pytest.mark.parametrize("size", [3, 5])
def test_mean_is_scipys(size: int) -> None:
    batch = pictures()
    expected = ndimage.uniform_filter(batch.double().numpy(), size=size, mode="mirror", axes=(2, 3))
    torch.testing.assert_close(squeezes.mean(batch, size).double(), torch.from_numpy(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("size", "sigma"), [(3, 0.3), (3, 1.0), (7, 1.5)])
def test_gaussian_is_scipys(size: int, sigma: float) -> None:
    batch = pictures()
    expected = ndimage.gaussian_filter(batch.double().numpy(), sigma, mode="mirror", radius=size // 2, axes=(2, 3))
    squeezed = squeezes.gaussian(batch, size, sigma)
    torch.testing.assert_close(squeezed.double(), torch.from_numpy(expected), atol=1e-6, rtol=0)
    assert not torch.equal(to_uint8(squeezed), to_uint8(batch))


@pytest.mark.parametrize("sigma", [0.1, 0.2])
def test_a_gaussian_that_changes_nothing_is_refused(sigma: float) -> None:
    checkers = (torch.arange(64) % 2).float().view(1, 1, 1, 64).expand(1, 3, 64, 64)  # the hardest case
    expected = ndimage.gaussian_filter(checkers.double().numpy(), sigma, mode="mirror", radius=1, axes=(2, 3))
    assert torch.equal(to_uint8(torch.from_numpy(expected)), to_uint8(checkers))
    with pytest.raises(ConfigError, match="so narrow that only"):
        squeezes.gaussian(checkers, 3, sigma)


@pytest.mark.parametrize("soft", [squeezes.gray_soft, squeezes.mean, squeezes.gaussian])
def test_soft_squeezes_have_right_gradients(soft: Callable[[Tensor], Tensor]) -> None:
    inner = torch.rand(1, 3, 4, 5, generator=generator(0, "gradient"), dtype=torch.float64) * 0.8 + 0.1
    assert torch.autograd.gradcheck(soft, inner.requires_grad_())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda batch: squeezes.bit_depth(batch, 0), "bits = 0"),
        (lambda batch: squeezes.single_channel(batch, cast(Any, "x")), "unknown channel 'x'"),
        (lambda batch: squeezes.luma_quantization(batch, 1), "levels = 1"),
        (lambda batch: squeezes.luma_quantization(batch, 257), "levels = 257"),
        (lambda batch: squeezes.luma_quantization(batch, 16, 2), "chroma = 2"),
        (lambda batch: squeezes.luma_quantization(batch, 16, True), "chroma = True"),
        (lambda batch: squeezes.bit_depth(batch, 8), "8 would change nothing"),
        (lambda batch: squeezes.bit_depth(batch, True), "bits = True"),
        (lambda batch: squeezes.median(batch, 4), "size = 4"),
        (lambda batch: squeezes.mean(batch, 1), "1 changes nothing"),
        (lambda batch: squeezes.mean(batch, 27), "at most 25"),
        (lambda batch: squeezes.gaussian(batch, 3, 0), "sigma = 0"),
        (lambda batch: squeezes.gaussian(batch, 3, float("inf")), "sigma = inf"),
        (lambda batch: squeezes.gaussian(batch, True, 1), "size = True"),
        (lambda batch: squeezes.jpeg(batch, 100), "quality = 100"),
    ],
)
def test_refusals(call: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call(pictures())
