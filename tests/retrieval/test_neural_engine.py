"""Backbones, their pooling, weights from elsewhere, whitening, and the engine on top."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.retrieval.made_scenes import TINY, scenes, taken, trained, view
from torch import Tensor, nn
from torchvision import models

from countermove.errors import ConfigError, DataError, WeightsError
from countermove.learning.adversary import FeatureAdversary
from countermove.nets.load import save_weights
from countermove.nets.registry import build_network
from countermove.pixels.randomness import generator
from countermove.retrieval import backbone as rooms
from countermove.retrieval.backbone import PRESETS, Describer, GeM, describe, identity, read_backbone
from countermove.retrieval.backbones.small import Small
from countermove.retrieval.backbones.trunks import Pooled, Vectors
from countermove.retrieval.indexes.neural import Neural, NeuralEngine, Sight
from countermove.retrieval.whitening import RIDGE, Whitening, learned_whitening, pca_whitening


def floats(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=generator(seed, "floats"))


# pooling


@pytest.mark.parametrize("p", [1.0, 3.0, 50.0])
def test_gem_is_the_mean_of_powers(p: float) -> None:
    given = (floats(2, 4, 3, 5) - 0.2).double()
    slow = torch.zeros(2, 4, dtype=torch.float64)
    for n, c in np.ndindex(2, 4):
        slow[n, c] = sum(max(float(x), 1e-6) ** p for x in given[n, c].flatten()) / 15
    assert torch.allclose(GeM(p)(given), slow ** (1 / p), rtol=1e-6)


def test_gem_between_average_and_maximum_has_gradients() -> None:
    given = floats(1, 2, 3, 3).double() + 0.1
    assert torch.allclose(GeM(1.0)(given), given.mean((2, 3)))
    assert torch.allclose(GeM(300.0)(given), given.amax((2, 3)), rtol=0.02)
    pool = GeM(2.5).double()
    assert torch.autograd.gradcheck(pool, (given.requires_grad_(),))
    pool(given).sum().backward()
    assert pool.p.grad is not None
    assert list(GeM(4.0, learned=False).parameters()) == []


# reading backbones


def test_presets_are_spelled_by_their_names() -> None:
    for name, spelled in PRESETS.items():
        assert read_backbone(name, "x")[0] == name
        assert read_backbone(spelled, "x") == read_backbone(name, "x")
    assert len({identity(name)["spelling"] for name in PRESETS}) == len(PRESETS)
    assert identity("plain") != identity("robust")


@pytest.mark.parametrize(
    ("spelled", "told"),
    [
        ("plane", "plain"),
        ("small+small", "one backbone"),
        ("small(epochs=0)", "epochs"),
        ("small(network=small-cmm)", "small-cnn"),
        ("small(augment=weak)", "augment"),
        ("small(adversary=8)", "adversary"),
        ("small(p=0.5)", "p"),
        ("small(side=4)", "8 pixels"),
        ("public", "weights"),
        ("public(weights=x, p=0)", "p = 0"),
    ],
)
def test_bad_backbones_are_refused(spelled: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_backbone(spelled, "engine neural")


NETWORKS = ["small-cnn(width=0.25)", "small-pooled(width=0.25)", "small-residual(width=0.25)", "resnet-18", "vgg-11"]
NETWORKS += ["densenet-121(growth=4)", "mobilenet-v2"]


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_of_ours_with_a_feature_map_is_pooled_at_any_size(network: str) -> None:
    found = Small(network=network, side=32).blank(scenes(), seed=0).train()
    assert isinstance(found, Pooled)  # in training, as an untrained deep network fades to nothing in evaluation
    for shape in ((32, 32), (40, 56)):
        pictures = floats(2, 3, *shape).requires_grad_()
        descriptors = found(pictures)
        assert descriptors.shape == (2, found.dim)
        assert torch.allclose(descriptors.norm(dim=1), torch.ones(2), atol=1e-5)
        (gradient,) = torch.autograd.grad(descriptors.square().sum() + descriptors[:, 0].sum(), pictures)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


def test_a_network_without_a_feature_map_gives_its_penultimate_features() -> None:
    found = Small(network="vit-small", side=24).blank(scenes(), seed=0).eval()
    assert isinstance(found, Vectors)
    assert found(floats(2, 3, 40, 30)).shape == (2, found.dim) == (2, 192)


# training


def test_a_trained_backbone_finds_what_an_untrained_one_does_not() -> None:
    positive = torch.block_diag(*[torch.ones(1, 4)] * 8).bool()
    share = []
    for network in (trained(), read_backbone(f"small({TINY})", "x")[1].blank(scenes(), seed=0)):
        scores = describe(network, taken(scenes().queries)) @ describe(network, taken(scenes().indexed)).T
        share.append(float(positive.gather(1, scores.topk(4).indices).float().mean()))
    assert share[0] > 0.7
    assert share[0] > share[1]


def test_the_same_seed_gives_the_same_backbone_another_build_another() -> None:
    quick = "epochs=1, network='small-cnn(width=0.25)'"
    found = []
    for spelled in (
        f"small({quick})",
        f"small({quick})",
        f"small(build=1, {quick})",
        f"small(adversary=4/255, {quick})",
    ):
        method = read_backbone(spelled, "x")[1]
        network, log = method.fit(scenes(), seed=0, device="cpu", checkpoint=None)
        assert not network.training
        found.append(rooms.digest_of(network.state_dict()))
        assert log.samples == 80 * (5 if "adversary" in spelled else 1)
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_public_pictures_of_several_sizes_are_brought_to_one() -> None:
    pictures = [view(0, 0, 24 + 4 * (k % 3)) for k in range(12)]
    some = dataclasses.replace(
        scenes(),
        pictures=[*pictures, *taken(scenes().indexed)],
        ids=tuple(f"p{k}" for k in range(44)),
        indexed=torch.arange(12, 44),
        queries=torch.arange(12, 20),
        wanted={"": tuple(dataclasses.replace(w, positive=torch.tensor([13])) for w in scenes().wanted[""])},
        public=torch.arange(12),
        public_labels=torch.arange(12) % 3,
    )
    network, _ = Small(epochs=1, network="small-cnn(width=0.25)").fit(some, seed=0)
    assert describe(network, pictures).shape == (12, 32)
    with pytest.raises(DataError, match="a backbone needs 2"):
        Small(epochs=1).fit(dataclasses.replace(some, public_labels=torch.zeros(12, dtype=torch.int64)), seed=0)


def test_adversarial_training_withstands_more() -> None:
    adversary = FeatureAdversary(part="describer", eps=8 / 255, steps=6)
    apart = []
    for spelled in (f"small({TINY})", f"small(adversary=8/255, {TINY})"):
        network = read_backbone(spelled, "x")[1].fit(scenes(), seed=0, device="cpu", checkpoint=None)[0]
        from countermove.retrieval.backbones.small import Named, fresh_directions

        named = Named(network, fresh_directions(network, 8, 16.0, seed=0)).eval()
        clean = torch.stack(taken(scenes().queries)).float() / 255
        moved, _ = adversary(named, clean, torch.zeros(8), generator=generator(0, "start"), progress=0.0)
        with torch.no_grad():
            apart.append(float((network(moved) - network(clean)).norm(dim=1).mean()))
    assert apart[1] < 0.8 * apart[0]


# weights from elsewhere


MEAN, STD = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
Whole = tuple[nn.Module, dict[str, Any]]


def gem_file(path: Path, architecture: str = "resnet18", *, legacy: bool = True, **meta: Any) -> Whole:
    """Write a file as the public networks are: a trunk in a row, p, and a whitening in numpy arrays."""
    torch.manual_seed(0)
    network = models.get_model(architecture, weights=None)
    if architecture == "resnet18":
        trunk = nn.Sequential(*list(network.children())[:-2])
    else:
        trunk = nn.Sequential(*list(network.get_submodule("features").children())[:-1])
    state = {f"features.{name}": tensor for name, tensor in trunk.state_dict().items()}
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    source = np.random.default_rng(0)
    white = {name: {"m": source.random((512, 1)), "P": source.random((512, 512)) - 0.5} for name in ("ss", "ms")}
    facts = {"architecture": architecture, "pooling": "gem", "local_whitening": False, "regional": False}
    facts |= {"whitening": False, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "outputdim": 512}
    facts |= {"Lw": {"retrieval-SfM-120k": white}, **meta}
    whole = {"meta": facts, "state_dict": {**old, "pool.p": torch.tensor([2.6])}}
    if facts["whitening"]:
        whole["state_dict"] |= {"whiten.weight": torch.randn(16, 512), "whiten.bias": torch.randn(16)}
    torch.save(whole, path, _use_new_zipfile_serialization=not legacy)
    return trunk.eval(), whole


@pytest.fixture(autouse=True)
def same_global_state() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    torch.set_rng_state(before)


@pytest.mark.parametrize("core", ["_core", "core"])
@pytest.mark.parametrize("legacy", [True, False])
def test_a_published_gem_file_is_read_with_its_pooling_and_whitening(tmp_path: Path, legacy: bool, core: str) -> None:
    path = tmp_path / "resnet18-gem.pth"
    trunk, whole = gem_file(path, legacy=legacy)
    if legacy and core == "core":  # as numpy below 2 wrote it
        path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    found, _ = read_backbone(f"public(weights='{path}')", "x")[1].fit(scenes(), seed=0, device="cpu", checkpoint=None)
    pictures = floats(2, 3, 70, 50)
    with torch.no_grad():
        seen = trunk((pictures - MEAN) / STD)
        expected = F.normalize(seen.clamp(min=1e-6).pow(2.6).mean((2, 3)).pow(1 / 2.6))
        assert torch.allclose(found(pictures), expected, atol=1e-5)
    assert found.dim == 512
    assert float(found.exponent) == pytest.approx(2.6)
    stored = whole["meta"]["Lw"]["retrieval-SfM-120k"]["ms"]
    engine = Neural(backbone=f"public(weights='{path}')", scales=(1.0, 0.5), whitening="checkpoint", dims=7)
    sight = engine.on(found, scenes()).network
    with torch.no_grad():
        halved = found(F.interpolate(pictures, (35, 25), mode="bilinear", antialias=True))
        joined = F.normalize(((expected**2.6 + halved.clamp(min=1e-6) ** 2.6) / 2) ** (1 / 2.6))
        white = (joined.double().numpy() - stored["m"].T) @ stored["P"][:7].T
        white /= np.linalg.norm(white, axis=1, keepdims=True)
        assert np.allclose(sight(pictures).numpy(), white, atol=1e-4)


def test_a_published_file_with_a_linear_layer_is_projected(tmp_path: Path) -> None:
    path = tmp_path / "vgg11-gem-w.pth"
    trunk, whole = gem_file(path, "vgg11", whitening=True, Lw={})
    found = read_backbone(f"public(weights='{path}')", "x")[1].blank(scenes(), seed=0)
    pictures = floats(1, 3, 64, 64)
    with torch.no_grad():
        seen = trunk((pictures - MEAN) / STD)
        pooled = F.normalize(seen.clamp(min=1e-6).pow(2.6).mean((2, 3)).pow(1 / 2.6))
        expected = F.normalize(pooled @ whole["state_dict"]["whiten.weight"].T + whole["state_dict"]["whiten.bias"])
        assert torch.allclose(found(pictures), expected, atol=1e-5)
    with pytest.raises(DataError, match="no whitening"):
        Neural(backbone=f"public(weights='{path}')", whitening="checkpoint").fit(scenes(), seed=0)


class Harm:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harmed"),))


def test_a_file_that_could_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"meta": {"architecture": "resnet18", "Lw": Harm()}, "state_dict": {}}, "a.pth")
    Path("b.pth").write_bytes(pickle.dumps({"meta": Harm()}))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(WeightsError, match=r"not opened|not a whole"):
            read_backbone(f"public(weights={name})", "x")[1].blank(scenes(), seed=0)
    assert not Path("harmed").exists()


@pytest.mark.parametrize(
    ("meta", "told"),
    [
        ({"architecture": "resnet19"}, "resnet19"),
        ({"architecture": "googlenet"}, "googlenet"),
        ({"pooling": "rmac"}, "rmac"),
        ({"regional": True}, "regional"),
        ({"Lw": {"x": {"ss": {}}}}, "ss"),
        ({"Lw": {"x": {"ss": {"m": np.zeros(3), "P": np.zeros((3, 3))}, "ms": {}}}}, "512"),
        ({"architecture": "resnet34"}, "missing"),
    ],
)
def test_other_published_files_are_refused(tmp_path: Path, meta: dict[str, Any], told: str) -> None:
    _, whole = gem_file(tmp_path / "x.pth")
    whole["meta"] |= meta
    torch.save(whole, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=told):
        read_backbone(f"public(weights='{tmp_path}/x.pth')", "x")[1].blank(scenes(), seed=0)


def test_absent_and_wrong_files_of_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with pytest.raises(WeightsError, match="no weights"):
        read_backbone(f"public(weights='{path}')", "x")[1].blank(scenes(), seed=0)
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(WeightsError, match="GeM"):
        read_backbone(f"public(weights='{path}')", "x")[1].blank(scenes(), seed=0)
    _, _ = gem_file(path)
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_backbone(f"public(sha256={right}, weights='{path}')", "x")[1].blank(scenes(), seed=0).dim == 512
    with pytest.raises(WeightsError, match="SHA-256"):
        read_backbone(f"public(sha256={'f' * 64}, weights='{path}')", "x")[1].blank(scenes(), seed=0)
    with pytest.raises(ConfigError, match="neither"):
        read_backbone("public(weights=resnet101)", "x")[1].blank(scenes(), seed=0)


@pytest.mark.parametrize(("network", "dim", "kind"), [("small-cnn", 128, Pooled), ("vit-small", 192, Vectors)])
def test_a_checkpoint_of_ours_is_read(tmp_path: Path, network: str, dim: int, kind: type) -> None:
    path = tmp_path / "own.safetensors"
    save_weights(build_network(network, 5, 32, generator(0, "own")), path)
    spelled = f"public(side=32, weights='checkpoint:{path}(model={network}, classes=5, side=32)')"
    method = read_backbone(spelled, "x")[1]
    found = method.blank(scenes(), seed=0)
    assert isinstance(found, kind)
    assert found(floats(2, 3, 40, 40)).shape == (2, dim)
    assert len(identity(spelled)["content"]) == 64


# whitening


def test_learned_whitening_is_that_of_all_pairs_one_by_one() -> None:
    descriptors, labels = F.normalize(floats(20, 6)), torch.arange(20) % 4
    found = learned_whitening(descriptors, labels)
    x = descriptors.double().numpy()
    differences = [x[i] - x[j] for i, j in combinations(range(20), 2) if labels[i] == labels[j]]
    covariance = sum(np.outer(d, d) for d in differences) / len(differences)
    covariance += RIDGE * np.trace(covariance) / 6 * np.eye(6)
    first = np.linalg.inv(np.linalg.cholesky(covariance))
    y = (x - x.mean(0)) @ first.T
    values, directions = np.linalg.eigh(y.T @ y)
    slow = directions[:, np.argsort(-values)].T @ first
    assert np.allclose(np.abs(found.projection.numpy()), np.abs(slow), rtol=1e-3, atol=1e-3)
    # the whole, whatever the signs of directions: cosines between whitened descriptors
    ours = found(descriptors).numpy()
    theirs = (x - x.mean(0)) @ slow.T
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert np.allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-4)


def test_pca_whitening_makes_variances_one() -> None:
    descriptors = F.normalize(floats(200, 5))
    found = pca_whitening(descriptors)
    projected = (descriptors - found.mean) @ found.projection.T
    assert torch.allclose(projected.T @ projected / 200, torch.eye(5), atol=0.05)
    with pytest.raises(DataError, match="two"):
        pca_whitening(descriptors[:1])
    with pytest.raises(DataError, match="at least two"):
        learned_whitening(descriptors[:3], torch.arange(3))
    with pytest.raises(DataError, match="dims"):
        found.first(6)


# the engine


@pytest.fixture
def engine() -> NeuralEngine:
    return Neural(backbone=f"small({TINY})").on(trained(), scenes())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"scales": ()}, "scales"),
        ({"scales": (0.0,)}, "scales"),
        ({"dims": 3}, "whitening"),
        ({"longest": 4}, "longest"),
        ({"backbone": "plane"}, "plain"),
    ],
)
def test_bad_settings_of_the_engine_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Neural(**settings)


def test_scores_are_cosines_of_descriptors_alone(engine: NeuralEngine) -> None:
    pictures = [view(0, 0), view(1, 0, 30), view(0, 1), view(2, 0)[:, :, :15]]
    index = engine.build(pictures)
    scores = index.scores([view(0, 4), view(1, 1, 40)])
    assert scores.shape == (2, 4)
    for row, query in enumerate((view(0, 4), view(1, 1, 40))):
        for column, picture in enumerate(pictures):
            with torch.no_grad():
                a, b = (trained()(one[None].float() / 255)[0] for one in (query, picture))
            assert float(scores[row, column]) == pytest.approx(float(a @ b), abs=1e-5)
    values, rows = index.search([view(0, 0)], 9)
    assert rows.shape == (1, 4)
    assert int(rows[0, 0]) == 0
    assert float(values[0, 0]) == pytest.approx(1, abs=1e-5)


def test_several_scales_are_joined_with_the_exponent_of_the_pooling() -> None:
    sight = Sight(trained(), (1.0, 0.5), 0)
    pictures = floats(2, 3, 24, 24)
    p = float(trained().exponent)
    with torch.no_grad():
        parts = [trained()(pictures), trained()(F.interpolate(pictures, (12, 12), mode="bilinear", antialias=True))]
        expected = F.normalize(sum(part.clamp(min=1e-6) ** p for part in parts).div(2) ** (1 / p))  # pyright: ignore
        assert torch.allclose(sight(pictures), expected, atol=1e-5)
    leaf = pictures.clone().requires_grad_()
    sight(leaf)[:, 0].sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


def test_larger_pictures_are_shrunk_to_the_longest_side() -> None:
    sight = Sight(trained(), (1.0,), 24)
    with torch.no_grad():
        shrunk = F.interpolate(floats(1, 3, 48, 32), (24, 16), mode="bilinear", antialias=True)
        assert torch.allclose(sight(floats(1, 3, 48, 32)), trained()(shrunk), atol=1e-6)
        assert torch.equal(sight(floats(1, 3, 20, 16)), trained()(floats(1, 3, 20, 16)))
        assert sight(floats(1, 3, 8, 300)).shape == (1, trained().dim)


@pytest.mark.parametrize("whitening", ["pca", "learned"])
def test_whitening_is_learned_on_the_public_and_spreads_what_is_searched(whitening: Any) -> None:
    engine = Neural(backbone=f"small({TINY})", whitening=whitening, dims=8).on(trained(), scenes())
    found = engine.describe(taken(scenes().indexed))
    assert found.shape == (32, 8)
    assert torch.allclose(found.norm(dim=1), torch.ones(32), atol=1e-5)
    plain = Neural(backbone=f"small({TINY})").on(trained(), scenes()).describe(taken(scenes().indexed))
    assert (found @ found.T).mean() < 0.5 * (plain @ plain.T).mean()


def test_an_index_grows_shrinks_and_comes_back_from_disk(engine: NeuralEngine, tmp_path: Path) -> None:
    pictures = taken(scenes().indexed)
    index, whole = engine.build(pictures[:10]), engine.build(pictures)
    index.add(pictures[10:])
    assert torch.allclose(index.descriptors, whole.descriptors, atol=1e-6)
    index.remove([0, 31])
    assert torch.allclose(index.descriptors, whole.descriptors[1:31], atol=1e-6)
    with pytest.raises(DataError, match="row 30"):
        index.remove([30])
    index.save(tmp_path / "index")
    again = engine.load(tmp_path / "index")
    query = taken(scenes().queries)
    assert torch.equal(again.scores(query), index.scores(query))
    assert len(again) == 30
    assert {path.suffix for path in (tmp_path / "index").iterdir()} == {".json", ".safetensors"}


def test_an_index_of_other_weights_or_settings_is_refused(engine: NeuralEngine, tmp_path: Path) -> None:
    engine.build(taken(scenes().indexed)).save(tmp_path)
    json.dumps(engine.fingerprint())
    same = Neural(backbone=f"small({TINY})")
    others = {
        "weights": same.on(trained(1), scenes()),
        "scales": dataclasses.replace(same, scales=(1.0, 0.5)).on(trained(), scenes()),
        "longest": dataclasses.replace(same, longest=20).on(trained(), scenes()),
        "whitening": dataclasses.replace(same, whitening="pca").on(trained(), scenes()),
        "backbone": dataclasses.replace(same, backbone="plain").on(trained(), scenes()),
    }
    for name, other in others.items():
        with pytest.raises(DataError, match=f"built otherwise: .*{name}"):
            other.load(tmp_path)
    same.on(trained(), scenes()).load(tmp_path)


def test_bad_pictures_are_refused_by_the_engine(engine: NeuralEngine) -> None:
    with pytest.raises(DataError, match="no picture"):
        engine.build([])
    with pytest.raises(DataError, match="uint8"):
        engine.build([floats(3, 24, 24)])
    one = engine.build([view(0, 0)])
    assert one.scores([view(0, 0).float().mean(0, keepdim=True).byte().expand(3, -1, -1)]).shape == (1, 1)
    assert one.scores([view(0, 0)[:, :8, :8], view(0, 0, 8).repeat(1, 1, 30)]).isfinite().all()


def test_searching_with_faiss_finds_the_same_or_says_what_is_missing(engine: NeuralEngine) -> None:
    pictures, queries = taken(scenes().indexed), taken(scenes().queries)
    fast = dataclasses.replace(engine.settings, search="faiss").on(trained(), scenes()).build(pictures)
    try:
        import faiss  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        with pytest.raises(DataError, match=r"countermove\[retrieval\]"):
            fast.search(queries, 5)
    else:
        assert torch.equal(fast.search(queries, 5)[1], engine.build(pictures).search(queries, 5)[1])


def test_looking_through_an_engine_leaves_the_network_as_it_was(engine: NeuralEngine) -> None:
    network: Describer = trained()
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    engine.describe(taken(scenes().queries))
    assert network.training
    network.eval()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_whitening_keeps_its_first_directions() -> None:
    white = Whitening(torch.zeros(3), torch.eye(3))
    assert white.first(0).projection.shape == (3, 3)
    assert white.first(2).projection.shape == (2, 3)
