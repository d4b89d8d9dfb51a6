"""Robust and stable error-minimising noise: stacked views against a loop, the game and its restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.learning.adversary import Adversary
from countermove.learning.augment import ModelStep, Window
from countermove.learning.checkpoint import Checkpoint
from countermove.nets.registry import build_network
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.unlearnable import robust
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context
from countermove.unlearnable.robust import CROP, UniformNoise, expected_gradient

TINY = "batch_size=8, rounds=3, steps=2, draws=3, adversary_steps=2, surrogate='small-cnn(width=0.25)'"
POISONS = ["robust-error-minimizing", "stable-error-minimizing"]
ADVERSARY = Adversary(eps=4 / 255, step=2 / 255, steps=3)
NOISE = UniformNoise(eps=4 / 255)


class Nothing:
    """A disturbance that does nothing."""

    passes = 0

    def __call__(self, model: nn.Module, pictures: Tensor, targets: Tensor, **_: object) -> tuple[Tensor, Tensor]:
        return pictures, targets


class Killed(Exception):
    """Stands for a process that dies."""


def made(name: str, settings: str = TINY) -> Any:
    return METHODS.compose("move", f"{name}({settings})").method


@pytest.fixture
def network() -> nn.Module:
    """A network in evaluation mode whose batch norm has statistics of its own."""
    built = build_network("small-cnn(width=0.25)", 3, 16, generator(2, "network"))
    for name, buffer in built.named_buffers():
        if "running_var" in name:
            buffer.uniform_(0.5, 1.5, generator=generator(1))
    return built.eval()


def views_one_by_one(pictures: Tensor, windows: Window) -> list[Tensor]:
    """Crop and flip every picture by itself, draw after draw; differentiable."""
    n, _, height, width = pictures.shape
    draws = []
    for first in range(0, len(windows.rows), n):
        views = []
        for i, picture in enumerate(pictures):
            top, columns = int(windows.rows[first + i][0]), windows.columns[first + i].tolist()
            left = min(columns)
            cut = F.pad(picture, (CROP,) * 4)[:, top : top + height, left : left + width]
            views.append(cut if columns[0] == left else cut.flip(2))
        draws.append(torch.stack(views))
    return draws


def gradient_in_a_loop(
    network: nn.Module, pictures: Tensor, labels: Tensor, windows: Window, disturbance: ModelStep, seed: int
) -> Tensor:
    """Average over the draws, one forward and backward pass for each."""
    source, total = generator(seed), torch.zeros_like(pictures)
    draws = len(windows.rows) // len(pictures)
    for draw in range(draws):
        leaf = pictures.clone().requires_grad_()
        view = views_one_by_one(leaf, windows)[draw]
        disturbed, _ = disturbance(network, view.detach(), labels, generator=source, progress=0.0)
        disturbed = disturbed.clone().requires_grad_()
        (at_view,) = torch.autograd.grad(F.cross_entropy(network(disturbed), labels, reduction="sum"), disturbed)
        (view * at_view).sum().backward()
        assert leaf.grad is not None
        total += leaf.grad / draws
    return total


@pytest.mark.parametrize("disturbance", [Nothing(), NOISE, ADVERSARY], ids=["nothing", "noise", "adversary"])
def test_the_stacked_views_give_the_gradient_of_a_loop_over_draws(
    disturbance: ModelStep, network: nn.Module, pictures: Batch
) -> None:
    few = pictures.select(range(5))
    windows = Window.draw(4 * 5, 16, 16, crop=CROP, flip=True, generator=generator(7))
    stacked = expected_gradient(network, few.pictures, few.labels, windows, disturbance, generator(3))
    looped = gradient_in_a_loop(network, few.pictures, few.labels, windows, disturbance, 3)
    assert float(looped.abs().max()) > 1e-3
    assert torch.allclose(stacked, looped, rtol=1e-3, atol=1e-4 * float(looped.abs().max()))


def test_without_disturbance_it_is_the_gradient_of_the_mean_loss(network: nn.Module, pictures: Batch) -> None:
    few = pictures.select(range(4))
    windows = Window.draw(3 * 4, 16, 16, crop=CROP, flip=True, generator=generator(7))
    x = few.pictures.double().requires_grad_()
    network = network.double()
    loss = sum(F.cross_entropy(network(v), few.labels, reduction="sum") for v in views_one_by_one(x, windows)) / 3
    (exact,) = torch.autograd.grad(loss, x)  # type: ignore[arg-type]
    found = expected_gradient(network, x.detach(), few.labels, windows, Nothing(), generator(0))
    assert torch.allclose(found, exact, rtol=1e-8, atol=1e-10)


def test_the_gradient_is_taken_where_the_adversary_went(network: nn.Module, pictures: Batch) -> None:
    few = pictures.select(range(4))
    windows = Window.draw(4, 16, 16, crop=CROP, flip=False, generator=generator(7))
    still = expected_gradient(network, few.pictures, few.labels, windows, Nothing(), generator(0))
    strong = Adversary(eps=32 / 255, step=8 / 255, steps=5)
    attacked = expected_gradient(network, few.pictures, few.labels, windows, strong, generator(0))
    assert float(F.cosine_similarity(still.flatten(), attacked.flatten(), 0)) < 0.9


def test_uniform_noise_fills_its_range_and_asks_no_network() -> None:
    class Deaf(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError

    labels = torch.zeros(40, dtype=torch.int64)
    gray = torch.full((40, 3, 8, 8), 0.5)
    noisy, same = NOISE(Deaf(), gray, labels, generator=generator(0), progress=0.0)
    shift = (noisy - gray) * 255
    assert same is labels
    assert NOISE.passes == 0
    assert 3.9 < float(shift.abs().max()) <= 4.001
    assert float(shift.std()) == pytest.approx(8 / 12**0.5, rel=0.05)
    white, _ = NOISE(Deaf(), torch.ones(4, 3, 8, 8), labels[:4], generator=generator(0), progress=0.0)
    assert float(white.max()) == 1.0


@pytest.mark.parametrize("name", POISONS)
def test_the_last_noise_lowers_the_loss_of_the_network_that_the_game_ended_with(
    name: str, pictures: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = []
    fresh = Context.fresh_network
    monkeypatch.setattr(Context, "fresh_network", lambda *a: networks.append(fresh(*a)) or networks[-1])
    context = Context(seed=0)
    settings = "batch_size=8, rounds=8, steps=4, draws=2, adversary_steps=1, surrogate='small-cnn(width=0.25)'"
    moved = made(name, f"{settings}, eps=16/255")(pictures, context=context).pictures
    (network,) = networks
    network.eval()
    with torch.no_grad():
        other_way = (2 * pictures.pictures - moved).clamp(0, 1)
        losses = [float(F.cross_entropy(network(x), pictures.labels)) for x in (moved, pictures.pictures, other_way)]
    assert losses[0] < losses[1] < losses[2]
    assert context.meter.facts["rounds"] == 8
    assert 0 <= context.meter.facts["surrogate_error"] <= 1


@pytest.mark.parametrize(("name", "inner"), [(POISONS[0], 2), (POISONS[1], 0)])
def test_passes_are_counted(name: str, inner: int, pictures: Batch) -> None:
    context = Context(seed=0)
    made(name)(pictures, context=context)
    noise = 2 * 3 * (1 + inner)  # steps x draws x (one's own and the adversary's)
    rounds = 3 * 8 * (noise + 1 + 2)
    assert context.meter.samples == rounds + 24 * noise


@pytest.mark.parametrize("name", POISONS)
@pytest.mark.parametrize("call", [3, 5], ids=["in a round", "when all noise is found"])
def test_an_interrupted_crafting_goes_on_to_the_same_bytes(
    name: str, call: int, pictures: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robust, "CHUNK", 10)
    poison, whole = made(name), Context(seed=5)
    expected = poison(pictures, context=whole)
    monkeypatch.setattr(Context, "checkpoint", lambda self, name: Checkpoint(tmp_path / name, every=0))
    find, calls = robust.find_noise, []

    def dies(*args: Any) -> Tensor:
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return find(*args)

    monkeypatch.setattr(robust, "find_noise", dies)
    with pytest.raises(Killed):
        poison(pictures, context=Context(seed=5))
    resumed = Context(seed=5)
    assert torch.equal(poison(pictures, context=resumed).pictures, expected.pictures)
    assert len(calls) == 7  # three rounds, three chunks, and the one that died: nothing was done twice
    assert resumed.meter == whole.meter


def test_the_learning_rate_falls_to_a_tenth_after_each_two_fifths(
    pictures: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    play = robust._round

    def noted(network: nn.Module, optimizer: torch.optim.Optimizer, *rest: Any) -> float:
        seen.append(optimizer.param_groups[0]["lr"])
        return play(network, optimizer, *rest)

    monkeypatch.setattr(robust, "_round", noted)
    made(POISONS[1], TINY.replace("rounds=3", "rounds=5"))(pictures, context=Context(seed=0))
    assert seen == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


@pytest.mark.parametrize("name", POISONS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("adversary_eps=4", "adversary_eps = 4"),
        ("draws=0", "draws"),
        ("batch_size=1", "batch_size at least 2"),
        ("lr=0", "lr is above 0"),
        ("surrogate=resnet-81", "did you mean 'resnet-18'"),
    ],
)
def test_settings_that_the_game_cannot_be_played_with_are_refused(name: str, settings: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(name, settings)
