"""Every registered network: shapes, randomness, memory formats, sizes, refusals."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

import countermove.nets
from countermove.errors import ConfigError
from countermove.nets.parts import Normalize, seeded
from countermove.nets.registry import MODELS, find
from countermove.pixels.randomness import generator

OURS = ("small-cnn", "small-pooled", "small-residual")

# Trainable numbers with 10 classes at 32 x 32. The ResNets and VGGs are the counts of the usual CIFAR versions;
# DenseNet-121 has one normalisation of 64 channels more than the version without a norm behind its stem.
PARAMETERS = {
    "small-cnn": 206_314,
    "small-pooled": 187_114,
    "small-residual": 501_738,
    "resnet-18": 11_173_962,
    "resnet-34": 21_282_122,
    "resnet-50": 23_520_842,
    "vgg-11": 9_231_114,
    "vgg-19": 20_040_522,
    "densenet-121": 6_956_298 + 2 * 64,
    "mobilenet-v2": 2_236_682,
    "vit-small": 2_693_578,
}


@cache
def built(name: str) -> nn.Module:
    return find(name)()(10, 32, generator(0, name)).eval()


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=generator(1, "pictures"))


def test_every_network_has_its_row():
    assert set(PARAMETERS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_is_a_frozen_versioned_dataclass_with_a_data_sheet(name: str):
    model = find(name)
    assert isinstance(model.version, int)
    assert is_dataclass(model)
    assert "version" not in [field.name for field in fields(model)]
    default = find(name)()
    with pytest.raises(FrozenInstanceError):
        default.anything = 1
    first = (model.__doc__ or "").splitlines()[0]
    cited = re.fullmatch(r".+, [A-Z]\w+ et al\. \d{4}, arXiv:\d{4}\.\d{4,5}\.", first)
    assert first.endswith("for two CPU cores.") if name in OURS else cited, first


@pytest.mark.parametrize("name", MODELS)
def test_gives_logits_and_has_the_known_size(name: str, pictures: torch.Tensor):
    net = built(name)
    with torch.no_grad():
        logits = net(pictures)
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()
    assert not torch.equal(logits[0], logits[1])
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", MODELS)
def test_the_generator_alone_decides_the_weights(name: str):
    first = built(name).state_dict()
    before = torch.get_rng_state()
    torch.manual_seed(1234)
    seeded_globally = torch.get_rng_state()
    try:
        again = find(name)()(10, 32, generator(0, name)).state_dict()
        assert torch.equal(torch.get_rng_state(), seeded_globally)
    finally:
        torch.set_rng_state(before)
    other = find(name)()(10, 32, generator(1, name)).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = [key for key in first if key.endswith("weight") and first[key].ndim > 1]
    assert all(not torch.equal(first[key], other[key]) for key in drawn)


@pytest.mark.parametrize("name", MODELS)
def test_training_mode_draws_no_random_numbers(name: str):
    assert not any(isinstance(m, nn.Dropout) and m.p > 0 for m in built(name).modules())


@pytest.mark.parametrize("name", MODELS)
def test_channels_last_gives_the_same(name: str, pictures: torch.Tensor):
    net = built(name)
    with torch.no_grad():
        plain = net(pictures)
        net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        last = net(pictures.contiguous(memory_format=torch.channels_last))
        net.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(last, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [*OURS, "vit-small"])
def test_one_step_of_training_lowers_the_loss(name: str, pictures: torch.Tensor):
    net = find(name)()(4, 32, generator(2, name)).train()
    labels = torch.tensor([0, 3])
    before = torch.get_rng_state()
    losses = []
    for _ in range(2):
        loss = nn.functional.cross_entropy(net(pictures), labels)
        grads = torch.autograd.grad(loss, list(net.parameters()))
        assert all(g.isfinite().all() for g in grads)
        assert sum(g.abs().sum() for g in grads) > 0
        with torch.no_grad():
            for p, g in zip(net.parameters(), grads, strict=True):
                p -= 0.01 * g
        losses.append(loss.item())
    assert losses[1] < losses[0]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["resnet-18", "densenet-121", "mobilenet-v2", "vit-small", "small-residual"])
def test_pictures_of_64_pixels_get_the_original_stem(name: str):
    net = find(name)()(3, 64, generator(0, name)).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    stem = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    expected = {
        "resnet-18": (7, 2),
        "densenet-121": (7, 2),
        "mobilenet-v2": (3, 2),
        "vit-small": (16, 16),
        "small-residual": (3, 2),
    }
    assert (stem.kernel_size[0], stem.stride[0]) == expected[name]


@pytest.mark.parametrize("name", ["resnet-18", "densenet-121", "mobilenet-v2"])
def test_pictures_of_32_pixels_shrink_by_eight_only(name: str, pictures: torch.Tensor):
    sides = []
    hooks = [
        m.register_forward_hook(lambda _m, _i, out: sides.append(out.shape[-1]))
        for m in built(name).modules()
        if isinstance(m, nn.Conv2d)
    ]
    with torch.no_grad():
        built(name)(pictures)
    for hook in hooks:
        hook.remove()
    assert sides[0] == 32
    assert sides[-1] == 4


def test_width_scales_the_channels():
    half, full = (
        sum(p.numel() for p in find("small-cnn")(width=w)(10, 32, generator(0)).parameters()) for w in (0.5, 1)
    )
    assert 0.2 < half / full < 0.3


@pytest.mark.parametrize(("name", "least"), [("small-cnn", 8), ("small-residual", 8), ("resnet-18", 8), ("vgg-11", 32)])
def test_refuses_pictures_that_are_too_small(name: str, least: int):
    net = find(name)()(2, least, generator(0)).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, least, least)).shape == (1, 2)
    with pytest.raises(ConfigError, match=f"at least {least} x {least}"):
        find(name)()(2, least - 1, generator(0))


def test_the_transformer_refuses_a_side_its_patch_does_not_divide():
    with pytest.raises(ConfigError, match=r"4 x 4 pixels, which does not divide 30; .* side of 28"):
        find("vit-small")()(10, 30, generator(0))
    assert find("vit-small")(patch=5)(10, 30, generator(0)).eval()(torch.zeros(1, 3, 30, 30)).shape == (1, 10)


@pytest.mark.parametrize(
    ("name", "settings"), [("small-cnn", {"width": 0}), ("densenet-121", {"growth": 0}), ("vit-small", {"patch": -4})]
)
def test_refuses_settings_that_make_no_network(name: str, settings: dict[str, int]):
    with pytest.raises(ConfigError, match="take a"):
        find(name)(**settings)(10, 32, generator(0))


@pytest.mark.parametrize("name", MODELS)
def test_refuses_a_single_class(name: str):
    with pytest.raises(ConfigError, match="1 classes"):
        find(name)()(1, 32, generator(0))


def test_an_unknown_network_gets_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'resnet-18'"):
        find("resnet18")


def test_normalisation_is_the_first_layer_and_travels_with_the_weights(pictures: torch.Tensor):
    net = built("small-cnn")
    torch.testing.assert_close(net.get_submodule("normalize")(pictures), (pictures - 0.5) / 0.25)
    assert {"normalize.mean", "normalize.std"} <= set(net.state_dict())
    by_channel = Normalize((0.1, 0.2, 0.3), (1.0, 2.0, 4.0))(torch.full((1, 3, 1, 1), 0.5)).flatten()
    torch.testing.assert_close(by_channel, torch.tensor([0.4, 0.15, 0.05]))


def test_an_error_while_building_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), seeded(generator(0)):
        torch.rand(3).add_(torch.rand(4))
    assert torch.equal(torch.get_rng_state(), before)


def test_names_and_data_sheets_can_be_read_without_torch():
    code = "import sys, countermove.nets.registry as r; assert r.MODELS; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    room = Path(countermove.nets.__file__).parent
    for target in MODELS.values():
        module, _, attribute = target.partition(":")
        tree = ast.parse((room / f"{module.rpartition('.')[2]}.py").read_text(encoding="utf-8"))
        sheet = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == attribute)
        assert ast.get_docstring(sheet)
