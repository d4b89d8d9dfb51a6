"""Orthogonal projection: the algebra, and that planted class-wise noise goes."""

from __future__ import annotations

import torch
from torch import Tensor

from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.squeezes import squeeze_uint8
from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.countermeasures.orthogonal_projection import (
    OrthogonalProjection,
    linear_weights,
    project,
    span,
)


def planted(n: int = 120) -> tuple[Plan, Tensor]:
    """Return natural-looking pictures of three classes with one noise a class, and these noises [3, D]."""
    coarse = torch.rand(n, 3, 4, 4, generator=generator(0, "scene"))
    scenes = 0.2 + 0.6 * torch.nn.functional.interpolate(coarse, size=8, mode="bilinear")
    noise = torch.randn(3, 3, 8, 8, generator=generator(0, "noise")).sign() * 16 / 255
    labels = torch.arange(n) % 3
    received = Examples(pictures=to_uint8(scenes + noise[labels]), labels=labels)
    return Plan(received=received, moved=torch.ones(n, dtype=torch.bool), recipe=Recipe()), noise.flatten(1)


def test_projected_pictures_have_no_part_along_the_directions() -> None:
    weights = torch.randn(4, 192, generator=generator(1))
    directions = span(weights)
    assert torch.allclose(directions @ directions.T, torch.eye(4, dtype=torch.float64), atol=1e-12)
    pictures = 0.5 + 0.01 * torch.randn(5, 3, 8, 8, generator=generator(2))  # far from 0 and 1: nothing is clipped
    middle = torch.full((1, 3, 8, 8), 0.5)
    shift = project(middle, directions)
    after = project(pictures, directions)
    assert float((after.flatten(1).double() @ weights.double().T).abs().max()) < 1e-4
    # By hand: the least squares residual against the weights themselves.
    flat = pictures.flatten(1).double().T
    fitted = weights.double().T @ torch.linalg.lstsq(weights.double().T, flat).solution
    assert torch.allclose(after.flatten(1).double(), (flat - fitted).T, atol=1e-6)
    assert not torch.equal(shift, middle)


def test_a_row_that_adds_no_direction_is_left_out() -> None:
    free = torch.randn(3, 50, generator=generator(3))
    assert span(torch.cat([free, -free.sum(0, keepdim=True)])).shape == (3, 50)


def test_weights_that_began_at_zero_sum_to_zero_and_give_one_direction_less_than_classes() -> None:
    plan, _ = planted()
    weights = linear_weights(plan.received, 20, 32, 0.1, ReplyContext(seed=0))
    assert float(weights.sum(0).abs().max()) < 1e-5
    assert len(span(weights)) == 2


def test_planted_noise_goes_and_the_scene_stays() -> None:
    plan, noise = planted()
    reply = OrthogonalProjection(batch_size=32)
    after = reply(plan, context=ReplyContext(seed=0))

    def apart(pictures: Tensor) -> Tensor:
        """How far the class means are apart along the planted noises, against how far they were planted."""
        flat, labels = to_float(pictures).flatten(1), plan.received.labels
        means = torch.stack([flat[labels == k].mean(0) for k in range(3)])
        between = noise - noise.mean(0)
        return ((means - means.mean(0)) * between).sum(1) / between.square().sum(1)

    assert float(apart(plan.received.pictures).min()) > 0.8
    assert float(apart(after.received.pictures).abs().max()) < 0.2
    scene = to_float(plan.received.pictures).flatten(1) - noise[plan.received.labels]
    pairs = torch.stack([scene - scene.mean(0), to_float(after.received.pictures).flatten(1)], dim=1)
    pairs[:, 1] -= pairs[:, 1].mean(0)
    alike = torch.nn.functional.cosine_similarity(pairs[:, 0], pairs[:, 1], dim=1)
    assert float(alike.min()) > 0.9, "what makes one scene differ from another stays"
    assert after.samples == 20 * 120


def test_test_pictures_can_be_projected_alike() -> None:
    plan, _ = planted(30)
    after = OrthogonalProjection(batch_size=8, test=True)(plan, context=ReplyContext(seed=0))
    (squeeze,) = after.test_squeezes
    assert torch.equal(squeeze_uint8(plan.received.pictures, squeeze), after.received.pictures)
