"""Every extractor keeps the same rules; then what each of them must do by itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.profiles.tiny_profiles import RATE, tiny
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError, WeightsError
from countermove.nets.load import load_weights, save_weights
from countermove.nets.registry import build_network
from countermove.pixels.randomness import generator
from countermove.profiles.dataset import MEDIA, Medium, Profiles, as_float
from countermove.profiles.extractor import EXTRACTORS, Extractor, ItemNetwork, extract, read_extractor
from countermove.profiles.extractors.mel import LogMels, filter_bank
from countermove.profiles.extractors.parts import Standard, without_head

SMALL_NET = "small-cnn(width=0.25)"


@dataclass(frozen=True)
class Row:
    """One extractor with small settings; FILE stands for a file or folder of weights that is made for it."""

    spelling: str
    medium: Medium

    @property
    def name(self) -> str:
        return self.spelling.partition("(")[0]


ROWS = [
    Row(f"small(epochs=2, network='{SMALL_NET}')", "picture"),
    Row("small(epochs=1, network='small-pooled(width=0.25)')", "picture"),
    Row(f"learned(dim=8, network='{SMALL_NET}')", "picture"),
    Row("learned(dim=8, bands=12)", "speech"),
    Row(
        f"public(weights='checkpoint:FILE(classes=5, model={SMALL_NET.partition('(')[0]}, side=16, width=0.25)')",
        "picture",
    ),
    Row("log-mel(bands=12)", "speech"),
    Row("log-mel(bands=12, deltas=false, lags=0)", "speech"),
    Row("x-vector(bands=12, dim=8, epochs=2, width=8)", "speech"),
    Row("speech(weights=FILE)", "speech"),
    Row("table", "table"),
]


@pytest.fixture(autouse=True, scope="module")
def own_memory_of_hashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COUNTERMOVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@cache
def data(medium: Medium) -> Profiles:
    return tiny(medium)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_weights(build_network(SMALL_NET, 5, 16, generator(3, "checkpoint")), path)
    return path


def tiny_speech(folder: Path, kind: str = "wav2vec2") -> Path:
    """Write a network of random weights as transformers does: the code that reads it is the real one."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = {"wav2vec2": transformers.Wav2Vec2Config, "wavlm": transformers.WavLMConfig}[kind](
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16, 16, 16),
        conv_kernel=(10, 8, 4),
        conv_stride=(5, 4, 2),
        num_feat_extract_layers=3,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        vocab_size=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    preset = {"sampling_rate": 16000, "do_normalize": True, "feature_size": 1}
    (folder / "preprocessor_config.json").write_text(json.dumps(preset))
    return folder


@pytest.fixture(scope="module")
def speech_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_speech(tmp_path_factory.mktemp("speech"))


@pytest.fixture(params=ROWS, ids=lambda row: row.spelling)
def row(request: pytest.FixtureRequest) -> Row:
    return request.param


@pytest.fixture
def extractor(row: Row, request: pytest.FixtureRequest) -> Extractor:
    spelled = row.spelling
    if row.name == "public":
        spelled = spelled.replace("FILE", str(request.getfixturevalue("checkpoint")))
    if row.name == "speech":
        spelled = spelled.replace("FILE", f"'{request.getfixturevalue('speech_folder')}'")
    return read_extractor(spelled, "test")[1]


_FITTED: dict[Extractor, ItemNetwork] = {}


@pytest.fixture
def fitted(extractor: Extractor, row: Row) -> ItemNetwork:
    if extractor not in _FITTED:
        _FITTED[extractor] = extractor.fit(data(row.medium), seed=0, device="cpu")[0]
    return _FITTED[extractor]


def everything(network: nn.Module) -> list[object]:
    tensors = [*network.named_parameters(), *network.named_buffers()]
    found: list[object] = [(name, module.training) for name, module in network.named_modules()]
    return found + [(name, t.detach().flatten().tolist(), t.requires_grad, t.grad is None) for name, t in tensors]


# --- rules that all keep ---------------------------------------------------------------------------------------------


def test_every_extractor_has_a_row() -> None:
    assert {row.name for row in ROWS} == set(EXTRACTORS)


def test_features_have_one_shape_and_are_finite(fitted: ItemNetwork, row: Row) -> None:
    items = data(row.medium).items
    found = extract(fitted, items, row.medium)
    assert found.shape == (len(items), fitted.dim)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert not torch.allclose(found[0], found[3]), "different items have different features"


def test_an_item_does_not_depend_on_its_company(fitted: ItemNetwork, row: Row) -> None:
    items = data(row.medium).items[:5]
    together = extract(fitted, items, row.medium)
    alone = torch.cat([extract(fitted, item[None], row.medium) for item in items])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


def test_features_have_gradients_and_using_a_network_changes_nothing_of_it(fitted: ItemNetwork, row: Row) -> None:
    assert not any(module.training for module in fitted.modules())
    before = everything(fitted)
    extract(fitted, data(row.medium).items, row.medium)
    items = as_float(data(row.medium).items[:3], row.medium).requires_grad_()
    (gradient,) = torch.autograd.grad(fitted(items).square().sum(), items)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    assert everything(fitted) == before


def test_the_gradient_is_that_of_the_features(extractor: Extractor, row: Row) -> None:
    network = extractor.fit(data(row.medium), seed=0, device="cpu")[0].double()
    source = generator(1, "direction")
    items = as_float(data(row.medium).items[:2], row.medium).double().requires_grad_()
    along = torch.randn(items.shape, generator=source, dtype=torch.float64)
    weights = torch.randn(network.dim, generator=source, dtype=torch.float64)

    def value(at: Tensor) -> Tensor:
        return (network(at) @ weights).sum()

    (gradient,) = torch.autograd.grad(value(items), items)
    with torch.no_grad():
        step = 1e-6
        measured = (value(items + step * along) - value(items - step * along)) / (2 * step)
    torch.testing.assert_close((gradient * along).sum(), measured, rtol=1e-3, atol=1e-4)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_state(extractor: Extractor, row: Row) -> None:
    before = torch.get_rng_state()
    first, samples = extractor.fit(data(row.medium), seed=1, device="cpu")
    second, again = extractor.fit(data(row.medium), seed=1, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert samples == again
    mine, theirs = first.state_dict(), second.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    items = data(row.medium).items[:4]
    assert torch.equal(extract(first, items, row.medium), extract(second, items, row.medium))


def test_another_seed_or_build_gives_another_network_where_something_is_drawn(extractor: Extractor, row: Row) -> None:
    items = data(row.medium).items[:4]

    def found(method: Extractor, seed: int) -> Tensor:
        return extract(method.fit(data(row.medium), seed=seed, device="cpu")[0], items, row.medium)

    drawn = row.name in ("small", "learned", "x-vector")
    assert torch.equal(found(extractor, 0), found(extractor, 1)) != drawn
    if hasattr(extractor, "build"):
        assert not torch.equal(found(extractor, 0), found(replace(extractor, build=1), 0))  # pyright: ignore


def test_a_blank_network_takes_the_weights_up(
    fitted: ItemNetwork, extractor: Extractor, row: Row, tmp_path: Path
) -> None:
    items = data(row.medium).items[:4]
    blank = extractor.blank(data(row.medium), seed=5).eval()
    assert blank.dim == fitted.dim
    if extractor.stored or extractor.learned:
        save_weights(fitted, tmp_path / "weights.safetensors")
        load_weights(blank, tmp_path / "weights.safetensors")
    assert torch.equal(extract(blank, items, row.medium), extract(fitted, items, row.medium))


def test_another_medium_is_refused_by_name(extractor: Extractor, row: Row) -> None:
    assert row.medium in extractor.media
    for medium in set(MEDIA) - set(extractor.media):
        message = f"extractor '{row.name}' reads .*; tiny {medium} holds {medium}"
        with pytest.raises(ConfigError, match=message):
            extractor.blank(data(medium), seed=0)
        with pytest.raises(ConfigError, match=message):
            extractor.fit(data(medium), seed=0, device="cpu")


def test_what_is_said_of_weights_holds(extractor: Extractor, row: Row) -> None:
    network, samples = extractor.fit(data(row.medium), seed=0, device="cpu")
    trained = row.name in ("small", "x-vector")
    assert (samples > 0) == trained
    assert extractor.learned == (row.name == "learned")
    assert extractor.stored == (row.name in ("small", "x-vector", "log-mel", "table"))
    if row.name in ("public", "speech"):
        assert not any(p.requires_grad for p in network.parameters())
        assert not any(module.training for module in network.train().modules())


# --- trained here ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelled",
    [f"small(epochs=6, network='{SMALL_NET}')", "x-vector(bands=12, dim=8, epochs=60, width=8)", "log-mel(bands=12)"],
)
def test_features_tell_the_public_classes_apart_on_other_items(spelled: str) -> None:
    _, extractor = read_extractor(spelled, "test")
    profiles = data(extractor.media[0])
    network, _ = extractor.fit(profiles, seed=0, device="cpu")
    found = extract(network, profiles.items, profiles.medium)
    centres = torch.stack([found[profiles.public[profiles.public_labels == c]].mean(0) for c in (0, 1)])
    rows = torch.cat(profiles.bags)
    assert torch.equal(torch.cdist(found[rows], centres).argmin(1), profiles.labels.repeat_interleave(3))


@pytest.mark.parametrize(
    "spelled",
    [
        f"small(epochs=1, network='{SMALL_NET}')",
        "log-mel(bands=12)",
        "x-vector(bands=12, dim=8, epochs=2, width=8)",
        "table",
    ],
)
def test_features_are_standardised(spelled: str) -> None:
    _, extractor = read_extractor(spelled, "test")
    profiles = data(extractor.media[0])
    network, _ = extractor.fit(profiles, seed=0, device="cpu")
    rows = torch.cat([profiles.bags[p] for p in profiles.train.tolist()]) if spelled == "table" else profiles.public
    found = extract(network, profiles.items[rows], profiles.medium)
    torch.testing.assert_close(found.mean(0), torch.zeros(network.dim), rtol=0, atol=1e-3)
    deviation = found.std(0, correction=0)
    assert (deviation < 1.001).all()
    assert ((deviation - 1).abs() < 1e-3).any()


def test_what_never_changes_is_not_divided_and_what_hardly_does_not_by_much() -> None:
    values = torch.tensor([[3.0, 0.0, 0.0], [3.0, 0.001, 2.0]])
    plain, careful = Standard(3), Standard(3)
    plain.learn(values)
    careful.learn(values, least=0.5)
    torch.testing.assert_close(plain.deviation, torch.tensor([1.0, 0.0005, 1.0]))
    average = (0.0005 + 1) / 3 / 2
    torch.testing.assert_close(careful.deviation, torch.tensor([average, average, 1.0]))


@pytest.mark.parametrize("spelled", ["small", "x-vector(bands=12)"])
def test_a_public_that_shows_one_class_trains_nothing(spelled: str) -> None:
    _, extractor = read_extractor(spelled, "test")
    profiles = data(extractor.media[0])
    same = replace(profiles, public_labels=torch.zeros_like(profiles.public_labels))
    with pytest.raises(DataError, match="at least two classes"):
        extractor.fit(same, seed=0, device="cpu")


def test_public_labels_need_not_follow_on_one_another_and_unknown_ones_are_left_out() -> None:
    _, extractor = read_extractor(f"small(epochs=1, network='{SMALL_NET}')", "test")
    profiles = data("picture")
    gaps = profiles.public_labels * 5 + 2
    gaps[-4:] = -1
    fewer = replace(profiles, public=profiles.public[:-4], public_labels=profiles.public_labels[:-4])
    one, two = (extractor.fit(p, seed=0, device="cpu") for p in (replace(profiles, public_labels=gaps), fewer))
    assert one[1] == two[1] == 20
    assert torch.equal(*(extract(network, profiles.items, "picture") for network, _ in (one, two)))


def test_log_mel_without_a_public_is_standardised_by_training_profiles() -> None:
    _, extractor = read_extractor("log-mel(bands=12)", "test")
    none = torch.zeros(0, dtype=torch.int64)
    profiles = replace(data("speech"), public=none, public_labels=none)
    network, _ = extractor.fit(profiles, seed=0, device="cpu")
    rows = torch.cat([profiles.bags[p] for p in profiles.train.tolist()])
    torch.testing.assert_close(
        extract(network, profiles.items[rows], "speech").mean(0), torch.zeros(network.dim), rtol=0, atol=1e-3
    )


def test_a_network_without_a_linear_end_keeps_its_form() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Tanh())
    with pytest.raises(ConfigError, match="linear"):
        without_head(network, torch.zeros(1, 3, 2, 2))
    assert isinstance(network[1], nn.Linear)


# --- sound -----------------------------------------------------------------------------------------------------------


def slow_log_mels(clip: np.ndarray, bands: int, rate: int) -> np.ndarray:
    """A log-mel spectrogram by its definition: one sum for every frame, frequency and band."""
    length, hop = round(0.025 * rate), round(0.01 * rate)
    size = 1
    while size < 1.5 * length:
        size *= 2
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    centres = [
        700 * (10 ** (2595 * math.log10(1 + rate / 1400) * k / (bands + 1) / 2595) - 1) for k in range(bands + 2)
    ]
    frames = []
    for start in range(0, len(clip) - length + 1, hop):
        part = clip[start : start + length] * window
        power = [
            abs(np.sum(part * np.exp(-2j * np.pi * k * np.arange(length) / size))) ** 2 / np.sum(window**2)
            for k in range(size // 2 + 1)
        ]
        frame = []
        for low, middle, high in zip(centres, centres[1:], centres[2:], strict=False):
            total = 0.0
            for k, p in enumerate(power):
                hertz = k * rate / size
                if low < hertz <= middle:
                    total += p * (hertz - low) / (middle - low)
                elif middle < hertz < high:
                    total += p * (high - hertz) / (high - middle)
            frame.append(math.log(total + 1e-8))
        frames.append(frame)
    return np.array(frames).T


def test_the_spectrogram_is_its_definition() -> None:
    clips = as_float(data("speech").items[:2, :400], "speech").double()
    mels = LogMels(bands=12, rate=RATE)
    mels.hann, mels.filters = mels.hann.double(), mels.filters.double()
    found = mels(clips)
    assert found.shape == (2, 12, mels.frames(400))
    for clip, spectrogram in zip(clips, found, strict=True):
        np.testing.assert_allclose(spectrogram.numpy(), slow_log_mels(clip.numpy(), 12, RATE), rtol=1e-4, atol=1e-4)


def test_a_tone_is_loudest_in_the_band_around_it_and_white_noise_has_its_variance() -> None:
    mels = LogMels(bands=20, rate=16000)
    times = torch.arange(16000) / 16000
    for hertz in (300.0, 1000.0, 4000.0):
        band = int(mels(torch.sin(2 * torch.pi * hertz * times)[None]).mean(-1).argmax())
        edges = 700 * (10 ** (torch.linspace(0, 2595 * math.log10(1 + 8000 / 700), 22) / 2595) - 1)
        assert edges[band] < hertz < edges[band + 2]
    noise = 0.1 * torch.randn(1, 160000, generator=generator(0, "noise"))
    power = (mels(noise).exp() / mels.filters.sum(1)[:, None]).mean()
    torch.testing.assert_close(power, torch.tensor(0.01), rtol=0.05, atol=0)


def test_the_recurrence_is_its_definition_and_finds_a_pitch() -> None:
    mels = LogMels(bands=12, rate=RATE)
    mels.hann = mels.hann.double()
    clip = as_float(data("speech").items[:1, :300], "speech").double()
    lags = mels.lags(20)
    assert (int(lags[0]), int(lags[-1])) == (10, 50)
    found = mels.recurrence(mels.power(clip), lags)
    window = mels.hann.numpy()
    for frame in range(mels.frames(300)):
        part = clip[0, frame * mels.hop : frame * mels.hop + mels.length].numpy() * window
        for at, lag in enumerate(lags.tolist()):
            alike = np.sum(part[lag:] * part[:-lag]) / (np.sum(part**2) + 1e-8 * np.sum(window**2))
            fair = np.sum(window[lag:] * window[:-lag]) / np.sum(window**2)
            assert float(found[0, frame, at]) == pytest.approx(alike / fair, abs=1e-6)
    times = 2 * torch.pi * torch.arange(1600, dtype=torch.float64) / RATE
    for hertz in (90, 130, 190):
        voice = (torch.sin(hertz * times) + 0.7 * torch.sin(2 * hertz * times))[None]
        clearest = lags[mels.recurrence(mels.power(voice), lags).mean(1).argmax()]
        assert float(clearest) * hertz / RATE == pytest.approx(1, abs=0.06)
    assert (mels.recurrence(mels.power(torch.zeros_like(clip)), lags) == 0).all()


def test_bands_that_would_be_empty_and_clips_that_are_too_short_are_refused() -> None:
    assert (filter_bank(40, 512, 16000).sum(1) > 0).all()
    with pytest.raises(ConfigError, match="bands = 200"):
        filter_bank(200, 512, 16000)
    short = tiny("speech", samples=80)
    for spelled in ("log-mel(bands=12)", "learned(bands=12)", "x-vector(bands=12)"):
        with pytest.raises(ConfigError, match="clips of at least"):
            read_extractor(spelled, "test")[1].blank(short, seed=0)
    with pytest.raises(ConfigError, match="lags = 0"):
        read_extractor("log-mel(bands=12, window=20)", "test")[1].blank(data("speech"), seed=0)
    with pytest.raises(ConfigError, match="longer window"):
        LogMels(bands=4, rate=100)


@pytest.mark.parametrize("row", [row for row in ROWS if row.medium == "speech"], ids=lambda row: row.spelling)
@pytest.mark.parametrize("level", [0.0, 1 / 32767, 1.0], ids=["silent", "steady", "clipped"])
def test_strange_clips_have_finite_features_and_gradients(fitted: ItemNetwork, row: Row, level: float) -> None:
    clip = torch.full((1, 1600), level)
    if level == 1.0:
        clip[:, ::2] = -1
    clip.requires_grad_()
    found = fitted(clip)
    (gradient,) = torch.autograd.grad(found.sum(), clip)
    assert found.isfinite().all()
    assert gradient.isfinite().all()


# --- weights from elsewhere ------------------------------------------------------------------------------------------


def test_public_gives_what_enters_the_last_layer(checkpoint: Path) -> None:
    spelled = f"public(weights='checkpoint:{checkpoint}(classes=5, model=small-cnn, side=16, width=0.25)')"
    network, _ = read_extractor(spelled, "test")[1].fit(data("picture"), seed=0, device="cpu")
    whole = build_network(SMALL_NET, 5, 16, generator(3, "checkpoint")).eval()
    pictures = as_float(data("picture").items[:3], "picture")
    head = [module for module in whole.modules() if isinstance(module, nn.Linear)][-1]
    torch.testing.assert_close(head(network(pictures)), whole(pictures))


def test_public_resizes_to_the_side_it_is_told(checkpoint: Path) -> None:
    spelled = f"public(side=32, weights='checkpoint:{checkpoint}(classes=5, model=small-cnn, side=16, width=0.25)')"
    network, _ = read_extractor(spelled, "test")[1].fit(data("picture"), seed=0, device="cpu")
    pictures = as_float(data("picture").items[:3], "picture")
    larger = nn.functional.interpolate(pictures, (32, 32), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(network(pictures), network(larger))


def test_the_content_of_weights_enters_the_fingerprint(checkpoint: Path, tmp_path: Path) -> None:
    def fingerprint(path: Path) -> str:
        spelled = f"public(weights='checkpoint:{path}(classes=5, model=small-cnn, side=16, width=0.25)')"
        return read_extractor(spelled, "test")[1].fingerprint()  # pyright: ignore[reportAttributeAccessIssue]

    save_weights(build_network(SMALL_NET, 5, 16, generator(3, "checkpoint")), tmp_path / "same.safetensors")
    save_weights(build_network(SMALL_NET, 5, 16, generator(4, "checkpoint")), tmp_path / "other.safetensors")
    assert fingerprint(checkpoint) == fingerprint(tmp_path / "same.safetensors")
    assert fingerprint(checkpoint) != fingerprint(tmp_path / "other.safetensors")


def test_absent_weights_are_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match="not on this machine"):
        read_extractor("public(weights=torchvision:resnet18)", "test")[1].blank(data("picture"), seed=0)
    with pytest.raises(WeightsError, match="no folder"):
        read_extractor("speech(weights=nowhere)", "test")[1].blank(data("speech"), seed=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"lacks config\.json, preprocessor_config\.json, model\.safetensors"):
        read_extractor(f"speech(weights='{tmp_path / 'empty'}')", "test")[1].blank(data("speech"), seed=0)


def test_absent_weights_of_the_hub_are_named_with_their_place(tmp_path: Path) -> None:
    spelled = f"speech(folder='{tmp_path}', weights=facebook/wav2vec2-base-960h)"
    expected = "transformers|the weights of facebook/wav2vec2-base-960h are not on this machine"
    with pytest.raises(WeightsError, match=expected):
        read_extractor(spelled, "test")[1].blank(data("speech"), seed=0)


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm"])
def test_speech_is_the_mean_of_the_last_hidden_layer_at_the_networks_own_rate(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    signal = pytest.importorskip("scipy.signal")
    network, _ = read_extractor(f"speech(weights='{tiny_speech(tmp_path, kind)}')", "test")[1].fit(
        data("speech"), seed=0, device="cpu"
    )
    clips = as_float(data("speech").items[:20], "speech")
    wide = torch.from_numpy(signal.resample_poly(clips.double().numpy(), 4, 1, axis=1)).float()
    wide = (wide - wide.mean(1, keepdim=True)) / wide.std(1, correction=0, keepdim=True)
    model = transformers.AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = model(wide).last_hidden_state.mean(1)
        torch.testing.assert_close(network(clips), expected, rtol=0.02, atol=0.02)


def test_speech_weights_that_are_incomplete_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    folder = tiny_speech(tmp_path)
    state = safetensors.load_file(folder / "model.safetensors")
    spelled = f"speech(weights='{folder}')"

    def saved(*without: str) -> Callable[[], ItemNetwork]:
        kept = {name: tensor for name, tensor in state.items() if name not in without}
        safetensors.save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
        return lambda: read_extractor(spelled, "test")[1].blank(data("speech"), seed=0)

    with_mask = extract(saved()(), data("speech").items[:2], "speech")
    assert "masked_spec_embed" in state
    assert torch.equal(extract(saved("masked_spec_embed")(), data("speech").items[:2], "speech"), with_mask)
    with pytest.raises(WeightsError, match=r"lacks encoder\.layers\.1"):
        saved("encoder.layers.1.attention.q_proj.weight")()
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(WeightsError, match="does not fit"):
        read_extractor(spelled, "test")[1].blank(data("speech"), seed=0)
    checked = f"speech(sha256={'ab' * 32}, weights='{folder}')"
    with pytest.raises(WeightsError, match="SHA-256"):
        read_extractor(checked, "test")[1].blank(data("speech"), seed=0)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="'bert'"):
        read_extractor(spelled, "test")[1].blank(data("speech"), seed=0)


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("small(epochs=0)", "epochs"),
        ("small(network=small-cn)", "small-cnn"),
        ("learned(dim=1)", "dim"),
        ("log-mel(bands=0)", "bands"),
        ("log-mel(lags=-1)", "lags"),
        ("x-vector(width=0)", "width"),
        ("public", "weights"),
        ("public(side=-1, weights=torchvision:resnet18)", "side"),
        ("speech(sha256=12, weights=a)", "sha256"),
        ("table(scale=2)", "scale"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_computed(spelled: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_extractor(spelled, "test")
