"""The purifier: what passes through a narrow channel, and what does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.squeezes import squeeze_uint8
from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.countermeasures.purifier import Autoencoder, Purifier


def scenes(n: int = 64) -> Tensor:
    coarse = torch.rand(n, 3, 2, 2, generator=generator(0, "scene"))
    return 0.2 + 0.6 * torch.nn.functional.interpolate(coarse, size=8, mode="bilinear")


def plan_of(pictures: Tensor) -> Plan:
    labels = torch.arange(len(pictures)) % 2
    received = Examples(pictures=to_uint8(pictures), labels=labels)
    return Plan(received=received, moved=torch.zeros(len(pictures), dtype=torch.bool), recipe=Recipe())


SMALL = Purifier(rate=8.0, channels=8, width=12, epochs=40, batch_size=16, lr=1e-2)


def test_noise_is_lost_and_the_scene_passes() -> None:
    clean = scenes()
    noise = torch.randn(clean.shape, generator=generator(1)).sign() * 8 / 255
    plan = plan_of(clean + noise)
    after = SMALL(plan, context=ReplyContext(seed=0))
    left = to_float(after.received.pictures) - clean
    passed = float((left * noise).sum() / noise.square().sum())
    assert abs(passed) < 0.3, "of the noise, hardly any passes"
    assert float(left.square().mean()) < 0.25 * float((clean - clean.mean()).square().mean()), "the scene passes"
    assert after.samples == 40 * 64


def test_a_higher_rate_passes_more() -> None:
    plan = plan_of(scenes())

    def error(rate: float) -> float:
        reply = Purifier(rate=rate, channels=8, width=8, epochs=25, batch_size=16, lr=1e-2)
        after = reply(plan, context=ReplyContext(seed=0)).received.pictures
        return float((after.float() - plan.received.pictures.float()).square().mean())

    assert error(20.0) < 0.7 * error(0.2)


def test_the_same_seed_gives_the_same_pictures_another_one_others() -> None:
    plan, reply = plan_of(scenes(32)), Purifier(width=4, epochs=1)
    first, again, other = (reply(plan, context=ReplyContext(seed=s)).received.pictures for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (30, 30)])
def test_any_size_comes_back(size: tuple[int, int]) -> None:
    network = Autoencoder(4, 2)
    pictures = torch.rand(2, 3, *size, generator=generator(0))
    assert network.clean(pictures).shape == pictures.shape
    assert network(pictures, generator(1))[0].shape == pictures.shape


def test_information_is_the_divergence_from_a_standard_normal() -> None:
    network, pictures = Autoencoder(4, 3), torch.rand(2, 3, 8, 8, generator=generator(0))
    mean, spread = network.encoder(pictures * 2 - 1).chunk(2, dim=1)
    spread = spread - 2
    normal = torch.distributions.Normal
    slow = torch.distributions.kl_divergence(normal(mean, (spread / 2).exp()), normal(0.0, 1.0)).sum(1).mean()
    assert torch.allclose(network(pictures, generator(1))[1], slow, atol=1e-5)


def test_test_pictures_can_be_purified_alike() -> None:
    plan = plan_of(scenes(16))
    after = Purifier(width=4, epochs=1, train=False, test=True)(plan, context=ReplyContext(seed=0))
    assert torch.equal(after.received.pictures, plan.received.pictures)
    (squeeze,) = after.test_squeezes
    both = Purifier(width=4, epochs=1)(plan, context=ReplyContext(seed=0))
    assert torch.equal(squeeze_uint8(plan.received.pictures, squeeze), both.received.pictures)
