"""Balls: projections against brute force, measurement, refusals."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from countermove.errors import ConfigError
from countermove.pixels.balls import Ball, check_radius
from countermove.pixels.randomness import generator

BALLS = [
    Ball(norm="linf", radius=8 / 255),
    Ball(norm="l2", radius=0.5),
    Ball(norm="l2", radius=0),
    Ball(norm="l0", radius=0),
    Ball(norm="l0", radius=3),
]
balls = st.one_of(
    st.builds(Ball, norm=st.just("linf"), radius=st.floats(0, 1)),
    st.builds(Ball, norm=st.just("l2"), radius=st.floats(0, 10)),
    st.builds(Ball, norm=st.just("l0"), radius=st.integers(0, 40)),
)


def changes(seed: int, n: int = 4, height: int = 5, width: int = 6, scale: float = 0.3) -> torch.Tensor:
    return torch.randn(n, 3, height, width, generator=generator(seed, "changes")) * scale


@settings(max_examples=60, deadline=None)
@given(ball=balls, seed=st.integers(0, 1000), scale=st.sampled_from([1e-30, 1e-4, 0.3, 5.0]))
def test_projection_is_inside_and_leaves_what_is_inside(ball: Ball, seed: int, scale: float) -> None:
    delta = changes(seed, scale=scale)
    projected = ball.project(delta)
    size = 1 if ball.norm == "l0" else max(ball.radius, 1)
    assert ball.contains(projected, slack=1e-7 * size).all()
    assert projected.shape == delta.shape
    assert projected.dtype == delta.dtype
    torch.testing.assert_close(ball.project(projected), projected)
    inside = ball.contains(delta, slack=0)
    assert torch.equal(projected[inside], delta[inside])


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_projection_is_the_nearest_point(ball: Ball) -> None:
    delta = changes(1)
    distance = (ball.project(delta) - delta).flatten(1).norm(dim=1)
    for attempt in range(200):
        other = ball.draw(delta, generator(attempt, "other"))
        if attempt % 2:  # also points close to the projection
            other = ball.project(ball.project(delta) + 0.02 * other)
        assert ((other - delta).flatten(1).norm(dim=1) >= distance - 1e-5).all()


def test_l0_projection_equals_brute_force() -> None:
    ball = Ball(norm="l0", radius=2)
    delta = changes(2, n=1, height=2, width=3)
    candidates = []
    for kept in itertools.combinations(range(6), 2):
        mask = torch.zeros(6)
        mask[list(kept)] = 1
        candidates.append(delta * mask.view(1, 1, 2, 3))
    best = min(candidates, key=lambda candidate: float((candidate - delta).norm()))
    assert torch.equal(ball.project(delta), best)


def test_l0_counts_positions_not_values_and_keeps_the_earlier_of_equals() -> None:
    delta = torch.zeros(1, 3, 2, 2)
    delta[0, :, 0, 1] = 0.5
    delta[0, 1, 1, 0] = 0.6  # the largest value, but the shorter vector
    assert Ball(norm="l0", radius=9).measure(delta).tolist() == [2]
    assert Ball(norm="l0", radius=1).project(delta)[0, 0].tolist() == [[0, 0.5], [0, 0]]
    equal = torch.ones(1, 3, 2, 2)
    assert Ball(norm="l0", radius=1).project(equal)[0, 0].tolist() == [[1, 0], [0, 0]]


def test_measure() -> None:
    delta = torch.zeros(2, 3, 4, 4)
    delta[0, 0, 0, 0] = -0.25
    delta[1, 0, 0, 0], delta[1, 2, 3, 3] = 0.3, 0.4
    assert Ball(norm="linf", radius=1).measure(delta).tolist() == pytest.approx([0.25, 0.4])
    assert Ball(norm="l2", radius=1).measure(delta).tolist() == pytest.approx([0.25, 0.5])
    assert Ball(norm="l0", radius=1).measure(delta).tolist() == [1, 2]


@pytest.mark.parametrize(("norm", "radius"), [("linf", 8 / 255), ("l2", 1.304)])
def test_contains_takes_float32_noise_but_not_a_level(norm: Any, radius: float) -> None:
    ball = Ball(norm=norm, radius=radius)
    clean = torch.rand(5, 3, 32, 32, generator=generator(0, "clean"))
    delta = ball.project(changes(0, n=5, height=32, width=32))
    assert ball.contains((clean + delta) - clean).all()
    assert not ball.contains(delta * (1 + 1e-4)).any()


def test_l0_contains_ignores_float32_noise() -> None:
    delta = torch.full((1, 3, 2, 2), 5e-8)
    assert Ball(norm="l0", radius=0).contains(delta).all()
    assert not Ball(norm="l0", radius=0).contains(delta, slack=0).any()


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_draw_is_inside_and_repeats(ball: Ball) -> None:
    like = torch.zeros(8, 3, 8, 8)
    state = torch.get_rng_state()
    first = ball.draw(like, generator(3, "start"))
    assert torch.equal(first, ball.draw(like, generator(3, "start")))
    assert torch.equal(state, torch.get_rng_state())
    assert ball.contains(first).all()
    if ball.radius:
        assert ball.measure(first).min() > 0.5 * ball.radius
        assert (first < 0).any()
        assert not torch.equal(first, ball.draw(like, generator(4, "start")))


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_an_empty_batch_passes(ball: Ball) -> None:
    empty = torch.zeros(0, 3, 8, 8)
    assert ball.project(empty).shape == empty.shape
    assert ball.measure(empty).shape == (0,)
    assert ball.contains(empty).shape == (0,)
    assert ball.draw(empty, generator(0)).shape == empty.shape


@pytest.mark.parametrize(
    ("eps", "norm", "message"),
    [
        (8, "linf", "eps = 8 is larger than the whole range of a picture; radii are in .0, 1. units: write 8/255"),
        (300, "linf", "write a fraction like 8/255"),
        (-0.1, "linf", "not negative"),
        (-1, "l2", "not negative"),
        (-1, "l0", "not negative"),
        (math.nan, "l2", "finite"),
        (math.inf, "l2", "finite"),
        (math.inf, "l0", "finite"),
        (2.5, "l0", "whole number"),
        ("8/255", "linf", "not a number"),
        (True, "l0", "not a number"),
        (0.1, "l-inf", "unknown norm 'l-inf'; did you mean 'linf'"),
    ],
)
def test_refused_radii(eps: Any, norm: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_radius(eps, norm=norm)
    with pytest.raises(ConfigError, match=message):
        Ball(norm=norm, radius=eps)


@pytest.mark.parametrize(("eps", "norm"), [(8 / 255, "linf"), (1, "linf"), (0, "linf"), (1.304, "l2"), (16, "l0")])
def test_accepted_radii(eps: float, norm: Any) -> None:
    assert check_radius(eps, norm=norm) == eps
