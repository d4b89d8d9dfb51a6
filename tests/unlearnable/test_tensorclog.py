"""TensorClog: its closed form and its double backward pass, against slow loops."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.nets.features import last_linear
from countermove.nets.registry import build_network, find
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.pixels.steps import frozen
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context
from countermove.unlearnable.poisons.tensorclog import all_layers_norm, last_layer_norms


@pytest.fixture
def network() -> nn.Module:
    return build_network("small-cnn(width=0.1)", 3, 16, generator(0, "clog")).eval()


def _slow_norms(network: nn.Module, pictures: Tensor, labels: Tensor) -> Tensor:
    """The same as the closed form: one backward pass a picture, which can be differentiated again."""
    layer = last_linear(network)
    parameters = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    norms = []
    for picture, label in zip(pictures, labels, strict=True):
        loss = F.cross_entropy(network(picture[None]), label[None])
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        norms.append(torch.stack([g.square().sum().sqrt() for g in gradients]).sum())
    return torch.stack(norms)


def _check_closed_form(network: nn.Module, pictures: Tensor, labels: Tensor) -> None:
    pictures = pictures.double().requires_grad_()
    norms = last_layer_norms(network, pictures, labels)
    slow = _slow_norms(network, pictures, labels)
    assert norms.shape == (len(pictures),)
    assert torch.allclose(norms, slow, rtol=1e-10)
    (fast_gradient,) = torch.autograd.grad(norms.sum(), pictures)
    (slow_gradient,) = torch.autograd.grad(slow.sum(), pictures)
    assert fast_gradient.any()
    assert torch.allclose(fast_gradient, slow_gradient, rtol=1e-8, atol=1e-12)


def test_the_closed_form_and_its_gradient_are_the_double_backward_passs(network: nn.Module, pictures: Batch) -> None:
    _check_closed_form(network.double(), pictures.pictures[:5], pictures.labels[:5])


def test_the_closed_form_without_biases(pictures: Batch) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 6), nn.Tanh(), nn.Linear(6, 3, bias=False)).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator(3))
    _check_closed_form(net, pictures.pictures[:5], pictures.labels[:5])


def test_all_layers_give_the_length_of_the_whole_gradient(network: nn.Module, pictures: Batch) -> None:
    twin = copy.deepcopy(network)
    with frozen(twin):
        x, y = pictures.pictures[:6].clone().requires_grad_(), pictures.labels[:6]
        size = all_layers_norm(twin, x, y)
        (gradient,) = torch.autograd.grad(size, x)
    assert all(p.requires_grad and p.grad is None for p in twin.parameters())
    F.cross_entropy(network(x.detach()), y).backward()
    whole = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    assert float(size.detach()) == pytest.approx(float(whole.norm()), rel=1e-5)
    shift = gradient / gradient.norm() * 1e-3
    with frozen(twin):
        ahead, behind = (float(all_layers_norm(twin, x.detach() + d, y).detach()) for d in (shift, -shift))
    assert ahead - behind == pytest.approx(2e-3 * float(gradient.norm()), rel=0.05)


def test_all_layers_of_a_transformer_can_be_differentiated_twice(pictures: Batch) -> None:
    net = find("vit-small")()(3, 16, generator(0, "vit"))
    x = pictures.pictures[:2].clone().requires_grad_()
    with frozen(net):
        (gradient,) = torch.autograd.grad(all_layers_norm(net, x, pictures.labels[:2]), x)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_a_gradient_that_is_gone_stays_finite(network: nn.Module, pictures: Batch) -> None:
    layer = last_linear(network)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([0.0, 1000.0, 0.0]))  # quite sure of class 1
    rows = (pictures.labels == 1).nonzero().flatten()
    x = pictures.pictures[rows].clone().requires_grad_()
    with frozen(network):
        for size in (
            last_layer_norms(network, x, pictures.labels[rows]),
            all_layers_norm(network, x, pictures.labels[rows]),
        ):
            assert not size.any()
            (gradient,) = torch.autograd.grad(size.sum(), x)
            assert gradient.isfinite().all()


@pytest.mark.parametrize("layers", ["last", "all"])
def test_the_noise_clogs_the_gradient(layers: str, network: nn.Module, pictures: Batch) -> None:
    context = Context(seed=0, networks=lambda _: [network])
    poison = METHODS.compose("move", f"tensorclog(layers={layers}, steps=8, eps=16/255)").method
    moved = poison(pictures, context=context)
    size_of = {"last": last_layer_norms, "all": all_layers_norm}[layers]
    with frozen(network):
        before, after = (size_of(network, b.pictures, b.labels).detach() for b in (pictures, moved))
    assert bool((after < before).all())
    assert float(after.sum()) < 0.95 * float(before.sum())
    assert context.meter.samples == 8 * 24 * {"last": 1, "all": 2}[layers]
