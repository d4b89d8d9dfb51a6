"""Penultimate features: what the last linear layer makes logits of, on every registered network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.nets.features import last_linear, logits_and_features
from countermove.nets.registry import MODELS, find
from countermove.pixels.randomness import generator


@pytest.mark.parametrize("name", MODELS)
def test_the_last_linear_layer_makes_the_logits_of_the_features(name: str) -> None:
    net = find(name)()(7, 32, generator(0, name)).eval()
    pictures = torch.rand(2, 3, 32, 32, generator=generator(1)).requires_grad_()
    logits, features = logits_and_features(net, pictures)
    layer = last_linear(net)
    assert features.shape == (2, layer.in_features)
    assert torch.equal(logits, net(pictures))
    assert torch.allclose(layer(features), logits, atol=1e-6)
    assert not torch.equal(features[0], features[1])
    (gradient,) = torch.autograd.grad(features.square().sum(), pictures)
    assert gradient.any()


def test_no_hook_stays_behind_not_even_after_an_error() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    logits_and_features(net, torch.zeros(1, 3, 2, 2))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        logits_and_features(net, torch.zeros(1, 3, 5, 5))
    assert not any(module._forward_hooks for module in net.modules())


class _Twice(nn.Module):
    """Uses its only linear layer two times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x.flatten(1)))


@pytest.mark.parametrize(
    "net",
    [nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.Softmax(1)), _Twice(), nn.Flatten()],
    ids=["softmax behind it", "used twice", "none"],
)
def test_a_network_whose_features_are_unknown_is_refused(net: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"linear layer.*take another"):
        logits_and_features(net, torch.zeros(1, 3, 2, 2))
