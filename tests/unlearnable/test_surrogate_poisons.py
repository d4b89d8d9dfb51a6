"""Poisons crafted on trained networks: what each lowers, against slow loops; and work that is taken up again."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.learning.adversary import Adversary
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import train
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples
from countermove.nets.features import logits_and_features
from countermove.nets.registry import build_network
from countermove.pixels.balls import Ball
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_uint8
from countermove.pixels.steps import frozen
from countermove.unlearnable import crafting
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context
from countermove.unlearnable.poisons.self_ensemble import class_means, variance_reduced
from countermove.unlearnable.poisons.targeted_adversarial import losses


def made(spelled: str) -> Any:
    return METHODS.compose("move", spelled).method


def moved(spelled: str, batch: Batch, networks: Sequence[nn.Module], seed: int = 0) -> Batch:
    return made(spelled)(batch, context=Context(seed=seed, networks=lambda _: list(networks)))


@pytest.fixture(scope="module")
def trained(pictures: Batch) -> nn.Module:
    """A network that has learned the made-up pictures."""
    network = build_network("small-cnn(width=0.25)", 3, 16, generator(0))
    examples = Examples(pictures=to_uint8(pictures.pictures), labels=pictures.labels)
    train(network, examples, examples, recipe=Recipe(epochs=5, batch_size=8, lr=0.05, crop=0), seed=0, classes=3)
    return network.eval()


@pytest.fixture
def stages() -> list[nn.Module]:
    """Two different networks, as stages of a training."""
    return [build_network("small-cnn(width=0.1)", 3, 16, generator(seed, "stage")).eval() for seed in (0, 1)]


def test_poisons_on_one_kind_of_surrogate_share_it() -> None:
    names = ("error-maximizing", "targeted-adversarial", "hypocritical", "tensorclog")
    assert len({made(name).surrogates() for name in names}) == 1


def test_tap_walks_to_the_next_class_and_further_with_more_steps(pictures: Batch, trained: nn.Module) -> None:
    targets = (pictures.labels + 1) % 3
    settings = "eps=96/255, step=8/255, augment=false"
    mean = [float(losses(trained, pictures.pictures, targets, "cpu").mean())]
    for steps in (2, 8, 24):
        batch = moved(f"targeted-adversarial({settings}, steps={steps})", pictures, [trained])
        mean.append(float(losses(trained, batch.pictures, targets, "cpu").mean()))
    assert mean == sorted(mean, reverse=True)
    with torch.no_grad():
        assert (trained(batch.pictures).argmax(1) == targets).float().mean() > 0.9


@pytest.mark.parametrize("augment", ["true", "false"])
def test_tap_keeps_the_best_restart_of_each_picture(augment: str, pictures: Batch, trained: nn.Module) -> None:
    targets = (pictures.labels + 1) % 3
    settings = f"steps=2, augment={augment}"
    one, four = (moved(f"targeted-adversarial({settings}, restarts={n})", pictures, [trained]) for n in (1, 4))
    loss = [losses(trained, batch.pictures, targets, "cpu") for batch in (one, four)]
    assert bool((loss[1] <= loss[0] + 1e-6).all())
    better = loss[1] < loss[0] - 1e-6
    assert better.any()
    assert bool(((one.pictures == four.pictures).flatten(1).all(1) | better).all())


def test_tap_starts_follow_the_ids(pictures: Batch, trained: nn.Module) -> None:
    order = torch.randperm(24, generator=generator(4))
    spelled = "targeted-adversarial(steps=1, step=1e-9, augment=false)"
    noise = moved(spelled, pictures, [trained]).pictures - pictures.pictures
    shuffled = pictures.select(order)
    assert torch.allclose(moved(spelled, shuffled, [trained]).pictures - shuffled.pictures, noise[order], atol=1e-7)
    assert float(noise.abs().max()) > 7 / 255
    assert float(noise.abs().median()) < 6 / 255


def test_tap_sees_shifted_pictures_only_where_asked(pictures: Batch, trained: nn.Module) -> None:
    seen, plain = (moved(f"targeted-adversarial(steps=6, augment={a})", pictures, [trained]) for a in ("true", "false"))
    targets = (pictures.labels + 1) % 3
    loss = [losses(trained, batch.pictures, targets, "cpu").mean() for batch in (seen, plain)]
    assert loss[1] < loss[0], "without augmentation the noise fits the pictures as they are best"
    assert loss[0] < losses(trained, pictures.pictures, targets, "cpu").mean(), "but it works with it too"


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.5)])
def test_hypo_lowers_the_loss_of_every_picture(norm: Any, eps: float, pictures: Batch, trained: nn.Module) -> None:
    batch = moved(f"hypocritical(norm={norm}, eps={eps}, steps=6)", pictures, [trained])
    exact = copy.deepcopy(trained).double()  # in float32 the loss of a sure network is zero
    before, after = (losses(exact, b.pictures.double(), b.labels, "cpu") for b in (pictures, batch))
    assert bool((after < before).all())
    ball = Ball(norm=norm, radius=eps)
    assert bool(ball.contains(batch.pictures - pictures.pictures).all())


def test_hypo_asks_for_a_robust_surrogate_in_its_norm() -> None:
    (plain,) = made("hypocritical").surrogates()
    (robust,) = made("hypocritical(norm=l2, eps=0.5, surrogate_eps=0.25)").surrogates()
    assert plain.adversary is None
    assert robust.adversary == Adversary(norm="l2", eps=0.25, step=0.0625, steps=10)
    assert robust.recipe == plain.recipe
    with pytest.raises(ConfigError, match=r"surrogate_eps.*8/255"):
        made("hypocritical(surrogate_eps=8)")


def test_hypo_refuses_a_norm_without_a_descent() -> None:
    with pytest.raises(ConfigError, match="norm = 'l0' is refused"):
        made("hypocritical(norm=l0, eps=4)")


def _slow_gradient(network: nn.Module, batch: Batch, others: Tensor, means: Tensor | None) -> Tensor:
    """The gradient of each picture's own loss, one picture at a time."""
    gradients = []
    for picture, other in zip(batch.pictures, others, strict=True):
        leaf = picture[None].clone().requires_grad_()
        logits, features = logits_and_features(network, leaf)
        loss = F.cross_entropy(logits, other[None]) if means is None else F.mse_loss(features[0], means[other])
        gradients.append(torch.autograd.grad(loss, leaf)[0])
    return torch.cat(gradients)


def _slow_means(network: nn.Module, batch: Batch) -> Tensor:
    with torch.no_grad():
        return torch.stack(
            [logits_and_features(network, batch.pictures[batch.labels == k])[1].mean(0) for k in range(3)]
        )


@pytest.mark.parametrize("form", ["plain", "features"])
def test_sep_goes_against_the_gradient_averaged_over_the_stages(
    form: str, pictures: Batch, stages: list[nn.Module]
) -> None:
    soft = pictures.with_pictures(pictures.pictures * 0.5 + 0.25)  # no step is clipped
    noise = moved(f"self-ensemble(form={form}, steps=1, step=1/255)", soft, stages).pictures - soft.pictures
    others = (soft.labels + 1) % 3  # half of three classes, rounded down
    means = [None if form == "plain" else _slow_means(network, soft) for network in stages]
    gradients = [_slow_gradient(n, soft, others, m) for n, m in zip(stages, means, strict=True)]
    assert _share_of_signs(noise, -(gradients[0] + gradients[1])) > 0.999
    for one in gradients:  # not against the gradient of one stage only
        assert _share_of_signs(noise, -one) < 0.95


def test_every_stage_has_its_own_class_means(pictures: Batch, stages: list[nn.Module]) -> None:
    soft = pictures.with_pictures(pictures.pictures * 0.5 + 0.25)
    others = (soft.labels + 1) % 3
    spelled = "self-ensemble(form=variance-reduced, inner=1, steps=1, step=1/255)"
    noise = moved(spelled, soft, stages).pictures - soft.pictures
    own, last = _slow_means(stages[0], soft), _slow_means(stages[1], soft)
    # One look has not moved yet: its direction is the average gradient, if the stage that looks has its own means.
    second = _slow_gradient(stages[1], soft, others, last)
    assert _share_of_signs(noise, -(_slow_gradient(stages[0], soft, others, own) + second)) > 0.999
    assert _share_of_signs(noise, -(_slow_gradient(stages[0], soft, others, last) + second)) < 0.98


def _share_of_signs(noise: Tensor, direction: Tensor) -> float:
    return float((noise.sign() == direction.sign()).float().mean())


def test_class_means_in_portions_are_class_means(pictures: Batch, stages: list[nn.Module]) -> None:
    means = class_means(stages[0], pictures, 7, "cpu")
    assert torch.allclose(means, _slow_means(stages[0], pictures), atol=1e-6)


def test_looks_that_stand_still_give_the_full_gradient(pictures: Batch, stages: list[nn.Module]) -> None:
    others, noise = (pictures.labels + 1) % 3, torch.zeros_like(pictures.pictures)

    def at(stage: int, noise: Tensor) -> Tensor:
        batch = pictures.with_pictures(pictures.pictures + noise)
        return _slow_gradient(stages[stage], batch, others, None)

    gradients = torch.stack([at(stage, noise) for stage in (0, 1)])
    total = variance_reduced(at, gradients, noise, [1, 0, 0], lambda noise, _: noise)
    assert torch.allclose(total, 3 * gradients.mean(0), rtol=1e-4, atol=1e-7)


def test_looks_have_no_variance_where_stages_differ_by_a_constant() -> None:
    centres = torch.randn(4, 2, 3, 5, 5, generator=generator(0), dtype=torch.float64)
    noise = torch.zeros(2, 3, 5, 5, dtype=torch.float64)
    draws = [[0, 1, 2, 3, 0], [3, 3, 3, 3, 3]]
    totals = [
        variance_reduced(lambda i, d: d - centres[i], noise - centres, noise, picks, lambda d, g: d - 0.1 * g)
        for picks in draws
    ]
    assert torch.allclose(totals[0], totals[1])
    expected, ahead = torch.zeros_like(noise), noise
    for _ in range(5):
        expected = expected + ahead - centres.mean(0)
        ahead = ahead - 0.1 * expected
    assert torch.allclose(totals[0], expected)


def test_sep_in_every_form_lowers_what_it_descends(pictures: Batch, stages: list[nn.Module]) -> None:
    others = (pictures.labels + 1) % 3
    with torch.no_grad():
        means = [_slow_means(network, pictures) for network in stages]

    def distance(batch: Batch) -> float:
        with torch.no_grad():
            features = [logits_and_features(network, batch.pictures)[1] for network in stages]
            return float(sum(F.mse_loss(f, m[others]) for f, m in zip(features, means, strict=True)))

    def loss(batch: Batch) -> float:
        return float(sum(losses(network, batch.pictures, others, "cpu").mean() for network in stages))

    plain, pulled, ahead = (
        moved(f"self-ensemble(form={form}, steps=8)", pictures, stages)
        for form in ("plain", "features", "variance-reduced")
    )
    assert loss(plain) < loss(pictures)
    assert distance(pulled) < distance(pictures)
    assert distance(ahead) < distance(pictures)
    assert not torch.equal(pulled.pictures, ahead.pictures)


def test_the_looks_of_sep_follow_the_seed(pictures: Batch, stages: list[nn.Module]) -> None:
    spelled = "self-ensemble(form=variance-reduced, inner=2, steps=3)"
    first, again, other = (moved(spelled, pictures, stages, seed).pictures for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_sep_refuses_what_it_cannot_do(pictures: Batch, stages: list[nn.Module]) -> None:
    with pytest.raises(ConfigError, match=r"checkpoints = 30 is refused.*surrogate_epochs"):
        made("self-ensemble(checkpoints=30)")
    assert made("self-ensemble(checkpoints=30, surrogate_epochs=30)").surrogates()[0].checkpoints == 30
    some = pictures.select((pictures.labels < 2).nonzero().flatten())
    with pytest.raises(DataError, match=r"mean feature of 'blue', of which there is no picture.*form=plain"):
        moved("self-ensemble(form=features)", some, stages)
    assert len(moved("self-ensemble(form=plain, steps=1)", some, stages)) == len(some)


class _Cut(Exception):
    """The work was cut short."""


def test_work_that_was_cut_short_goes_on_where_it_was(
    pictures: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Context, "checkpoint", lambda self, name: Checkpoint(tmp_path / f"{name}.st", every=-1.0))
    done: list[int] = []

    def context() -> Context:
        return Context(seed=0, folder=tmp_path)

    def run(context: Context, batch: Batch, last: int) -> Tensor:
        def craft(part: Batch, number: int) -> Tensor:
            if number > last:
                raise _Cut
            done.append(number)
            context.meter.samples += len(part)
            return part.pictures + torch.randn(part.pictures.shape, generator=context.generator("noise", number))

        return crafting.in_portions(batch, 10, context, craft)

    with pytest.raises(_Cut):
        run(context(), pictures, last=1)
    second = context()
    resumed = run(second, pictures, last=9)
    assert done == [0, 1, 2]
    assert second.meter.samples == 24
    other = run(context(), pictures.select([5, 6, 7]), last=9)  # other pictures begin anew
    assert done == [0, 1, 2, 0]
    assert not torch.equal(other, resumed[:3])
    for file in tmp_path.iterdir():
        file.unlink()
    assert torch.equal(run(context(), pictures, last=9), resumed)


def test_a_gradient_that_is_not_finite_is_refused(pictures: Batch) -> None:
    with pytest.raises(DataError, match="gradient is not finite"):
        crafting.descend(
            pictures.pictures, lambda x: x * torch.nan, ball=Ball(norm="linf", radius=0.1), step=0.01, steps=1
        )


def test_descent_finds_the_nearest_point_of_the_ball(pictures: Batch) -> None:
    goal = pictures.pictures.roll(1, 0)
    noise = crafting.descend(
        pictures.pictures, lambda x: x - goal, ball=Ball(norm="linf", radius=8 / 255), step=1 / 255, steps=12
    )
    assert torch.allclose(noise, (goal - pictures.pictures).clamp(-8 / 255, 8 / 255), atol=1.01 / 255)


def test_networks_are_put_back_after_an_error(pictures: Batch, stages: list[nn.Module]) -> None:
    with torch.no_grad():
        next(stages[1].parameters()).fill_(torch.nan)
    stages[0].train()
    for name in ("targeted-adversarial", "hypocritical", "self-ensemble", "tensorclog"):
        with pytest.raises(DataError, match="gradient is not finite"):
            moved(name, pictures, stages)
    assert stages[0].training
    assert not stages[1].training
    assert all(p.requires_grad for network in stages for p in network.parameters())
    with frozen(stages[0]):
        assert not stages[0].training
