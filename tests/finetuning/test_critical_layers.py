"""Which layers matter, and what freezing saves and leaves alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from countermove.errors import ConfigError, DataError
from countermove.finetuning.adaptation import check_adaptation, identity, read_adaptation
from countermove.finetuning.critical_layers import (
    SENSITIVITY_BATCHES,
    CountedLosses,
    choose,
    first_or_last,
    gradient_sensitivity,
    hold_statistics,
    rewinding_sensitivity,
    train_only,
    trained_and_rewound,
    within,
)


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def losses(net: nn.Module) -> Iterator[Tensor]:
    source = torch.Generator().manual_seed(1)
    for _ in range(3):
        given = torch.randn(16, 6, generator=source)
        yield functional.cross_entropy(net(given), given[:, :3].argmax(1))


def test_gradient_sensitivity_is_the_fall_of_the_loss_a_number() -> None:
    """Against a small step of one block along its gradient's signs."""
    net = network().double()

    def doubled(module: nn.Module) -> Iterator[Tensor]:
        source = torch.Generator().manual_seed(1)
        given = torch.randn(64, 6, generator=source, dtype=torch.float64)
        yield functional.cross_entropy(module(given), given[:, :3].argmax(1))

    found = gradient_sensitivity(net, doubled)
    assert set(found) == {"0", "2", "4"}
    (before,) = doubled(net)
    gradients = torch.autograd.grad(before, list(net[2].parameters()))
    step = 1e-6
    with torch.no_grad():
        for parameter, gradient in zip(net[2].parameters(), gradients, strict=True):
            parameter -= step * gradient.sign()
    (after,) = doubled(net)
    numbers = sum(parameter.numel() for parameter in net[2].parameters())
    assert found["2"] == pytest.approx(float(before.detach() - after.detach()) / step / numbers, rel=1e-3)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_rewinding_finds_the_block_that_carries_the_task() -> None:
    net, base = network(), {name: tensor.clone() for name, tensor in network().state_dict().items()}
    with torch.no_grad():
        net.get_parameter("2.weight").add_(1.0)
    given = torch.randn(8, 6)
    wanted = net(given).detach()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = rewinding_sensitivity(net, base, lambda: -float((net(given) - wanted).abs().mean().detach()))
    assert found["2"] > 0.01
    assert found["0"] == found["4"] == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_choosing_fills_a_share_with_the_most_sensitive() -> None:
    sensitivity = {"a": 3.0, "b": 2.0, "c": 1.0}
    numbers = {"a": 50, "b": 40, "c": 10}
    assert choose(sensitivity, numbers, most=60) == ["a", "c"], "b no longer fits, c does"
    assert choose(sensitivity, numbers, most=45) == ["b"]
    assert choose(sensitivity, numbers, most=100) == ["a", "b", "c"]
    with pytest.raises(ConfigError, match="no layer has as few"):
        choose(sensitivity, numbers, most=5)


def test_layers_are_taken_by_whole_words_and_others_left_out() -> None:
    names = ["layer.1.a.weight", "layer.1.b.weight", "layer.10.a.weight"]
    assert within(names, ["layer.1"]) == names[:2]
    assert within(names, ["layer.1"], without=["layer.1.b"]) == names[:1]


def test_a_frozen_normalisation_is_held_whoever_calls_it() -> None:
    """Also where an outer module calls another method than forward."""

    class Outer(nn.Module):
        def __init__(self, inner: nn.Sequential) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, given: Tensor) -> Tensor:
            return self.inner[1](self.inner[0](given))

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    train_only(net, ["0.weight"])
    release = hold_statistics(net)
    outer = Outer(net).train()
    outer(torch.randn(8, 3, 9, 9) + 5)
    assert torch.equal(net.get_buffer("1.running_mean"), torch.zeros(4))
    release()
    outer.train()(torch.randn(8, 3, 9, 9) + 5)
    assert not torch.equal(net.get_buffer("1.running_mean"), torch.zeros(4))


def test_counted_losses_count_what_went_through() -> None:
    counted = CountedLosses(lambda net: ((loss, 16) for loss in losses(net)))
    gradient_sensitivity(network(), counted)
    assert counted.samples == 3 * 16


class SteepAndGentle(nn.Module):
    """Two numbers: the gradient of one is ten times as large, and soon nothing is left to gain by it."""

    def __init__(self) -> None:
        super().__init__()
        self.steep, self.gentle = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.steep.weight)
        nn.init.zeros_(self.gentle.weight)

    def forward(self, given: Tensor) -> Tensor:
        return 0.1 * torch.tanh(1000 * self.steep(torch.ones_like(given))) + self.gentle(given)


def planted(batches: int = 3) -> CountedLosses:
    given = torch.randn(batches, 16, 1, generator=torch.Generator().manual_seed(0))
    given -= given.mean(1, keepdim=True)
    return CountedLosses(lambda net: ((functional.mse_loss(net(x), x + 0.1), len(x)) for x in given))


def test_rewinding_finds_what_carries_the_task_where_gradients_point_elsewhere() -> None:
    chosen, counted = {}, {}
    for by in ("gradients", "rewinding"):
        net, losses = SteepAndGentle(), planted()
        way = read_adaptation(f"critical-layers(by={by}, lr=0.05, share=0.5, steps=40)")
        facts = way.begin(net, losses=losses, seed=0).finish().facts
        assert not any(parameter.any() for parameter in net.parameters()), "measuring changes nothing"
        chosen[by], counted[by] = facts["layers"], losses.samples
    assert chosen == {"gradients": ["steep"], "rewinding": ["gentle"]}
    assert counted["gradients"] == 3 * 16
    assert counted["rewinding"] == (40 + 3 * (1 + 2)) * 16, "every look at a batch is paid"


def test_a_copy_is_trained_with_what_it_passes_through() -> None:
    net, head = network(), nn.Linear(3, 3)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    before = head.weight.clone()
    seen: list[Tensor] = []

    def batches(module: nn.Module) -> Iterator[tuple[Tensor, int]]:
        for loss in losses(nn.Sequential(module, head)):
            seen.append(head.weight.detach().clone())
            yield loss, 16

    found = trained_and_rewound(net, CountedLosses(batches, beside=head), steps=20, lr=0.02)
    assert max(found.values()) > 0.01, "through a head of zeros that stays, no block could matter"
    assert not torch.equal(seen[-1], before)
    assert torch.equal(head.weight, before), "it is put back"


def test_no_more_batches_are_measured_than_said() -> None:
    counted = planted(batches=3 * SENSITIVITY_BATCHES)
    gradient_sensitivity(SteepAndGentle(), counted)
    assert counted.samples == 16 * SENSITIVITY_BATCHES
    counted = planted(batches=3 * SENSITIVITY_BATCHES)
    trained_and_rewound(SteepAndGentle(), counted, steps=5, lr=0.01)
    assert counted.samples == 16 * (5 + 3 * SENSITIVITY_BATCHES)


def test_a_copy_that_diverges_or_sees_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="not finite; lower lr"):
        trained_and_rewound(SteepAndGentle(), planted(), steps=2, lr=1e30)
    for measured in (gradient_sensitivity, lambda net, none: trained_and_rewound(net, none, steps=1, lr=0.1)):
        with pytest.raises(ConfigError, match="there is none"):
            measured(SteepAndGentle(), lambda _: ())


def test_how_layers_are_measured_is_keyed_where_it_is_said() -> None:
    """Keys of what was played before rewinding could be asked for stay what they were."""
    assert set(identity("critical-layers(share=0.4)")["settings"]) == {
        "layers",
        "first",
        "last",
        "share",
        "without",
        "lr",
    }
    assert check_adaptation("critical-layers(by=gradients, share=0.4)") == "critical-layers(share=0.4)"
    told = identity("critical-layers(by=rewinding, share=0.4)")
    assert told["settings"]["by"] == "rewinding"
    assert told["spelling"] == "critical-layers(by=rewinding, share=0.4)"


@pytest.mark.parametrize(
    ("spelled", "told"),
    [
        ("critical-layers(by=rewind)", "'gradients' or 'rewinding'"),
        ("critical-layers(by=rewinding, last=1)", "not measured"),
        ("critical-layers(by=rewinding, steps=0)", "at least 1"),
    ],
)
def test_what_cannot_be_measured(spelled: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_adaptation(spelled)


def test_first_and_last_blocks() -> None:
    names = ["emb.weight", "layer.0.a", "layer.0.b", "layer.1.a", "layer.2.a", "head.weight"]
    assert first_or_last(names, last=2) == ["layer.1", "layer.2"]
    assert first_or_last(names, first=1) == ["layer.0"]


def test_only_chosen_layers_change_and_the_backward_pass_ends_there() -> None:
    net = network()
    train_only(net, ["2.weight", "2.bias", "4.weight", "4.bias"])
    below: dict[str, bool] = {}
    for name in ("0", "2"):
        net.get_submodule(name).register_forward_hook(lambda *a, name=name: below.update({name: a[2].requires_grad}))
    sum(losses(net)).backward()  # pyright: ignore
    trained = {"2.weight", "2.bias", "4.weight", "4.bias"}
    assert {name for name, p in net.named_parameters() if p.grad is not None} == trained
    assert below == {"0": False, "2": True}, "no graph is kept below the first layer that is trained"


def test_nothing_and_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no layer 'encoder'"):
        within(["layer.0.weight"], ["encoder"])
    with pytest.raises(ConfigError, match=r"no parameter '2\.wait'"):
        train_only(network(), ["2.wait"])
    with pytest.raises(ConfigError, match="everything would be frozen"):
        train_only(network(), [])


def test_frozen_normalisations_keep_their_statistics_and_trained_ones_do_not() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    train_only(net, within([name for name, _ in net.named_parameters()], ["2", "3"]))
    release = hold_statistics(net)
    net.train()
    net(torch.randn(8, 3, 9, 9) + 5)
    assert torch.equal(net.get_buffer("1.running_mean"), torch.zeros(4))
    assert not torch.equal(net.get_buffer("3.running_mean"), torch.zeros(4))
    release()
    net.train()
    net(torch.randn(8, 3, 9, 9) + 5)
    assert not torch.equal(net.get_buffer("1.running_mean"), torch.zeros(4))
