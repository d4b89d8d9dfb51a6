"""Poisons whose noise comes from a generator: the generators, ShortcutGen and Deep Confuse."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.learning.checkpoint import Checkpoint
from countermove.nets.small import SmallCnn
from countermove.pixels.balls import Ball
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.unlearnable.generators import NoiseGenerator, build_generator, moved_by
from countermove.unlearnable.poison import Context
from countermove.unlearnable.poisons import deep_confuse, shortcutgen
from countermove.unlearnable.poisons.deep_confuse import DeepConfuse, clean_loss_after_a_step
from countermove.unlearnable.poisons.shortcutgen import ShortcutGen, calibrate

KINDS = ["resnet", "unet"]
SURROGATE = "small-cnn(width=0.25)"
SG = ShortcutGen(width=4, batch_size=8, epochs=2, lr=0.01, surrogate=SURROGATE)
DC = DeepConfuse(width=4, batch_size=8, rounds=2, epochs=1, surrogate=SURROGATE)
POISONS = [SG, DC]
both = pytest.mark.parametrize("poison", POISONS, ids=["shortcutgen", "deep-confuse"])


def classifier(seed: int = 0) -> nn.Module:
    return SmallCnn(width=0.25)(3, 16, generator(seed))


def made(kind: Any, *, side: int = 16, seed: int = 0) -> NoiseGenerator:
    return build_generator(kind, width=4, side=side, eps=0.1, generator=generator(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [8, 19, 32])
def test_a_generator_gives_noise_of_the_pictures_size_inside_the_ball(kind: str, side: int) -> None:
    x = torch.rand(3, 3, side, side, generator=generator(1))
    network = made(kind, side=side)
    noise = network(x).detach()
    assert noise.shape == x.shape
    assert float(noise.abs().max()) <= 0.1
    assert noise.min() < 0 < noise.max()
    assert not torch.allclose(noise[0], noise[1], atol=1e-4), "the noise does not depend on the picture"
    assert torch.allclose(network(x[:1]), noise[:1], atol=1e-6), "the noise depends on the other pictures"
    assert torch.equal(network.eval()(x), noise)


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_comes_from_its_random_source_alone(kind: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (made(kind, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["network.leave.weight"], other["network.leave.weight"])
    with pytest.raises(ConfigError, match="at least 8 x 8"):
        made(kind, side=7)


@both
def test_the_noise_of_new_pictures_is_that_of_the_kept_generator(poison: Any, pictures: Batch) -> None:
    train, test = pictures.select(torch.arange(18)), pictures.select(torch.arange(18, 24))
    context = Context(seed=1)
    moved = poison(train, context=context)

    def on_new(batch: Batch) -> Tensor:
        return poison.on_test(batch, clean=train, moved=moved, context=context).pictures

    assert torch.equal(on_new(train), moved.pictures)
    new = on_new(test)
    ball = Ball(norm="linf", radius=poison.eps)
    assert ball.contains(new - test.pictures).all()
    assert float((new - test.pictures).abs().max()) > 0.3 * poison.eps
    mislabelled = Batch(pictures=test.pictures, labels=test.labels.flip(0), ids=test.ids, classes=test.classes)
    assert torch.equal(on_new(mislabelled), new), "the labels were looked at"
    assert torch.allclose(on_new(test.select([4])), new[4:5], atol=1e-6)
    with pytest.raises(DataError, match="call the poison on its own pictures first"):
        poison.on_test(test, clean=train, moved=moved, context=Context(seed=1))


@both
def test_new_pictures_take_no_part_in_the_training(poison: Any, pictures: Batch) -> None:
    train = pictures.select(torch.arange(18))
    context = Context(seed=1)
    moved = poison(train, context=context)
    kept = {name: tensor.clone() for name, tensor in next(iter(context.kept.values())).state_dict().items()}
    poison.on_test(pictures.select(torch.arange(18, 24)), clean=train, moved=moved, context=context)
    (after,) = context.kept.values()
    assert all(torch.equal(tensor, after.state_dict()[name]) for name, tensor in kept.items())
    assert not any(parameter.requires_grad for parameter in after.parameters())


@both
def test_an_interrupted_crafting_goes_on_to_the_same_bytes(
    poison: Any, pictures: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = poison(pictures, context=Context(seed=5))
    monkeypatch.setattr(Context, "checkpoint", lambda self, name: Checkpoint(tmp_path / name, every=0))
    room = shortcutgen if isinstance(poison, ShortcutGen) else deep_confuse
    real, calls = F.cross_entropy, []

    class Dying:
        """Cross-entropy that fails in the middle of the second round."""

        @staticmethod
        def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
            calls.append(1)
            if len(calls) == (5 if room is shortcutgen else 14):
                raise KeyboardInterrupt
            return real(logits, labels)

    with monkeypatch.context() as patched:
        patched.setattr(room, "F", Dying)
        with pytest.raises(KeyboardInterrupt):
            poison(pictures, context=Context(seed=5))
    assert list(tmp_path.iterdir())
    monkeypatch.setattr(room, "F", Dying)
    calls = [1] * 100
    resumed = poison(pictures, context=Context(seed=5))
    assert len(calls) == 100 + (3 if room is shortcutgen else 9), "the first round was made again"
    assert torch.equal(resumed.pictures, whole.pictures)


@pytest.mark.parametrize(("augment", "share"), [("before", 0.85), ("after", 0.97), ("off", 0.85)])
def test_shortcuts_are_what_the_frozen_random_network_reads(
    augment: Any, share: float, pictures: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = classifier()
    calibrate(network, pictures.pictures, "cpu")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    monkeypatch.setattr(Context, "fresh_network", lambda self, spelled, batch: network)
    poison = ShortcutGen(
        width=8, batch_size=8, epochs=20, lr=0.003, augment=augment, eps=64 / 255, surrogate=SURROGATE, calibrate=False
    )
    context = Context(seed=0)
    moved = poison(pictures, context=context)
    losses = context.meter.facts["loss"]
    assert len(losses) == 20
    assert losses[-1] < share * losses[0]
    assert context.meter.samples == 20 * 24
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in before.items())
    assert network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    network.eval()
    with torch.no_grad():
        clean, noisy = (F.cross_entropy(network(b.pictures), pictures.labels) for b in (pictures, moved))
    assert noisy < share * clean


def test_a_calibrated_network_normalises_as_if_the_pictures_were_one_batch(pictures: Batch) -> None:
    network, expected = classifier(), classifier()
    next(m for m in network.modules() if isinstance(m, nn.ReLU)).eval()
    modes = [module.training for module in network.modules()]
    calibrate(network, pictures.pictures, "cpu")
    assert [module.training for module in network.modules()] == modes
    with torch.no_grad():
        as_one_batch = expected.train()(pictures.pictures)
        assert torch.allclose(network.eval()(pictures.pictures), as_one_batch, atol=0.02)
        assert not torch.allclose(classifier().eval()(pictures.pictures), as_one_batch, atol=0.1)
    momenta = [m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert momenta == [0.1] * len(momenta)


def test_the_virtual_step_is_a_real_one_that_changes_nothing(pictures: Batch) -> None:
    network, noise = classifier().train(), made("unet")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    x, y = pictures.pictures[:8], pictures.labels[:8]
    virtual = clean_loss_after_a_step(network, noise, x, y, 0.1)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in network.parameters())
    real = copy.deepcopy(network)
    optimizer = torch.optim.SGD(real.parameters(), lr=0.1)
    F.cross_entropy(real((x + noise(x)).clamp(0, 1)), y).backward()
    optimizer.step()
    with torch.no_grad():
        stepped, unchanged = (float(F.cross_entropy(judge(x), y)) for judge in (real, network))
    assert float(virtual.detach()) == pytest.approx(stepped, rel=1e-5)
    assert float(virtual.detach()) != pytest.approx(unchanged, rel=1e-3)


def test_the_gradient_goes_through_the_virtual_step() -> None:
    source = generator(2)
    x = torch.rand(4, 3, 2, 2, dtype=torch.float64, generator=source) * 0.5 + 0.25
    y = torch.tensor([0, 1, 2, 0])
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=source)
    noise = (torch.rand(4, 3, 2, 2, dtype=torch.float64, generator=source) * 0.2 - 0.1).requires_grad_()

    class Given(nn.Module):
        def __init__(self, noise: Tensor) -> None:
            super().__init__()
            self.noise = noise

        def forward(self, pictures: Tensor) -> Tensor:
            return self.noise

    assert torch.autograd.gradcheck(lambda noise: clean_loss_after_a_step(network, Given(noise), x, y, 0.5), (noise,))


def test_the_target_is_led_to_mislead(pictures: Batch) -> None:
    """Against one classifier that stays as it is, Adam on the virtual step's loss raises it."""
    network, target = classifier().train(), made("unet")
    x, y = pictures.pictures, pictures.labels
    optimizer = torch.optim.Adam(target.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss = clean_loss_after_a_step(network, target, x, y, 0.5)
        optimizer.zero_grad()
        (-loss).backward(inputs=list(target.parameters()))
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] > losses[0] + 0.05


def test_every_round_has_its_own_classifier_and_the_targets_last_state_is_kept(
    pictures: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifiers: list[nn.Module] = []
    started: list[dict[str, Tensor]] = []
    build = deep_confuse.build_network

    def watched(*given: Any) -> nn.Module:
        classifiers.append(build(*given))
        started.append(copy.deepcopy(classifiers[-1].state_dict()))
        return classifiers[-1]

    monkeypatch.setattr(deep_confuse, "build_network", watched)
    context = Context(seed=0)
    DeepConfuse(width=4, batch_size=8, rounds=3, epochs=2, surrogate=SURROGATE)(pictures, context=context)
    assert len(classifiers) == 3
    weights = [state["net.0.0.weight"] for state in started]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert not any(torch.equal(w, c.state_dict()["net.0.0.weight"]) for w, c in zip(weights, classifiers, strict=True))
    assert len(context.meter.facts["clean_loss"]) == 3
    assert context.meter.samples == 4 * 3 * 2 * 24


def test_moved_by_moves_picture_by_picture(pictures: Batch) -> None:
    network = made("unet")
    moved = moved_by(network, pictures, "cpu")
    one_by_one = torch.cat([moved_by(network, pictures.select([i]), "cpu").pictures for i in range(len(pictures))])
    assert torch.allclose(moved.pictures, one_by_one, atol=1e-6)
    assert not moved.pictures.requires_grad


@both
def test_settings_that_no_training_can_have_are_refused(poison: Any) -> None:
    rates = [name for name in ("lr", "generator_lr") if hasattr(poison, name)]
    for name in rates:
        with pytest.raises(ConfigError, match=f"{name} = 0 is refused"):
            type(poison)(**{name: 0.0})
    with pytest.raises(ConfigError, match="epochs = 0 is refused"):
        type(poison)(epochs=0)
    with pytest.raises(ConfigError, match="8/255"):
        type(poison)(eps=8.0)
