"""The five ways: what each changes, what it stores, and that the base can be had back."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from countermove.errors import ConfigError
from countermove.finetuning.adaptation import check_adaptation, read_adaptation
from countermove.finetuning.delta import restored, weights_hash

NEEDS_PEFT = pytest.mark.skipif(not find_spec("peft"), reason="the package peft is not installed")
WAYS = [
    "full(lr=0.02)",
    "critical-layers(layers=['4'], lr=0.05)",
    "critical-layers(last=1, lr=0.05)",
    "critical-layers(share=0.5, lr=0.05)",
    "mask(lr=0.05, scale=0.1, sparsity=0.1)",
    "mask(lr=0.1, sampler=bernoulli, scale=2, sparsity=0)",
    "bitfit(lr=0.02)",
    pytest.param("lora(lr=0.02, rank=2)", marks=NEEDS_PEFT),
]


def network() -> nn.Sequential:
    """A small picture network with normalisations, its last layer the task's own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]
        return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


def examples() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    labels = torch.arange(64) % 2
    pictures = torch.randn(64, 3, 8, 8, generator=source)
    pictures[labels == 1, 0] += 0.7
    return pictures, labels


def losses(net: nn.Module) -> Iterator[Tensor]:
    pictures, labels = examples()
    yield functional.cross_entropy(net(pictures), labels)


def train(net: nn.Module, lr: float) -> None:
    pictures, labels = examples()
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=lr, weight_decay=0)
    net.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(60):
            loss = functional.cross_entropy(net(pictures), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()


def loss_of(net: nn.Module) -> float:
    return float(next(losses(net.eval())).detach())


@pytest.mark.parametrize("spelled", WAYS)
def test_every_way_learns_and_tells_exactly_what_it_changed(spelled: str) -> None:
    net, base = network(), network().state_dict()
    way, before = read_adaptation(spelled), loss_of(network())
    adapting = way.begin(net, new=("8",), losses=losses, seed=3)
    train(net, way.lr)
    pictures, _ = examples()
    during = net(pictures).detach()
    adapted = adapting.finish()
    assert adapted.network is net
    assert set(net.state_dict()) == set(base), "it is a plain network again"
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert torch.allclose(net.eval()(pictures), during, atol=1e-5), "and answers as before"
    assert loss_of(net) < before - 0.1, "it learned"
    total = sum(tensor.numel() for tensor in base.values())
    assert 0 < adapted.parameters_changed <= total
    if adapted.delta is None:
        assert spelled.startswith("lora")
    else:
        assert adapted.bytes_stored == len(adapted.delta.to_bytes())
        assert weights_hash(restored(base, adapted.delta)) == weights_hash(net.state_dict())


@pytest.mark.parametrize(
    ("spelled", "changed"),
    [
        ("full(lr=0.02)", {"0", "1", "3", "4", "8"}),
        ("critical-layers(layers=['4'], lr=0.05)", {"4", "8"}),
        ("critical-layers(last=1, lr=0.05)", {"4", "8"}),
        ("critical-layers(first=2, lr=0.05)", {"0", "1", "8"}),
        ("mask(lr=0.05, scale=0.1, without=['3'])", {"0", "8"}),
        ("mask(lr=0.05, scale=0.1, layers=['3'])", {"3", "8"}),
    ],
)
def test_nothing_but_the_chosen_layers_changes(spelled: str, changed: set[str]) -> None:
    net, base, way = network(), network().state_dict(), read_adaptation(spelled)
    adapting = way.begin(net, new=("8",), losses=losses, seed=3)
    train(net, way.lr)
    adapting.finish()
    own = net.state_dict()
    assert {name.split(".")[0] for name in own if not torch.equal(own[name], base[name])} == changed


def test_bitfit_changes_biases_and_what_their_normalisations_count() -> None:
    net, base, way = network(), network().state_dict(), read_adaptation("bitfit(lr=0.05)")
    adapting = way.begin(net, new=("8",), seed=3)
    train(net, way.lr)
    adapting.finish()
    own = net.state_dict()
    kept = {name for name in own if torch.equal(own[name], base[name])}
    assert kept == {"0.weight", "1.weight", "3.weight", "4.weight"}


@NEEDS_PEFT
def test_lora_stores_its_factors_and_the_new_layer() -> None:
    net, way = network(), read_adaptation("lora(rank=2)")
    net.to(memory_format=torch.channels_last)  # pyright: ignore  # as pictures' networks are trained
    adapted = way.begin(net, new=("8",), seed=3).finish()
    first, second = 2 * 3 * 9 + 8 * 2, 2 * 8 * 9 + 8 * 2
    assert adapted.parameters_changed == first + second + 18
    other = network()
    same = way.begin(other, new=("8",), seed=3).finish()
    assert weights_hash(adapted.network.state_dict()) == weights_hash(same.network.state_dict())


@NEEDS_PEFT
def test_lora_reaches_embeddings_where_it_is_asked_to() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        words = nn.Sequential(nn.Embedding(30, 8), nn.Flatten(), nn.Linear(32, 2))
    tokens = torch.arange(28).view(7, 4)
    before = words(tokens).detach()
    adapting = read_adaptation("lora(embeddings=true, rank=2)").begin(words, new=("2",), seed=0)
    assert torch.allclose(words(tokens), before), "updates begin at nothing"
    assert adapting.finish().parameters_changed == 2 * (30 + 8) + 66


def test_critical_layers_measure_where_they_are_not_told() -> None:
    net = network()
    adapted = read_adaptation("critical-layers(share=0.5)").begin(net, new=("8",), losses=losses, seed=0).finish()
    chosen = adapted.facts["layers"]
    numbers = {name: p.numel() for name, p in network().named_parameters()}
    inside = sum(n for name, n in numbers.items() if name.split(".")[0] in chosen)
    assert chosen
    assert inside <= 0.5 * sum(n for name, n in numbers.items() if not name.startswith("8."))
    with pytest.raises(ConfigError, match="no data to measure"):
        read_adaptation("critical-layers").begin(network(), seed=0)


@pytest.mark.parametrize(
    ("spelled", "reason"),
    [
        ("masks", "did you mean 'mask'"),
        ("mask(sparse=0.1)", "has no setting"),
        ("mask(sparsity=1.5)", "refused"),
        ("mask(init=largest)", "refused"),
        ("lora(rank=0)", "at least 1"),
        ("critical-layers(share=0.2, last=1)", "only one of them"),
        ("full+mask", "unknown adaptation"),
    ],
)
def test_what_no_adaptation_is(spelled: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_adaptation(spelled)


@pytest.mark.parametrize(
    "spelled", ["critical-layers(layers=['17'])", "mask(layers=[encoder])", "mask(without=['17'])"]
)
def test_layers_that_are_not_there(spelled: str) -> None:
    with pytest.raises(ConfigError, match="there is no layer"):
        read_adaptation(spelled).begin(network(), seed=0)


def test_a_spelling_has_one_form() -> None:
    assert check_adaptation("mask(lr=0.02, init=magnitude)") == "mask(lr=0.02)"
    assert check_adaptation("critical-layers( last=2 )") == "critical-layers(last=2)"
    assert check_adaptation("full") == "full"
