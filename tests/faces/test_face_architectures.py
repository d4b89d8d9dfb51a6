"""The public face networks: their names and shapes, and what happens to files that are absent, wrong or right."""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError, WeightsError
from countermove.faces.extractors import pretrained
from countermove.faces.extractors.embedder import PublicEmbedder
from countermove.faces.extractors.iresnet import IResNet
from countermove.faces.extractors.pretrained import build_architecture, load_embedder
from countermove.faces.extractors.specs import EMBEDDERS, EmbedderSpec
from countermove.game.config import make_config
from countermove.game.results import load_results
from countermove.game.run import play, resolve
from countermove.nets.parts import seeded
from countermove.pixels.randomness import generator

OWN = [spec for spec in EMBEDDERS.values() if not spec.architecture.startswith("open_clip:")]
SMALL = replace(
    EMBEDDERS["magface-r100"], key="small-magface", architecture="iresnet-18", width=16, filename="m.pth", sha256=None
)


def faces(n: int = 2, side: int = 112) -> Tensor:
    return torch.rand(n, 3, side, side, generator=generator(0, "faces"))


def numbers(spec: EmbedderSpec, *, counters: bool = True) -> dict[str, Tensor]:
    """Draw small random tensors under the names and with the shapes of a spec's network."""
    source, state = generator(1, spec.architecture), {}
    for name, tensor in build_architecture(spec).state_dict().items():
        if name.endswith("num_batches_tracked"):
            if counters:
                state[name] = torch.tensor(7)
        elif name.endswith("running_var") or tensor.ndim == 1:
            state[name] = torch.rand(tensor.shape, generator=source) * 0.2 + 0.9
        else:
            state[name] = torch.randn(tensor.shape, generator=source) * (2 / tensor[0].numel()) ** 0.5
    return state


def as_published(spec: EmbedderSpec, state: dict[str, Tensor]) -> Any:
    named = {spec.prefix + name: tensor for name, tensor in state.items()}
    named |= {name: torch.zeros(2, 3) for name in spec.dropped}
    return {"epoch": 25, "arch": "iresnet", "state_dict": named} if spec.nested else named


def write(path: Path, content: Any) -> str:
    torch.save(content, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> EmbedderSpec:
    monkeypatch.setitem(pretrained.EMBEDDERS, SMALL.key, SMALL)
    return SMALL


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("COUNTERMOVE_WEIGHTS", raising=False)


# --- names and shapes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "parameters"),
    [
        ("facenet-vggface2", 23_482_624),
        ("arcface-r50", 43_590_848),
        ("arcface-r100", 65_156_160),
        ("magface-r100", 65_156_160),
        ("adaface-ir101", 65_150_912),
    ],
)
def test_networks_have_the_published_number_of_parameters(key: str, parameters: int):
    net = build_architecture(EMBEDDERS[key])
    assert sum(p.numel() for p in net.parameters()) == parameters


@pytest.mark.parametrize(("depth", "parameters"), [(18, 24_025_600), (34, 34_139_328)])
def test_the_small_iresnets_have_the_published_number_of_parameters(depth: int, parameters: int):
    with torch.device("meta"):
        assert sum(p.numel() for p in IResNet(f"iresnet-{depth}").parameters()) == parameters


@pytest.mark.parametrize(
    ("key", "shapes"),
    [
        (
            "facenet-vggface2",
            {
                "conv2d_1a.conv.weight": (32, 3, 3, 3),
                "conv2d_4b.bn.running_mean": (256,),
                "repeat_1.4.branch2.2.conv.weight": (32, 32, 3, 3),
                "repeat_1.0.conv2d.bias": (256,),
                "mixed_6a.branch0.conv.weight": (384, 256, 3, 3),
                "mixed_6a.branch1.2.bn.weight": (256,),
                "repeat_2.9.branch1.1.conv.weight": (128, 128, 1, 7),
                "repeat_2.9.branch1.2.conv.weight": (128, 128, 7, 1),
                "mixed_7a.branch2.2.conv.weight": (256, 256, 3, 3),
                "repeat_3.4.branch1.1.conv.weight": (192, 192, 1, 3),
                "block8.conv2d.weight": (1792, 384, 1, 1),
                "last_linear.weight": (512, 1792),
                "last_bn.running_var": (512,),
            },
        ),
        (
            "adaface-ir101",
            {
                "input_layer.0.weight": (64, 3, 3, 3),
                "input_layer.2.weight": (64,),
                "body.0.res_layer.4.weight": (64, 64, 3, 3),
                "body.3.shortcut_layer.0.weight": (128, 64, 1, 1),
                "body.3.shortcut_layer.1.running_mean": (128,),
                "body.16.res_layer.1.weight": (256, 128, 3, 3),
                "body.48.res_layer.5.bias": (512,),
                "output_layer.0.running_var": (512,),
                "output_layer.3.weight": (512, 25088),
                "output_layer.4.running_mean": (512,),
            },
        ),
        (
            "arcface-r100",
            {
                "conv1.weight": (64, 3, 3, 3),
                "prelu.weight": (64,),
                "layer1.0.downsample.0.weight": (64, 64, 1, 1),
                "layer2.12.conv2.weight": (128, 128, 3, 3),
                "layer3.29.prelu.weight": (256,),
                "layer4.0.downsample.1.running_mean": (512,),
                "layer4.2.bn3.bias": (512,),
                "bn2.weight": (512,),
                "fc.weight": (512, 25088),
                "fc.bias": (512,),
                "features.weight": (512,),
            },
        ),
    ],
)
def test_networks_have_the_published_names_and_shapes(key: str, shapes: dict[str, tuple[int, ...]]):
    state = build_architecture(EMBEDDERS[key]).state_dict()
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert not [name for name in state if name.startswith(("logits", "dropout", "avgpool"))]


@pytest.mark.parametrize("spec", OWN, ids=lambda spec: spec.key)
def test_every_spec_is_whole(spec: EmbedderSpec):
    net = build_architecture(spec)
    assert spec.url.startswith("https://")
    assert spec.direct == spec.url.endswith(spec.filename)
    assert spec.sha256 is None or len(spec.sha256) == 64
    assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)} == {spec.eps}
    assert net(torch.zeros(2, 3, spec.side, spec.side, device="meta")).shape == (2, spec.width)


def test_an_unknown_depth_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'iresnet-100'"):
        IResNet("iresnet-101")


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_published_facenet_file_gives_its_network_and_draws_nothing(tmp_path: Path):
    spec = EMBEDDERS["facenet-vggface2"]
    state = numbers(spec, counters=False)
    digest = write(tmp_path / spec.filename, as_published(spec, state))
    before = torch.get_rng_state()
    embedder = load_embedder(spec.key, folder=tmp_path, sha256=digest.upper())
    assert torch.equal(torch.get_rng_state(), before)
    assert (embedder.sha256, embedder.verified, embedder.side) == (digest, True, 160)
    loaded = embedder.net.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    assert all(int(loaded[name]) == 0 for name in loaded if name.endswith("num_batches_tracked"))
    with torch.no_grad():
        out = embedder(faces(side=160))
        own = embedder.net((faces(side=160) * 255 - 127.5) / 128)
    torch.testing.assert_close(out, F.normalize(own, dim=1), rtol=1e-4, atol=1e-5)


def test_a_published_magface_file_gives_its_network(small: EmbedderSpec, tmp_path: Path):
    state = numbers(small)
    digest = write(tmp_path / small.filename, as_published(small, state))
    embedder = load_embedder(small.key, folder=tmp_path)
    assert (embedder.sha256, embedder.verified) == (digest, False)
    with seeded(generator(0, "net")):
        net = IResNet("iresnet-18", width=16, eps=2e-5).eval()
    net.load_state_dict(state)
    with torch.no_grad():
        wanted = F.normalize(net(faces()[:, [2, 1, 0]]), dim=1)
        out = embedder(faces())
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2))
    assert not torch.allclose(out, F.normalize(net(faces()), dim=1), atol=1e-3)


def by_hand(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Compute AdaFace's IR-18 from its tensors' names alone."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, state.get(f"{name}.weight"), state.get(f"{name}.bias"))

    x = F.conv2d(x, state["input_layer.0.weight"], padding=1)
    x = F.prelu(norm(x, "input_layer.1"), state["input_layer.2.weight"])
    for i in range(8):
        stride, res, short = 2 - i % 2, f"body.{i}.res_layer", f"body.{i}.shortcut_layer"
        kept = x[:, :, ::stride, ::stride]
        if f"{short}.0.weight" in state:
            kept = norm(F.conv2d(x, state[f"{short}.0.weight"], stride=stride), f"{short}.1")
        x = F.conv2d(norm(x, f"{res}.0"), state[f"{res}.1.weight"], padding=1)
        x = F.prelu(norm(x, f"{res}.2"), state[f"{res}.3.weight"])
        x = kept + norm(F.conv2d(x, state[f"{res}.4.weight"], stride=stride, padding=1), f"{res}.5")
    x = norm(x, "output_layer.0").flatten(1)
    return norm(F.linear(x, state["output_layer.3.weight"], state["output_layer.3.bias"]), "output_layer.4")


def test_a_published_adaface_file_gives_its_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = replace(EMBEDDERS["adaface-ir50"], key="small-adaface", architecture="ir-18", width=16, filename="a.ckpt")
    monkeypatch.setitem(pretrained.EMBEDDERS, spec.key, spec)
    state = numbers(spec)
    content = as_published(spec, state) | {"pytorch-lightning_version": "1.4.4", "global_step": 166804}
    digest = write(tmp_path / spec.filename, content)
    embedder = load_embedder(spec.key, folder=tmp_path)
    assert (embedder.sha256, embedder.side) == (digest, 112)
    torch.save(content | {"callbacks": {Path: {}}}, tmp_path / "with objects.ckpt")
    with pytest.raises(WeightsError, match=r"save model\.state_dict\(\)"):
        load_embedder(f"{spec.key}:with objects.ckpt", folder=tmp_path)
    torch.save(content["state_dict"], tmp_path / "saved again.pt")
    again = load_embedder(f"{spec.key}:saved again.pt", folder=tmp_path)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in embedder.state_dict().items())
    with torch.no_grad():
        wanted = F.normalize(by_hand(state, (faces()[:, [2, 1, 0]] - 0.5) / 0.5), dim=1)
        torch.testing.assert_close(embedder(faces()), wanted, rtol=1e-4, atol=1e-5)


def test_a_copy_of_the_tensors_alone_is_read_too(small: EmbedderSpec, tmp_path: Path):
    state = numbers(small)
    save_file(state, tmp_path / "copy.safetensors")
    loaded = load_embedder(f"{small.key}:copy.safetensors", folder=tmp_path).net.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)


@pytest.mark.parametrize("place", ["named", "hub/checkpoints", "checkpoints", "path", "key and path"])
def test_files_are_found_where_they_are_looked_for(
    small: EmbedderSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
):
    folder = tmp_path / ("torch/" + place if "checkpoints" in place else "elsewhere")
    folder.mkdir(parents=True)
    path = folder / ("mine.pth" if place == "key and path" else small.filename)
    write(path, as_published(small, numbers(small)))
    if place == "named":
        monkeypatch.setenv("COUNTERMOVE_WEIGHTS", str(folder))
    name = {"path": str(path), "key and path": f"{small.key}:{path}"}.get(place, small.key)
    assert load_embedder(name).side == 112


def test_an_absent_file_is_described(tmp_path: Path):
    with pytest.raises(WeightsError) as caught:
        load_embedder("facenet-vggface2")
    for said in (
        "20180402-114759-vggface2.pt",
        "https://github.com/timesler/",
        "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
        str(tmp_path / "torch" / "hub" / "checkpoints"),
        "COUNTERMOVE_WEIGHTS",
        "allow the download",
    ):
        assert said in str(caught.value)
    with pytest.raises(WeightsError, match=r"SHA-256: not known.*non-commercial.*a person must fetch it"):
        load_embedder("arcface-r50", download=True)
    with pytest.raises(WeightsError, match="there are no weights at"):
        load_embedder("arcface-r50:nowhere.pth", folder=tmp_path)
    with pytest.raises(WeightsError, match="there are no weights at"):
        load_embedder("magface-r100:nowhere.pth", folder=tmp_path)


def test_a_download_goes_to_the_cache_and_its_hash_is_checked(
    small: EmbedderSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    digest = write(tmp_path / "there.pth", as_published(small, numbers(small)))
    spec = replace(small, direct=True, url=(tmp_path / "there.pth").as_uri(), sha256=digest)
    monkeypatch.setitem(pretrained.EMBEDDERS, small.key, spec)
    assert load_embedder(small.key, download=True).verified
    assert (tmp_path / "torch" / "hub" / "checkpoints" / small.filename).is_file()
    monkeypatch.setitem(pretrained.EMBEDDERS, small.key, replace(spec, filename="n.pth"))
    with pytest.raises(WeightsError, match="cannot be fetched"):
        load_embedder(small.key, download=True, sha256="0" * 64)
    assert not (tmp_path / "torch" / "hub" / "checkpoints" / "n.pth").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.weight": None}, r"missing: conv1\.weight\."),
        ({"conv1.weight": None, "conv0.weight": torch.zeros(64, 3, 3, 3)}, r"missing: conv1.*unexpected: conv0"),
        ({"more": torch.zeros(1)}, "unexpected: more"),
        ({"logits.weight": torch.zeros(1)}, r"unexpected: logits\.weight"),
        ({"fc.bias": torch.zeros(3)}, r"wrong shape: fc\.bias is \[3\], not \[16\]"),
        ({"bn1.num_batches_tracked": None}, r"missing: bn1\.num_batches_tracked"),
    ],
)
def test_files_of_another_network_are_refused(
    small: EmbedderSpec, tmp_path: Path, change: dict[str, Tensor | None], message: str
):
    state = {name: tensor for name, tensor in (numbers(small) | change).items() if tensor is not None}
    write(tmp_path / small.filename, as_published(small, state))
    with pytest.raises(WeightsError, match=message):
        load_embedder(small.key, folder=tmp_path)


def test_a_name_without_the_prefix_among_names_with_it_is_refused(small: EmbedderSpec, tmp_path: Path):
    content = as_published(small, numbers(small))
    content["state_dict"]["conv1.weight"] = content["state_dict"].pop("features.module.conv1.weight")
    write(tmp_path / small.filename, content)
    with pytest.raises(WeightsError, match="unexpected: "):
        load_embedder(small.key, folder=tmp_path)


def test_wrong_hashes_and_wrong_containers_are_refused(small: EmbedderSpec, tmp_path: Path):
    path = tmp_path / small.filename
    write(path, as_published(small, numbers(small)))
    with pytest.raises(WeightsError, match=r"has SHA-256 .*, but .* is 0000"):
        load_embedder(small.key, folder=tmp_path, sha256="0" * 64)
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        load_embedder(small.key, folder=tmp_path, sha256="abc")
    for content in ({"weights": numbers(small)}, {"state_dict": {"epoch": 3}}, [1, 2]):
        write(path, content)
        with pytest.raises(WeightsError, match='no tensors under "state_dict"'):
            load_embedder(small.key, folder=tmp_path)
    path.write_bytes(b"not a file of weights")
    with pytest.raises(WeightsError, match=r"m\.pth"):
        load_embedder(small.key, folder=tmp_path)


def test_a_file_that_could_run_code_is_not_opened(small: EmbedderSpec, tmp_path: Path):
    class RunsCode:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "ran"),))

    (tmp_path / small.filename).write_bytes(pickle.dumps({"state_dict": RunsCode()}))
    with pytest.raises(WeightsError, match="could run code"):
        load_embedder(small.key, folder=tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arcface-r10", "did you mean 'arcface-r100'"),
        ("somewhere/backbone.pth", r"does not say which network.*KEY:somewhere/backbone\.pth.*arcface-r50"),
        ("clip-b32:file.safetensors", "come from its hub"),
    ],
)
def test_names_that_cannot_be_read_are_refused(name: str, message: str):
    with pytest.raises(ConfigError, match=message):
        load_embedder(name)


@pytest.mark.parametrize(("name", "verified"), [("open_clip:ViT-B-32/openai", False), ("clip-b32", True)])
def test_open_clip_goes_through_nets_load(monkeypatch: pytest.MonkeyPatch, name: str, verified: bool):
    class Tower(nn.Module):
        image_size = (32, 32)

        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[2:] == (32, 32)
            return x.mean((2, 3))

    asked = []

    def load(spec: str, **_: Any) -> nn.Module:
        asked.append(spec)
        net = nn.Sequential()
        net.add_module("net", Tower())
        return net

    monkeypatch.setattr(pretrained, "load", load)
    digest = "a" * 64 if verified else None
    embedder = load_embedder(name, sha256=digest)
    assert asked == ["open_clip:ViT-B-32/openai" + (f"(sha256={digest})" if digest else "")]
    assert (embedder.side, embedder.verified, embedder.sha256) == (32, verified, digest or "")
    assert embedder(faces()).shape == (2, 3)


# --- the embedder ----------------------------------------------------------------------------------------------------


class Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.norm = nn.BatchNorm1d(3, eps=0)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2:] == (8, 8)
        return self.norm(x.mean((2, 3)) * self.scale)


def test_an_embedder_normalises_reorders_and_resizes_for_itself():
    flat = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1).expand(2, 3, 20, 20)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
    for order, seen in (("rgb", [0.2, 0.5, 0.9]), ("bgr", [0.9, 0.5, 0.2])):
        embedder = PublicEmbedder(Mean(), side=8, channel_order=order, mean=mean, std=std)  # pyright: ignore[reportArgumentType]
        wanted = (torch.tensor(seen) - torch.tensor(mean)) / torch.tensor(std)
        torch.testing.assert_close(embedder(flat), F.normalize(wanted, dim=0).expand(2, 3))


def test_an_embedder_is_frozen_but_lets_gradients_through_to_pictures():
    embedder = PublicEmbedder(Mean(), side=8)
    assert embedder.train() is embedder
    assert not any(module.training for module in embedder.modules())
    assert not any(p.requires_grad for p in embedder.parameters())
    pictures = faces(side=12).requires_grad_()
    embedder(pictures)[:, 0].sum().backward()
    assert pictures.grad is not None
    assert pictures.grad.abs().sum() > 0
    with torch.no_grad():
        one = torch.cat([embedder(picture[None]) for picture in pictures])
        torch.testing.assert_close(embedder(pictures), one)


@pytest.mark.parametrize("wrong", [torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8).byte()])
def test_an_embedder_refuses_what_are_no_pictures(wrong: Tensor):
    with pytest.raises(DataError, match="float RGB photos"):
        PublicEmbedder(Mean(), side=8)(wrong)


# --- in an audit ------------------------------------------------------------------------------------------------------


def test_a_public_network_can_be_a_recognisers_extractor_and_be_fine_tuned(small: EmbedderSpec, tmp_path: Path):
    sha256 = write(tmp_path / "weights.pth", as_published(small, numbers(small)))
    weights = f"public(sha256={sha256}, weights='{small.key}:{tmp_path / 'weights.pth'}')"
    table = {
        "arena": "faces",
        "data": "planted-faces(movers=2, people=4, photos=3)",
        "moves": "random-noise",
        "countermoves": "adaptive(epochs=1, lr=1e-6, photos=1)",
        "models": f'nearest(extractor="{weights}")',
        "engine": {"threads": 1},
    }
    grid = resolve(make_config(table))
    played = load_results(play(grid, tmp_path / "run").run)
    assert [row.record.get("error") for row in played.rows if not row.ok] == []
    for task in grid.artifacts:
        stored = list((tmp_path / "run" / "artifacts" / task.key).glob("weights.safetensors"))
        assert bool(stored) == (task.kind == "adapted"), "the user's own file is not copied into the run"
    again = resolve(make_config(table))
    assert {cell.key for cell in again.cells} == {cell.key for cell in grid.cells}
    write(tmp_path / "weights.pth", as_published(small, numbers(small) | {"bn1.bias": torch.ones(64)}))
    with pytest.raises(WeightsError, match="SHA-256"):
        resolve(make_config(table))
