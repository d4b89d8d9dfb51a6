"""8-bit rounding: exact round trips, and budgets counted in whole levels by a second, slow way."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from countermove.errors import DataError
from countermove.pixels import rounding
from countermove.pixels.balls import Ball, Norm
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import quantize_move, to_float, to_uint8

balls = st.one_of(
    st.builds(
        Ball, norm=st.just("linf"), radius=st.one_of(st.integers(0, 255).map(lambda k: k / 255), st.floats(0, 1))
    ),
    st.builds(Ball, norm=st.just("l2"), radius=st.floats(0, 4)),
    st.builds(Ball, norm=st.just("l0"), radius=st.integers(0, 60)),
)


def eight_bit(seed: int, n: int = 3, side: int = 7) -> torch.Tensor:
    levels = torch.randint(0, 256, (n, 3, side, side), generator=generator(seed, "pictures"))
    levels[:1] = levels[:1] // 255 * 255  # one picture that is mostly black
    return to_float(levels.to(torch.uint8))


def moves(seed: int, like: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.randn(like.shape, generator=generator(seed, "move")) * scale


def through_png(pictures: torch.Tensor) -> np.ndarray:
    """Save as PNG and read back: integers [N, H, W, 3]."""
    read = []
    for picture in to_uint8(pictures).permute(0, 2, 3, 1).numpy():
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        read.append(np.asarray(Image.open(buffer)).astype(np.int64))
    return np.stack(read)


def within(ball: Ball, levels: np.ndarray) -> bool:
    """Measure whole levels [H, W, 3] in exact integers."""
    if ball.norm == "linf":
        return int(abs(levels).max()) <= ball.radius * 255 + 1e-6
    if ball.norm == "l2":
        return int((levels**2).sum()) <= (ball.radius * 255) ** 2 * (1 + 1e-8)
    return int((levels != 0).any(-1).sum()) <= ball.radius


def test_all_levels_survive() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(levels)), levels)
    assert torch.equal(to_float(levels), levels.float() / 255)


def test_to_uint8_rounds_clamps_and_refuses_nan() -> None:
    values = torch.tensor([-0.1, 0.49 / 255, 0.51 / 255, 1.0, 1.2, math.inf])
    assert to_uint8(values).tolist() == [0, 0, 1, 255, 255, 255]
    with pytest.raises(DataError, match="NaN"):
        to_uint8(torch.tensor([math.nan]))


@settings(max_examples=150, deadline=None)
@given(ball=balls, seed=st.integers(0, 10_000), scale=st.sampled_from([1e-3, 0.01, 0.1, 1.0]), inside=st.booleans())
def test_budget_is_kept_after_a_png_round_trip(ball: Ball, seed: int, scale: float, inside: bool) -> None:
    clean = eight_bit(seed)
    delta = moves(seed, clean, scale)
    moved = clean + (ball.project(delta) if inside else delta)
    kept = quantize_move(moved, clean, ball)
    assert kept.min() >= 0
    assert kept.max() <= 1
    assert kept.dtype == torch.float32
    read = through_png(kept)
    for after, before in zip(read, through_png(clean), strict=True):
        assert within(ball, after - before)
    assert ball.contains(kept - clean).all()
    assert torch.equal(kept, to_float(torch.from_numpy(read).permute(0, 3, 1, 2)))
    assert torch.equal(kept, quantize_move(kept, clean, ball))


@pytest.mark.parametrize("kind", ["float64", "float32", "an ulp short"])
def test_linf_of_k_permits_exactly_k_levels(kind: str) -> None:
    clean = torch.zeros(1, 3, 2, 2)
    for k in range(256):
        radius = {
            "float64": k / 255,
            "float32": float(torch.tensor(k / 255)),
            "an ulp short": math.nextafter(k / 255, 0),
        }[kind]
        kept = quantize_move(clean + 1, clean, Ball(norm="linf", radius=radius))
        assert to_uint8(kept).unique().tolist() == [k]


def test_linf_rounds_toward_clean_only_where_it_must() -> None:
    clean = torch.full((1, 3, 1, 2), 100 / 255)
    moved = clean + torch.tensor([8.6, 3.6]) / 255
    kept = quantize_move(moved, clean, Ball(norm="linf", radius=8.7 / 255))
    assert (to_uint8(kept)[0, 0, 0] - 100).tolist() == [8, 4]


@pytest.mark.parametrize("norm", ["linf", "l2", "l0"])
def test_radius_zero_returns_clean_on_the_grid(norm: Norm) -> None:
    ball = Ball(norm=norm, radius=0)
    clean = eight_bit(5)
    assert torch.equal(quantize_move(clean + 0.3, clean, ball), clean)
    odd = torch.rand(2, 3, 4, 4, generator=generator(5, "odd"))
    assert torch.equal(quantize_move(odd, odd, ball), to_float(to_uint8(odd)))


def test_l2_keeps_nearly_the_whole_budget() -> None:
    ball = Ball(norm="l2", radius=1.304)
    clean = to_float(torch.randint(60, 190, (20, 3, 32, 32), generator=generator(1, "mid")).to(torch.uint8))
    delta = ball.project(moves(1, clean, 1.0))
    kept = quantize_move(clean + delta, clean, ball) - clean
    truncated = (delta * 255).trunc() / 255
    assert ball.measure(kept).min() > 0.985 * ball.radius
    assert ball.measure(truncated).max() < 0.95 * ball.radius
    plain = to_float(to_uint8(clean + delta)) - clean
    assert not ball.contains(plain).all()
    assert (kept - delta).norm() < 1.01 * (plain - delta).norm()


def test_l2_pulls_in_the_fewest_and_the_nearest() -> None:
    clean = torch.full((1, 3, 1, 1), 0.5019608)
    moved = clean + torch.tensor([2.6, 2.9, -2.55]).view(1, 3, 1, 1) / 255
    kept = quantize_move(moved, clean, Ball(norm="l2", radius=4.7 / 255))
    # rounded: 3, 3, -3, 27 > 22.09; one entry to 2 gives 22, and the one that was rounded furthest is the cheapest
    assert (to_uint8(kept).int() - 128).flatten().tolist() == [3, 3, -2]


def test_l0_adds_no_positions_when_clean_pictures_are_off_the_grid() -> None:
    clean = torch.rand(4, 3, 8, 8, generator=generator(7, "clean"))
    moved = clean.clone()
    moved[:, :, 2, 3] = 1 - clean[:, :, 2, 3].round()
    kept = quantize_move(moved, clean, Ball(norm="l0", radius=64))
    changed = (to_uint8(kept) != to_uint8(clean)).any(1)
    assert changed.flatten(1).sum(1).tolist() == [1] * 4


def test_pieces_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    ball = Ball(norm="l2", radius=0.6)
    clean = eight_bit(9, n=7)
    moved = clean + moves(9, clean, 0.1)
    whole = quantize_move(moved, clean, ball)
    monkeypatch.setattr(rounding, "_ENTRIES_AT_ONCE", 300)
    assert torch.equal(quantize_move(moved, clean, ball), whole)


def test_inputs_are_left_alone_and_empty_batches_pass() -> None:
    clean = eight_bit(3)
    moved = clean + 0.1
    before = moved.clone(), clean.clone()
    quantize_move(moved, clean, Ball(norm="linf", radius=0.01))
    assert torch.equal(moved, before[0])
    assert torch.equal(clean, before[1])
    assert quantize_move(clean[:0], clean[:0], Ball(norm="l2", radius=1)).shape == (0, 3, 7, 7)


def test_refusals() -> None:
    clean, ball = eight_bit(0), Ball(norm="linf", radius=0.1)
    with pytest.raises(DataError, match="differ in shape"):
        quantize_move(clean, clean[:1], ball)
    with pytest.raises(DataError, match="NaN"):
        quantize_move(clean * math.nan, clean, ball)
    with pytest.raises(DataError, match=r"\[N, 3, H, W\]"):
        quantize_move(clean[:, :1], clean[:, :1], ball)
