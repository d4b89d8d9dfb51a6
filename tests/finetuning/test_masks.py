"""Masks: how they start, what they train, what they leave alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from countermove.errors import ConfigError
from countermove.finetuning.masks import (
    MaskStart,
    masks,
    masks_off,
    overlap,
    put_masks,
    sparsity,
    take_masks_off,
)


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def task() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    pictures = torch.randn(256, 6, generator=source)
    return pictures, (pictures[:, :3]).argmax(1)


def train(net: nn.Module, steps: int = 150, lr: float = 0.05) -> float:
    given, labels = task()
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=lr)
    net.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(steps):
            loss = functional.cross_entropy(net(given), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()
    return float(functional.cross_entropy(net(given), labels).detach())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_the_smallest_entries_are_zeroed_first(share: float) -> None:
    weight = torch.randn(7, 13, generator=torch.Generator().manual_seed(3))
    mask = MaskStart(sparsity=share).mask("w", weight)
    assert int((~mask).sum()) == math.floor(share * weight.numel())
    if (~mask).any():
        assert weight.abs()[~mask].max() <= weight.abs()[mask].min()


def test_equal_magnitudes_go_by_position() -> None:
    assert MaskStart(sparsity=0.5).mask("w", torch.ones(6)).tolist() == [False] * 3 + [True] * 3


def test_a_random_start_depends_on_its_seed_and_on_the_name_alone() -> None:
    weight = torch.randn(20, 20)
    first = MaskStart(init="random", sparsity=0.3, seed=1)
    assert torch.equal(first.mask("a", weight), first.mask("a", -weight))
    assert not torch.equal(first.mask("a", weight), first.mask("b", weight))
    assert not torch.equal(first.mask("a", weight), MaskStart(init="random", sparsity=0.3, seed=2).mask("a", weight))
    assert MaskStart(init="ones", sparsity=0.3).mask("a", weight).all()


@pytest.mark.parametrize("sampler", ["threshold", "bernoulli"])
def test_a_task_is_learned_by_zeroing_alone(sampler: str) -> None:
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    given, labels = task()
    plain = float(functional.cross_entropy(net(given), labels).detach())
    put_masks(net, MaskStart(sparsity=0.0), ["0", "2"], scale=0.5, sampler=sampler)  # pyright: ignore[reportArgumentType]
    after = train(net)
    assert after < plain - 0.1, "the masks learn"
    held = masks(net)
    assert set(held) == {"0.weight", "2.weight"}
    assert 0 < sparsity({name: mask.mask for name, mask in held.items()}) < 1
    for name, mask in held.items():
        module = net.get_submodule(name.removesuffix(".weight"))
        original = net.get_parameter(f"{name.removesuffix('weight')}parametrizations.weight.original")
        assert torch.equal(original, before[name]), "the weights stay"
        assert torch.equal(getattr(module, "weight"), torch.where(mask.mask, before[name], 0))  # noqa: B009
    answers = net(given)
    take_masks_off(net, leave="masked")
    assert torch.equal(net(given), answers)
    assert set(net.state_dict()) == set(before)


def test_gradients_pass_straight_through_to_the_logits() -> None:
    """Against the derivative by hand: of a loss by V, it is the loss by the masked weight, times W."""
    net = nn.Linear(4, 2, bias=False)
    put_masks(nn.Sequential(net), MaskStart(sparsity=0.5), ["0"], scale=0.1, sampler="threshold")
    given = torch.randn(5, 4)
    (net(given) ** 2).sum().backward()
    mask = masks(nn.Sequential(net))["0.weight"]
    original = net.parametrizations.weight.original.detach()  # pyright: ignore
    masked = torch.where(mask.mask, original, 0)
    by_weight = 2 * (given @ masked.T).T @ given
    assert mask.logits.grad is not None
    assert torch.allclose(mask.logits.grad, by_weight * original, atol=1e-5)


def test_bernoulli_masks_are_drawn_in_training_and_fixed_in_evaluation() -> None:
    net = nn.Sequential(nn.Linear(30, 30, bias=False))
    put_masks(net, MaskStart(sparsity=0.5), ["0"], scale=1.0, sampler="bernoulli")
    given = torch.eye(30)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = torch.stack([net.train()(given).detach() != 0 for _ in range(400)]).float().mean(0)
    kept = masks(net)["0.weight"].mask.T
    high = torch.sigmoid(torch.tensor(1.0))
    assert abs(float(drawn[kept].mean()) - float(high)) < 0.01
    assert abs(float(drawn[~kept].mean()) - float(1 - high)) < 0.01
    assert torch.equal(net.eval()(given), net(given))


def test_masks_off_gives_the_old_answers_and_then_the_new_ones_again() -> None:
    net, (given, _) = network().eval(), task()
    before = net(given)
    put_masks(net, MaskStart(sparsity=0.5), ["0", "2"], scale=0.1, sampler="threshold")
    masked = net(given)
    assert not torch.equal(before, masked)
    with masks_off(net):
        assert torch.equal(net(given), before)
    assert torch.equal(net(given), masked)
    take_masks_off(net, leave="original")
    assert torch.equal(net(given), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_keep_their_kind_and_their_bits(dtype: torch.dtype) -> None:
    layer = nn.Linear(8, 8, dtype=dtype)
    net, before = nn.Sequential(layer), layer.weight.detach().clone()
    put_masks(net, MaskStart(sparsity=0.25), ["0"], scale=0.1, sampler="threshold")
    net(torch.ones(2, 8, dtype=dtype)).float().sum().backward()
    assert masks(net)["0.weight"].logits.dtype == torch.float32
    take_masks_off(net, leave="masked")
    kept = layer.weight != 0
    assert layer.weight.dtype == dtype
    assert torch.equal(layer.weight[kept], before[kept])


def test_what_cannot_be_masked_is_refused() -> None:
    start = MaskStart()
    with pytest.raises(ConfigError, match="cannot be masked"):
        put_masks(network(), start, ["1"], scale=0.1, sampler="threshold")
    with pytest.raises(ConfigError, match="cannot be masked"):
        put_masks(network(), start, ["7"], scale=0.1, sampler="threshold")
    with pytest.raises(ConfigError, match="above 0"):
        put_masks(network(), start, ["0"], scale=0.0, sampler="threshold")
    words, output = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
    output.weight = words.weight
    tied = nn.Sequential(words, output)
    with pytest.raises(ConfigError, match="named twice"):
        put_masks(network(), start, ["0", "0"], scale=0.1, sampler="threshold")
    with pytest.raises(ConfigError, match="is tied to"):
        put_masks(tied, start, ["1"], scale=0.1, sampler="threshold")
    with pytest.raises(ConfigError, match="is tied to"):
        put_masks(tied, start, ["0"], scale=0.1, sampler="threshold")
    twice = network()
    put_masks(twice, start, ["0"], scale=0.1, sampler="threshold")
    with pytest.raises(ConfigError, match="parametrization already"):
        put_masks(twice, start, ["0"], scale=0.1, sampler="threshold")
    for wrong in ({"sparsity": 1.0}, {"sparsity": -0.1}, {"init": "largest"}):
        with pytest.raises(ConfigError):
            MaskStart(**wrong)  # pyright: ignore


def test_overlap_of_zeros() -> None:
    one = {"a": torch.tensor([False, False, True, True])}
    other = {"a": torch.tensor([False, True, False, True])}
    assert overlap(one, other) == pytest.approx(1 / 3)
    assert overlap(one, one) == 1
    full = {"a": torch.ones(4, dtype=torch.bool)}
    assert overlap(full, full) == 1
    source = torch.Generator().manual_seed(0)
    first, second = ({"a": torch.rand(100_000, generator=source) > 0.2} for _ in range(2))
    assert overlap(first, second) == pytest.approx(0.2 / 1.8, abs=0.01), "two independent ones"
