"""Projected gradient steps: the loop against closed forms, and a network that comes back as it was."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.pixels.balls import Ball
from countermove.pixels.jpeg import jpeg
from countermove.pixels.randomness import generator
from countermove.pixels.squeezes import gray_soft
from countermove.pixels.steps import frozen, sign_gradient

LINF = Ball(norm="linf", radius=8 / 255)
BALLS = [LINF, Ball(norm="l2", radius=0.5), Ball(norm="l0", radius=4)]


def network() -> nn.Sequential:
    """Return a small network with batch norm and dropout, the same every time, in train mode with one frozen part."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(512, 4)
    )
    random = generator(0, "network")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.3)
    model.train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    return model


def batch(n: int = 6) -> tuple[Tensor, Tensor]:
    random = generator(1, "batch")
    return torch.rand(n, 3, 8, 8, generator=random), torch.randint(0, 4, (n,), generator=random)


def run(**settings: Any) -> Tensor:
    pictures, labels = batch()
    chosen: dict[str, Any] = {"ball": LINF, "step": 2 / 255, "steps": 5, "minimize": True} | settings
    return sign_gradient(network(), pictures, labels, **chosen)


def loss_of(delta: Tensor) -> Tensor:
    pictures, labels = batch()
    return nn.functional.cross_entropy(network().eval()(pictures + delta), labels, reduction="none")


@pytest.mark.parametrize("ball", BALLS, ids=str)
@pytest.mark.parametrize("minimize", [True, False])
def test_the_loss_goes_where_it_should_inside_the_ball(ball: Ball, minimize: bool) -> None:
    pictures, _ = batch()
    delta = run(ball=ball, step=0.25 * min(ball.radius, 1), steps=10, minimize=minimize)
    moved = pictures + delta
    assert ball.contains(delta).all()
    assert moved.min() >= 0
    assert moved.max() <= 1
    before, after = loss_of(torch.zeros_like(delta)), loss_of(delta)
    assert (after < before).all() if minimize else (after > before).all()


@pytest.mark.parametrize("minimize", [True, False])
def test_one_step_on_a_linear_model_is_the_closed_form(minimize: bool) -> None:
    weights = torch.randn(1, 48, generator=generator(2, "linear"))
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 1, bias=False))
    model[1].weight = nn.Parameter(weights)
    pictures = torch.full((2, 3, 4, 4), 0.5)

    def output(out: Tensor, _: Tensor) -> Tensor:
        return out.mean()

    def step(ball: Ball) -> Tensor:
        return sign_gradient(
            model, pictures, torch.zeros(2), ball=ball, step=0.1, steps=1, minimize=minimize, loss=output
        )

    toward = -1 if minimize else 1
    shaped = weights.view(1, 3, 4, 4).expand_as(pictures)
    torch.testing.assert_close(step(Ball(norm="linf", radius=1)), toward * 0.1 * shaped.sign())
    torch.testing.assert_close(step(Ball(norm="linf", radius=0.03)), toward * 0.03 * shaped.sign())
    torch.testing.assert_close(step(Ball(norm="l2", radius=9)), toward * 0.1 * shaped / weights.norm())
    strongest = Ball(norm="l0", radius=1).project(shaped)
    torch.testing.assert_close(step(Ball(norm="l0", radius=1)), toward * 0.1 * strongest / weights.abs().max())


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_comes_back_as_it_was(fails: bool) -> None:
    model = network()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    before = copy.deepcopy(model)
    pictures, labels = batch()
    random_state = torch.get_rng_state()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        if fails:
            raise FloatingPointError
        return nn.functional.cross_entropy(output, target)

    def attack() -> Tensor:
        return sign_gradient(model, pictures, labels, ball=LINF, step=0.01, steps=2, minimize=True, loss=loss)

    if fails:
        with pytest.raises(FloatingPointError):
            attack()
    else:
        assert not attack().requires_grad
    for now, then in zip(model.modules(), before.modules(), strict=True):
        assert now.training == then.training
    for now, then in zip(model.parameters(), before.parameters(), strict=True):
        assert now.requires_grad == then.requires_grad
        assert torch.equal(now, then)
        assert then.grad is None or (now.grad is not None and torch.equal(now.grad, then.grad))
    for now, then in zip(model.buffers(), before.buffers(), strict=True):
        assert torch.equal(now, then)
    assert torch.equal(random_state, torch.get_rng_state())


def test_frozen_restores_mixed_modes() -> None:
    model = network()
    with frozen(model) as same:
        assert same is model
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model] == [True, False, True, True, True, True]
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, True, True, True, True, True]


def test_chunks_order_and_memory_format_do_not_matter() -> None:
    pictures, labels = batch()
    whole = run()
    torch.testing.assert_close(run(chunk=1), whole)
    torch.testing.assert_close(run(chunk=4), whole)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    arguments: dict[str, Any] = {"ball": LINF, "step": 2 / 255, "steps": 5, "minimize": True}
    torch.testing.assert_close(sign_gradient(network(), pictures[order], labels[order], **arguments), whole[order])
    last = pictures.contiguous(memory_format=torch.channels_last)
    delta = sign_gradient(network(), last, labels, **arguments)
    assert delta.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(delta, whole)


def test_works_where_gradients_are_switched_off() -> None:
    with torch.no_grad():
        assert torch.equal(run(), run())
        torch.testing.assert_close(run(), run(chunk=2))
    assert run().abs().max() > 0


def test_start_is_gone_on_from() -> None:
    two = run(steps=2)
    torch.testing.assert_close(run(steps=3, start=two), run(steps=5))
    assert two.abs().max() > 0
    pictures, _ = batch()
    far = torch.full_like(pictures, 0.9)
    begun = run(steps=0, start=far)
    torch.testing.assert_close(begun, (pictures + LINF.radius).clamp(max=1) - pictures)
    assert (far == 0.9).all()
    assert not run(steps=0).any()


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_random_start_follows_its_generator(ball: Ball) -> None:
    one = run(ball=ball, steps=0, random_start=generator(1, "start"))
    assert torch.equal(one, run(ball=ball, steps=0, random_start=generator(1, "start"), chunk=2))
    assert not torch.equal(one, run(ball=ball, steps=0, random_start=generator(2, "start")))
    assert ball.contains(one).all()
    assert one.any()


def test_transform_is_seen_by_the_network_and_differentiated() -> None:
    def gray_loss(delta: Tensor) -> Tensor:
        pictures, labels = batch()
        return nn.functional.cross_entropy(network().eval()(gray_soft(pictures + delta)), labels)

    through = run(transform=gray_soft)
    assert gray_loss(through) < gray_loss(run())
    inner = (through[:, :1] - through).abs()  # away from the borders of [0, 1] all channels move alike
    pictures, _ = batch()
    free = ((pictures > 0.1) & (pictures < 0.9)).all(1, keepdim=True).expand_as(inner)
    assert inner[free].max() < 1e-6


def test_a_constant_loss_moves_nothing() -> None:
    for ball in BALLS:
        assert not run(ball=ball, loss=lambda output, _: output.sum() * 0).any()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"step": -0.1}, ConfigError, "step = -0.1"),
        ({"step": math.nan}, ConfigError, "step = nan"),
        ({"steps": -1}, ConfigError, "steps = -1"),
        ({"chunk": 0}, ConfigError, "chunk = 0"),
        ({"start": torch.zeros(6, 3, 8, 8), "random_start": generator(0)}, ConfigError, "both given"),
        ({"start": torch.zeros(6, 3, 4, 4)}, DataError, "start has shape"),
        ({"transform": lambda pictures: jpeg(pictures, 10)}, ConfigError, "no gradient"),
        ({"loss": lambda output, _: output.sum() * math.nan}, DataError, "not finite"),
    ],
)
def test_refusals(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(**settings)


def test_labels_must_fit() -> None:
    pictures, labels = batch()
    with pytest.raises(DataError, match="6 pictures come with 5 labels"):
        sign_gradient(network(), pictures, labels[:5], ball=LINF, step=0.01, steps=1, minimize=True)
