"""Weights from elsewhere: absent, wrong, dangerous, and right."""

from __future__ import annotations

import hashlib
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision import models

from countermove.errors import ConfigError, WeightsError
from countermove.nets.load import load, load_weights, save_weights
from countermove.nets.registry import find
from countermove.nets.weights import read_state
from countermove.pixels.randomness import generator

PICTURES = torch.rand(2, 3, 32, 32, generator=generator(0, "pictures"))


def small(seed: int = 0, width: float = 0.25, classes: int = 10) -> nn.Module:
    return find("small-cnn")(width=width)(classes, 32, generator(seed))


def trained(net: nn.Module) -> nn.Module:
    """Move the batch-norm buffers, as training would."""
    net.train()
    with torch.no_grad():
        net(PICTURES)
    return net.eval()


class RunsCode:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(4, 4)
        self.decode = nn.Linear(4, 4)
        self.decode.weight = self.encode.weight


# --- our own files ---------------------------------------------------------------------------------------------------


def test_weights_and_buffers_survive_exactly_in_any_memory_format(tmp_path: Path):
    net = trained(small())
    save_weights(net, tmp_path / "a.safetensors")
    other = small(seed=1).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    load_weights(other, tmp_path / "a.safetensors")
    mine, theirs = net.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for key in mine:
        assert mine[key].dtype == theirs[key].dtype
        assert torch.equal(mine[key], theirs[key]), key
    save_weights(other, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_saving_and_loading_leave_mode_and_gradients_alone(tmp_path: Path):
    net = small().train()
    save_weights(net, tmp_path / "a.safetensors")
    assert net.training
    frozen = small(seed=1).eval().requires_grad_(False)
    load_weights(frozen, tmp_path / "a.safetensors")
    assert not frozen.training
    assert not any(p.requires_grad for p in frozen.parameters())


def test_tied_tensors_are_written_once_and_stay_tied(tmp_path: Path):
    net, other = Tied(), Tied()
    save_weights(net, tmp_path / "a.safetensors")
    assert set(read_state(tmp_path / "a.safetensors")) == {"decode.bias", "decode.weight", "encode.bias"}
    load_weights(other, tmp_path / "a.safetensors")
    assert torch.equal(other.encode.weight, net.encode.weight)
    assert other.encode.weight is other.decode.weight


def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path: Path):
    save_weights(small(), tmp_path / "a.safetensors")
    wide = small(width=0.5)
    before = {key: value.clone() for key, value in wide.state_dict().items()}
    with pytest.raises(WeightsError, match=r"wrong shape: net\.0\.0\.weight is \[8, 3, 3, 3\], not \[16, 3, 3, 3\]"):
        load_weights(wide, tmp_path / "a.safetensors")
    assert all(torch.equal(before[key], value) for key, value in wide.state_dict().items())
    with pytest.raises(WeightsError, match=r"missing: decode\.bias.*unexpected: net\.0\.0\.weight.* and \d+ more"):
        load_weights(Tied(), tmp_path / "a.safetensors")


# --- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "pth"])
def test_a_checkpoint_gives_the_network_it_was_saved_from(tmp_path: Path, suffix: str):
    net, path = trained(small()), tmp_path / f"w.{suffix}"
    save_weights(net, path) if suffix == "safetensors" else torch.save(net.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    before = torch.get_rng_state()
    spec = f"checkpoint:{path}(model=small-cnn, width=0.25, classes=10, sha256={digest})"
    for loaded in (
        load(spec),
        load(f"checkpoint:{path.name}(model=small-cnn, width=1/4)", classes=10, folder=tmp_path),
    ):
        assert not loaded.training
        with torch.no_grad():
            assert torch.equal(loaded(PICTURES), net(PICTURES))
    assert torch.equal(torch.get_rng_state(), before)


def test_another_hash_is_refused(tmp_path: Path):
    save_weights(small(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"has SHA-256 [0-9a-f]{64}, but the hash that was given is ab"):
        load(f"checkpoint:{tmp_path}/w.safetensors(model=small-cnn, classes=10, sha256={'ab' * 32})")
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        load(f"checkpoint:{tmp_path}/w.safetensors(model=small-cnn, classes=10, sha256=abc)")


def test_other_keys_are_refused_and_listed(tmp_path: Path):
    state = small(width=1).state_dict()
    state["surprise"] = state.pop("net.8.bias")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"missing: net\.8\.bias; unexpected: surprise"):
        load(f"checkpoint:{tmp_path}/w.pt(model=small-cnn, classes=10)")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("suffix", ["pt", "pth"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, suffix: str, legacy: bool):
    marker, path = tmp_path / "ran", tmp_path / f"w.{suffix}"
    torch.save({"w": torch.zeros(1), "x": RunsCode(marker)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match="could run code"):
        load(f"checkpoint:{path}(model=small-cnn, classes=10)")
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the trap itself must work, or this test shows nothing"


def test_a_bare_pickle_is_refused_and_does_not_run(tmp_path: Path):
    marker = tmp_path / "ran"
    (tmp_path / "w.pt").write_bytes(pickle.dumps(RunsCode(marker)))
    with pytest.raises(WeightsError):
        load(f"checkpoint:{tmp_path}/w.pt(model=small-cnn, classes=10)")
    assert not marker.exists()


@given(data=st.binary(max_size=200))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_any_broken_file_is_named(tmp_path: Path, suffix: str, data: bytes):
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=str(path)):
        read_state(path)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_file_that_was_cut_short_is_named(tmp_path: Path, suffix: str):
    net, path = small(), tmp_path / f"w.{suffix}"
    save_weights(net, path) if suffix == "safetensors" else torch.save(net.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"again|broken"):
        read_state(path)


def test_a_whole_training_state_is_refused_with_advice(tmp_path: Path):
    torch.save({"model": small().state_dict(), "epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"a dictionary with model, epoch; save model.state_dict\(\) itself"):
        read_state(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("spec", "kind", "says"),
    [
        ("resnet-18", ConfigError, "write it like"),
        ("tim:resnet50", ConfigError, "did you mean 'timm'"),
        ("checkpoint:w.pt", ConfigError, "does not say which network"),
        ("checkpoint:w.pt(model=resnet18, classes=2)", ConfigError, "did you mean 'resnet-18'"),
        ("checkpoint:w.pt(model=small-cnn)", ConfigError, "number of classes"),
        ("checkpoint:w.pt(model=small-cnn, classes=2, widht=2)", ConfigError, "did you mean 'width'"),
        ("checkpoint:w.pt(model=small-cnn, classes=two)", ConfigError, "classes=two; a number"),
        ("checkpoint:w.pt(model=small-cnn, classes=2, side=1.5)", ConfigError, "side=1.5; a number"),
        ("checkpoint:w.pt(model=small-cnn, classes=2)", WeightsError, "no weights at w.pt"),
        ("torchvision:resnet19", ConfigError, "did you mean"),
        ("torchvision:googlenet", ConfigError, "no network 'googlenet'"),
        ("torchvision:resnet18/IMAGENET", ConfigError, "IMAGENET1K_V1"),
        ("torchvision:resnet18(width=2)", ConfigError, "take only sha256"),
    ],
)
def test_what_cannot_be_read_is_refused(spec: str, kind: type[Exception], says: str, tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=says):
        load(spec)


def test_classes_must_agree_with_the_checkpoint():
    with pytest.raises(ConfigError, match="of 10 classes, but 5 are needed"):
        load("checkpoint:w.pt(model=small-cnn, classes=10)", classes=5)
    with pytest.raises(ConfigError, match="at least 2"):
        load("torchvision:resnet18", classes=1)


def test_a_file_that_is_no_weights_is_refused_by_its_name(tmp_path: Path):
    (tmp_path / "w.pkl").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"does not end in \.safetensors, \.pt, \.pth"):
        read_state(tmp_path / "w.pkl")


# --- other people's weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "module", "extra"),
    [
        ("timm:resnet50", "timm", "retrieval"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "open_clip", "faces"),
        ("transformers:google/vit-base-patch16-224", "transformers", "finetuning"),
    ],
)
def test_an_absent_package_is_named_with_its_extra(spec: str, module: str, extra: str, monkeypatch: Any):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(WeightsError, match=rf"pip install 'countermove\[{extra}\]'"):
        load(spec)


@pytest.mark.parametrize(
    ("spec", "repository"),
    [
        ("timm:resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        ("transformers:google/vit-base-patch16-224", "google/vit-base-patch16-224"),
    ],
)
def test_absent_hub_weights_are_named_with_their_source(spec: str, repository: str, tmp_path: Path):
    pytest.importorskip(spec.partition(":")[0], reason="this optional package is not installed")
    with pytest.raises(WeightsError, match="not on this machine") as refusal:
        load(spec, folder=tmp_path)
    assert f"https://huggingface.co/{repository}/resolve/main/" in str(refusal.value)
    assert f"hf download {repository}" in str(refusal.value)
    assert not any(tmp_path.iterdir())


@pytest.fixture
def no_network(monkeypatch: Any) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)


@pytest.mark.usefixtures("no_network")
def test_absent_torchvision_weights_name_file_source_hash_and_place(tmp_path: Path):
    with pytest.raises(WeightsError, match="not on this machine") as refusal:
        load("torchvision:resnet18", folder=tmp_path)
    said = str(refusal.value)
    weights = models.ResNet18_Weights.DEFAULT
    file = weights.url.rpartition("/")[2]
    assert weights.url in said
    assert f"SHA-256 begins with {file[-12:-4]}" in said
    assert str(tmp_path / file) in said
    assert not any(tmp_path.iterdir())


@pytest.mark.usefixtures("no_network")
def test_torchvision_weights_are_looked_for_in_the_hub_folder(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError) as refusal:
        load("torchvision:resnet18")
    assert str(tmp_path / "checkpoints" / "resnet18-") in str(refusal.value)


def published(net: nn.Module, weights: Any, folder: Path, monkeypatch: Any, rename: Any = None) -> Path:
    """Save a state as torchvision would publish it: the file's name carries the beginning of its hash."""
    state = net.state_dict()
    if rename:
        state = {rename(key): value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(state, folder / "new.pth")
    digits = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()[:8]
    path = (folder / "new.pth").rename(folder / f"net-{digits}.pth")
    monkeypatch.setattr(weights.value, "url", f"https://download.pytorch.org/models/{path.name}")
    return path


@pytest.mark.usefixtures("no_network")
def test_torchvision_weights_on_disk_are_used_and_checked(tmp_path: Path, monkeypatch: Any):
    net = trained(models.mobilenet_v3_small(num_classes=1000))
    weights = models.MobileNet_V3_Small_Weights.IMAGENET1K_V1
    path = published(net, weights, tmp_path, monkeypatch)
    before = torch.get_rng_state()
    loaded = load("torchvision:mobilenet_v3_small/IMAGENET1K_V1", folder=tmp_path)
    fresh = load("torchvision:mobilenet_v3_small", classes=7, folder=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(loaded(PICTURES), net((PICTURES - mean) / std))
        assert torch.equal(fresh(PICTURES), torch.zeros(2, 7))
    mine = net.state_dict()
    assert all(torch.equal(mine[k[4:]], v) for k, v in fresh.state_dict().items() if k.startswith("net.features"))

    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="the beginning of it in the file's name"):
        load("torchvision:mobilenet_v3_small", folder=tmp_path)


@pytest.mark.usefixtures("no_network")
def test_torchvision_weights_of_another_network_are_refused(tmp_path: Path, monkeypatch: Any):
    published(small(), models.MobileNet_V3_Small_Weights.IMAGENET1K_V1, tmp_path, monkeypatch)
    with pytest.raises(WeightsError, match=r"does not fit torchvision's mobilenet_v3_small(.|\n)*Missing key"):
        load("torchvision:mobilenet_v3_small", folder=tmp_path)


@pytest.mark.usefixtures("no_network")
def test_the_older_names_in_torchvisions_densenets_are_understood(tmp_path: Path, monkeypatch: Any):
    net = trained(models.densenet121(num_classes=1000))
    older = lambda key: key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.")  # noqa: E731
    published(net, models.DenseNet121_Weights.IMAGENET1K_V1, tmp_path, monkeypatch, rename=older)
    loaded = load("torchvision:densenet121", folder=tmp_path).state_dict()
    mine = net.state_dict()
    assert all(torch.equal(mine[key], loaded[f"net.{key}"]) for key in mine if "num_batches" not in key)


def test_a_download_that_fails_is_told(tmp_path: Path, monkeypatch: Any):
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(WeightsError, match=r"cannot be fetched \(no route\); put the file at"):
        load("torchvision:resnet18", folder=tmp_path / "new", download=True)
