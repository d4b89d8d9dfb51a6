"""Lifting keypoints out of their pit: the graph, the program, and what is left."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from tests.retrieval.textures import texture

from countermove.pixels.randomness import generator
from countermove.retrieval.directed import INSIDE, KEYPOINT, NEIGHBOURS, block_of, blocks, operators, pointers, samples
from countermove.retrieval.keypoints import Keypoints, detect, differences, surviving
from countermove.retrieval.quadratic import nearest_inside
from countermove.retrieval.queries.rdg import apart, lift, lifted
from countermove.retrieval.recolouring import gray_of


@pytest.fixture
def gray() -> NDArray[np.uint8]:
    return gray_of(texture(96, 128)).numpy()


# the program


def test_programs_are_solved_as_scipy_solves_them() -> None:
    source = generator(0, "programs")
    normals = torch.randn(6, 30, 9, generator=source, dtype=torch.float64)
    inner = 2 * torch.randn(6, 9, generator=source, dtype=torch.float64)
    bounds = torch.einsum("nmd,nd->nm", normals, inner) - 3 * torch.rand(6, 30, generator=source, dtype=torch.float64)
    normals[0, 3] = 0
    found, solved = nearest_inside(normals, bounds)
    assert solved.all()
    for a, b, z, start in zip(normals.numpy(), bounds.numpy(), found.numpy(), inner.numpy(), strict=True):
        rows = np.abs(a).max(1) > 0
        constraint = {"type": "ineq", "fun": lambda x, a=a[rows], b=b[rows]: a @ x - b, "jac": lambda x, a=a[rows]: a}
        best = minimize(lambda x: x @ x / 2, start, jac=lambda x: x, constraints=[constraint], options={"ftol": 1e-13})
        assert float(z @ z / 2) == pytest.approx(best.fun, rel=1e-5)
        assert np.allclose(z, best.x, atol=5e-3)
        assert (a @ z - b)[rows].min() > -1e-5


def test_a_program_by_hand() -> None:
    """The nearest point of x + y >= 2, x >= 1.5 is (1.5, 0.5); without anything to keep it is the origin."""
    normals = torch.tensor([[[1.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, 0.0]]])
    found, solved = nearest_inside(normals, torch.tensor([[2.0, 1.5], [-2.0, -1.5]]))
    assert solved.all()
    assert torch.allclose(found, torch.tensor([[1.5, 0.5], [0.0, 0.0]]).double(), atol=1e-3)


def test_what_cannot_be_kept_is_not_solved_and_harms_no_other() -> None:
    normals = torch.tensor([[[1.0], [-1.0]], [[1.0], [-1.0]]])
    found, solved = nearest_inside(normals, torch.tensor([[1.0, 1.0], [1.0, -2.0]]))
    assert solved.tolist() == [False, True]
    assert float(found[1]) == pytest.approx(1.0, abs=1e-3)
    empty, none = nearest_inside(torch.zeros(0, 150, 49), torch.zeros(0, 150))
    assert empty.shape == (0, 49)
    assert none.shape == (0,)


# the graph


def test_every_sample_points_to_neighbours_and_the_keypoint_gets_out(gray: NDArray[np.uint8]) -> None:
    dog, found = differences(gray)[1], detect(gray, octaves=(1,))
    values = samples(dog, found) * -np.sign(found.value)[:, None]
    key = KEYPOINT[found.layer]
    position = {int(sample): i for i, sample in enumerate(INSIDE)}
    for row, sample in enumerate(key):
        assert values[row, sample] < values[row, NEIGHBOURS[position[sample]]].min()
    lower, higher, escapes = pointers(values, found.layer)
    assert escapes.mean() > 0.9
    for pointed in (lower, higher):
        for i, sample in enumerate(INSIDE):
            assert np.isin(pointed[:, i], [-1, *NEIGHBOURS[i]]).all(), sample
    for row in escapes.nonzero()[0]:
        at, heights = int(key[row]), []
        for _ in range(100):  # down from the keypoint along what shall be lower, until one is out
            heights.append(values[row, at])
            if at not in position or lower[row, position[at]] < 0:
                break
            at = int(lower[row, position[at]])
        else:
            pytest.fail("the way leads round in circles")
        assert at != key[row]
        assert max(heights) > heights[0], "a way out of a pit climbs first"


def test_the_way_out_is_the_one_with_the_least_climb() -> None:
    """A made-up pit with one low gap in its rim."""
    values = 10 + np.arange(245.0).reshape(5, 7, 7) * 1e-3
    values[2, 3, 3] = 0.0
    values[2, 3, 4], values[2, 3, 5], values[2, 3, 6] = 2.0, 3.0, -5.0
    values[2, 2, 3] = 1.0  # lower than the gap, but from there one only gets back
    lower, _, escapes = pointers(values.reshape(1, -1), np.array([2]))
    assert escapes.tolist() == [True]
    grid = np.arange(245).reshape(5, 7, 7)
    position = {int(sample): i for i, sample in enumerate(INSIDE)}
    assert lower[0, position[grid[2, 3, 3]]] == grid[2, 3, 4]
    assert lower[0, position[grid[2, 3, 4]]] == grid[2, 3, 5]
    assert lower[0, position[grid[2, 3, 5]]] == grid[2, 3, 6]
    assert lower[0, position[grid[2, 2, 3]]] == grid[2, 3, 3]


@pytest.mark.parametrize("octave", [0, 1, 2])
def test_the_operator_says_what_blocks_do(octave: int) -> None:
    """Brute force: change the blocks of one keypoint and look at the DoG."""
    gray = gray_of(texture(320, 320)).numpy().astype(np.float32)
    found = detect(gray, octaves=(octave,))
    far = (np.abs(found.x - 160) < 90) & (np.abs(found.y - 160) < 90)
    found = found.where(far)
    assert len(found) > 2
    operator = operators(found, octave)
    assert operator.shape == (len(found), 245, 49)
    for i in range(3):
        one = found.where(np.array([i]))
        change = torch.randn(7, 7, generator=generator(i, "blocks")).double()
        moved, side = gray.copy(), block_of(octave)
        for a, row in enumerate(blocks(one, octave)[0][0]):
            for b, column in enumerate(blocks(one, octave)[1][0]):
                moved[row : row + side, column : column + side] += float(change[a, b])
        wanted = samples(differences(moved)[octave], one) - samples(differences(gray)[octave], one)
        assert np.abs((operator[i] @ change.flatten()).numpy() - wanted[0]).max() < 2e-3


# all of it


def test_lifted_keypoints_are_gone_and_little_has_changed(gray: NDArray[np.uint8]) -> None:
    now, dog = gray.astype(np.float64), differences(gray)[1]
    found = detect(gray, octaves=(1,))
    some = found.where(apart(found))
    rows = lift(now, gray, dog, some, 1, margin=0.001, limit=15.0)
    assert len(rows) > 0.4 * len(some) > 2
    assert np.abs(now - gray).max() < 15
    after = detect(now, octaves=(1,))
    assert surviving(some.where(rows), after, reach=1.0).mean() < 0.15
    left = np.setdiff1d(np.arange(len(some)), rows)
    assert surviving(some.where(left), after, reach=1.0).mean() > 0.7


def test_rounds_take_most_keypoints_of_their_octave(gray: NDArray[np.uint8]) -> None:
    before = detect(gray, octaves=(1,))
    done = lifted(gray, octaves=(1,), rounds=15, limit=15.0)
    assert np.array_equal(done, np.rint(done)), "whole levels"
    after = detect(np.clip(done, 0, 255), octaves=(1,))
    assert surviving(before, after).mean() < 0.35
    others = detect(gray, octaves=(2, 3))
    assert surviving(others, detect(np.clip(done, 0, 255), octaves=(2, 3))).mean() > 0.6


def test_a_limit_is_a_limit(gray: NDArray[np.uint8]) -> None:
    tight = lifted(gray, octaves=(1,), rounds=3, limit=4.0)
    assert 0 < np.abs(tight - gray).max() <= 2 * 4
    assert np.array_equal(lifted(gray, octaves=(1,), rounds=1, limit=1e-6), gray)


def test_keypoints_that_are_apart_do_not_touch(gray: NDArray[np.uint8]) -> None:
    found = detect(gray)
    rows = apart(found)
    some = found.where(rows)
    distance = np.maximum(
        np.abs(some.x[:, None] - some.x[None, :]), np.abs(some.y[:, None] - some.y[None, :])
    ) + 1e9 * np.eye(len(some))
    assert distance.min() >= 11
    strongest = int(np.abs(found.value).argmax())
    assert rows[0] == strongest
    assert len(apart(Keypoints(**{f.name: getattr(found, f.name)[:0] for f in fields(found)}))) == 0
