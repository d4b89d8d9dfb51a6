"""The closed-form kernel against slow ways to the same numbers, and the attack that is built on it."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.learning.checkpoint import Checkpoint
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.unlearnable.ntk import Activation, DenseKernel, divided_differences, dual, regression_weights
from countermove.unlearnable.poison import Context
from countermove.unlearnable.poisons.ntga import Ntga, blocks

ACTIVATIONS: list[Activation] = ["relu", "erf"]
both = pytest.mark.parametrize("activation", ACTIVATIONS)


def rows(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.rand(n, d, dtype=torch.float64, generator=generator(seed))


def kernel(activation: Activation = "relu", layers: int = 3) -> DenseKernel:
    return DenseKernel(layers=layers, activation=activation, weight_var=1.76, bias_var=0.18)


def by_hand(a: list[float], b: list[float], activation: Activation, layers: int) -> float:
    """The recursion for one pair of pictures, number by number."""
    aa, ab, bb = (sum(x * y for x, y in zip(u, v, strict=True)) / len(u) for u, v in ((a, a), (a, b), (b, b)))
    aa, ab, bb = (1.76 * value + 0.18 for value in (aa, ab, bb))
    tangent = ab
    for _ in range(layers):
        if activation == "relu":
            theta = math.acos(min(1.0, ab / math.sqrt(aa * bb)))
            mean = math.sqrt(aa * bb) * (math.sin(theta) + (math.pi - theta) * math.cos(theta)) / (2 * math.pi)
            slope, aa, bb = (math.pi - theta) / (2 * math.pi), aa / 2, bb / 2
        else:
            spread = (1 + 2 * aa) * (1 + 2 * bb)
            mean = 2 / math.pi * math.asin(2 * ab / math.sqrt(spread))
            slope = 4 / math.pi / math.sqrt(spread - 4 * ab**2)
            aa, bb = (2 / math.pi * math.asin(2 * own / (1 + 2 * own)) for own in (aa, bb))
        aa, ab, bb = (1.76 * value + 0.18 for value in (aa, mean, bb))
        tangent = ab + 1.76 * tangent * slope
    return tangent


@both
@pytest.mark.parametrize("layers", [1, 4])
def test_the_kernel_is_the_recursion_of_every_pair(activation: Activation, layers: int) -> None:
    a, b = rows(5, 6), rows(3, 6, seed=1)
    b[0] = a[2]  # the same picture twice: the angle is zero
    expected = [[by_hand(x, y, activation, layers) for y in b.tolist()] for x in a.tolist()]
    assert torch.allclose(kernel(activation, layers)(a, b), torch.tensor(expected, dtype=torch.float64), rtol=1e-6)


@both
def test_the_dual_activations_are_the_integrals_they_stand_for(activation: Activation) -> None:
    here, there = torch.tensor([1.3, 0.7]).double(), torch.tensor([0.9, 2.0, 0.4]).double()
    covariance = 0.6 * (here[:, None] * there).sqrt() * torch.tensor([[1.0, -1.0, 0.5], [0.1, -0.7, 1.5]])
    points, weights = np.polynomial.hermite_e.hermegauss(300)
    z, w = torch.from_numpy(points), torch.from_numpy(weights) / math.sqrt(2 * math.pi)
    functions = {
        "relu": (torch.relu, lambda u: (u > 0).double()),
        "erf": (torch.erf, lambda u: 2 / math.sqrt(math.pi) * torch.exp(-(u**2))),
    }
    mean, slopes = dual(covariance, here, there, activation)
    for i in range(2):
        for j in range(3):
            share = covariance[i, j] / (here[i] * there[j]).sqrt()
            u = here[i].sqrt() * z[:, None]
            v = there[j].sqrt() * (share * z[:, None] + (1 - share**2).sqrt() * z)
            for f, found in zip(functions[activation], (mean, slopes), strict=True):
                integral = (w[:, None] * w * f(u) * f(v)).sum()
                assert float(found[i, j]) == pytest.approx(float(integral), abs=0.02 if activation == "relu" else 1e-9)


@both
def test_a_wide_finite_network_has_nearly_this_kernel(activation: Activation) -> None:
    width, x = 1500, rows(4, 8).float()
    f = torch.relu if activation == "relu" else torch.erf

    def network(parameters: dict[str, Tensor], picture: Tensor) -> Tensor:
        h = picture
        for i in range(3):
            h = h @ parameters[f"w{i}"].T * (1.76 / len(h)) ** 0.5 + parameters[f"b{i}"] * 0.18**0.5
            h = f(h) if i < 2 else h
        return h[0]

    source, found = generator(3), []
    for _ in range(2):
        sizes = [8, width, width, 1]
        parameters = {f"w{i}": torch.randn(sizes[i + 1], sizes[i], generator=source) for i in range(3)}
        parameters |= {f"b{i}": torch.randn(sizes[i + 1], generator=source) for i in range(3)}
        weights = [tensor.requires_grad_() for tensor in parameters.values()]
        one = [torch.autograd.grad(network(parameters, picture), weights) for picture in x]
        flat = torch.stack([torch.cat([part.flatten() for part in gradients]) for gradients in one])
        found.append(flat @ flat.T)
    expected = kernel(activation, layers=2)(x.double(), x.double()).float()
    assert torch.allclose(torch.stack(found).mean(0), expected, rtol=0.1)
    assert (kernel(activation, layers=1)(x.double(), x.double()).float() / expected - 1).abs().min() > 0.2


@both
def test_the_kernel_has_its_gradient_also_where_two_pictures_are_the_same(activation: Activation) -> None:
    a, b = rows(3, 4), rows(2, 4, seed=1)
    assert torch.autograd.gradcheck(kernel(activation, layers=2), (a.requires_grad_(), b.requires_grad_()))
    x = rows(4, 5)
    assert torch.autograd.gradcheck(lambda x: kernel(activation)(x, x), (x.requires_grad_(),))
    twice = torch.cat([x, x[:1]]).detach().requires_grad_()
    assert torch.autograd.grad(kernel(activation)(twice, twice).sum(), twice)[0].isfinite().all()


def test_the_prediction_is_where_gradient_descent_arrives() -> None:
    x, other = rows(6, 5), rows(4, 5, seed=1)
    targets = F.one_hot(torch.tensor([0, 1, 2, 0, 1, 1]), 3).double()
    own, across = kernel()(x, x), kernel()(other, x)
    diagonal = 1e-2 * own.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    learned, predicted = torch.zeros_like(targets), torch.zeros(4, 3, dtype=torch.float64)
    for _ in range(4000):  # time 20 in steps of 1/200
        error = (targets - learned) / targets.numel() / 200
        predicted, learned = predicted + across @ error, learned + (own + diagonal) @ error
    weights = regression_weights(own, targets, time=20.0, diag_reg=1e-2)
    assert torch.allclose(across @ weights, predicted, atol=1e-3)
    assert predicted.abs().max() > 0.2


@pytest.mark.parametrize("time", [0.5, 64.0, 1e5])
def test_the_prediction_has_its_gradient_also_where_eigenvalues_are_equal(time: float) -> None:
    targets = F.one_hot(torch.arange(4) % 2, 2).double().requires_grad_()
    for start in (torch.eye(4, dtype=torch.float64), rows(4, 4), torch.ones(4, 4, dtype=torch.float64)):
        matrix = (start @ start.T + 0.1 * torch.eye(4)).requires_grad_()

        def weights(matrix: Tensor, targets: Tensor) -> Tensor:
            return regression_weights((matrix + matrix.T) / 2, targets, time=time, diag_reg=1e-3)

        assert torch.autograd.gradcheck(weights, (matrix, targets))


def test_divided_differences_keep_their_digits() -> None:
    values = torch.tensor([1e-6, 1e-6 * (1 + 1e-9), 2e-4, 0.3, 0.3 + 1e-6, 5.0, 400.0], dtype=torch.float64)
    for time in (0.01, 1.0, 50.0):
        found = divided_differences(values, time)
        for i, a in enumerate(values.tolist()):
            for j, b in enumerate(values.tolist()):
                assert float(found[i, j]) == pytest.approx(divided_difference_in_80_digits(a, b, time), rel=1e-8)


def divided_difference_in_80_digits(a: float, b: float, time: float) -> float:
    with localcontext(prec=80):
        x, y, t = Decimal(a), Decimal(b), Decimal(time)
        y = x * (1 + Decimal(10) ** -30) if x == y else y
        phi_x, phi_y = ((1 - (-t * value).exp()) / value for value in (x, y))
        return float((phi_x - phi_y) / (x - y))


def loss_of_others(poison: Ntga, learned: Tensor, targets: Tensor, others: Tensor, labels: Tensor) -> Tensor:
    dense = kernel(poison.activation, poison.layers)
    own = dense(learned, learned)
    own = own + poison.diag_reg * own.diagonal().mean() * torch.eye(len(own), dtype=own.dtype)
    decay = torch.linalg.matrix_exp(-poison.time / targets.numel() * own)
    weights = torch.linalg.solve(own, (torch.eye(len(own), dtype=own.dtype) - decay) @ targets)
    return F.cross_entropy(dense(others, learned) @ weights, labels)


@both
def test_the_gradient_of_the_attack_is_that_of_the_loss_whatever_the_chunk(activation: Activation) -> None:
    learned, others, labels = rows(5, 6), rows(7, 6, seed=1), torch.arange(7) % 3
    targets = F.one_hot(torch.arange(5) % 3, 3).double()
    poison = Ntga(activation=activation, layers=2, chunk=3)
    found = poison.gradient(learned, targets, others, labels)
    assert torch.allclose(found, Ntga(activation=activation, layers=2).gradient(learned, targets, others, labels))
    for place in ((0, 0), (3, 5), (4, 2)):
        nudge = torch.zeros_like(learned)
        nudge[place] = 1e-5
        up, down = (loss_of_others(poison, learned + s * nudge, targets, others, labels) for s in (1, -1))
        assert float(found[place]) == pytest.approx(float(up - down) / 2e-5, rel=1e-4)


@pytest.fixture
def soft(pictures: Batch) -> Batch:
    """The made-up pictures away from the ends of the range."""
    return pictures.with_pictures(pictures.pictures * 0.5 + 0.25)


def test_the_steps_go_on_from_each_other(soft: Batch) -> None:
    learned, others = soft.select(torch.arange(12)), soft.select(torch.arange(12, 24))
    targets = F.one_hot(learned.labels, 3).double()

    def loss(pictures: Tensor) -> float:
        flat = pictures.double().flatten(1)
        return float(loss_of_others(poison, flat, targets, others.pictures.double().flatten(1), others.labels))

    poison = Ntga(time=1000.0, eps=16 / 255)
    one, ten = (Ntga(time=1000.0, eps=16 / 255, steps=n).attack(learned, others, "cpu") for n in (1, 10))
    shaken = learned.pictures + 16 / 255 * torch.randn(one.shape, generator=generator(4)).sign()
    assert loss(shaken) == pytest.approx(loss(learned.pictures), abs=0.02)
    assert loss(ten) > loss(one) > loss(learned.pictures) + 0.05
    assert not torch.allclose(one, ten, atol=1e-3)
    for moved in (one, ten):
        assert float((moved - learned.pictures).abs().max()) == pytest.approx(16 / 255, abs=1e-6)


def test_blocks_part_the_pictures_and_are_judged_by_others() -> None:
    for n, size, validation, count in [(24, 10, 8, 3), (24, 100, 100, 2), (5, 1, 2, 5), (2, 512, 512, 2)]:
        parted = blocks(n, size, validation, generator(0))
        assert len(parted) == count
        assert sorted(torch.cat([mine for mine, _ in parted]).tolist()) == list(range(n))
        for mine, others in parted:
            assert len(mine) <= max(size, 1)
            assert not set(mine.tolist()) & set(others.tolist())
            assert len(set(others.tolist())) == min(validation, n - len(mine))


def test_a_block_attacked_alone_gets_the_same_noise(soft: Batch) -> None:
    poison = Ntga(block=8, validation=6, steps=2)
    context = Context(seed=3)
    whole = poison(soft, context=context)
    parted = blocks(24, 8, 6, context.generator("ntga"))
    for mine, others in reversed(parted):
        alone = poison.attack(soft.select(mine), soft.select(others), "cpu")
        assert torch.equal(whole.pictures[mine], alone)
    assert context.meter.samples == 2 * 3 * (8 + 6)


def test_new_pictures_are_further_blocks_that_the_old_ones_judge(soft: Batch) -> None:
    poison = Ntga(block=8, validation=24, steps=2)
    clean, test = soft.select(torch.arange(12)), soft.select(torch.arange(12, 18))
    new = poison.on_test(test, clean=clean, moved=clean, context=Context(seed=0))
    assert new.ids == test.ids
    order = torch.randperm(6, generator=Context(seed=0).generator("ntga", "test"))
    alone = poison.attack(test.select(order), clean, "cpu")
    assert torch.allclose(new.pictures[order], alone, atol=1e-6)
    assert float((new.pictures - test.pictures).abs().max()) == pytest.approx(poison.eps, abs=1e-6)


def test_an_interrupted_crafting_goes_on_to_the_same_bytes(
    soft: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = Ntga(block=8, steps=1)
    whole = poison(soft, context=Context(seed=5))
    monkeypatch.setattr(Context, "checkpoint", lambda self, name: Checkpoint(tmp_path / name, every=0))
    attack, attacked = Ntga.attack, []

    def dies_in_the_third_block(self: Ntga, block: Batch, others: Batch, device: str) -> Tensor:
        attacked.append(block.ids)
        if len(attacked) == 3:
            raise KeyboardInterrupt
        return attack(self, block, others, device)

    monkeypatch.setattr(Ntga, "attack", dies_in_the_third_block)
    with pytest.raises(KeyboardInterrupt):
        poison(soft, context=Context(seed=5))
    resumed = poison(soft, context=Context(seed=5))
    assert attacked[3:] == attacked[2:3], "only the block that was lost is attacked again"
    assert torch.equal(resumed.pictures, whole.pictures)


def test_what_cannot_be_attacked_is_refused(soft: Batch) -> None:
    with pytest.raises(DataError, match="at least two pictures"):
        Ntga()(soft.select([0]), context=Context(seed=0))
    refused: list[tuple[str, Any]] = [("time", 0.0), ("weight_var", 0.0), ("diag_reg", 0.0), ("time", math.nan)]
    for name, value in [*refused, ("step", -0.1)]:
        with pytest.raises(ConfigError, match=f"ntga: {name} = "):
            Ntga(**{name: value})
    with pytest.raises(ConfigError, match="at least 1"):
        Ntga(block=0)
