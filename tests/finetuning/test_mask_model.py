"""The surface that users of peft know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from countermove.errors import ConfigError, RunError, WeightsError
from countermove.finetuning.delta import weights_hash
from countermove.finetuning.mask_model import MaskConfig, MaskModel, get_peft_model
from countermove.finetuning.masks import masks


class Encoder(nn.Module):
    """Two blocks between an embedding and an output layer, a normalisation with running statistics in front of it."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.words = nn.Embedding(20, 8)
            self.layer = nn.ModuleList(
                nn.ModuleDict({"query": nn.Linear(8, 8), "value": nn.Linear(8, 8)}) for _ in "ab"
            )
            self.norm = nn.BatchNorm1d(8)
            self.classifier = nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.words(tokens).mean(1)
        for block in self.layer:
            hidden = hidden + torch.tanh(block["query"](hidden)) * block["value"](hidden)  # pyright: ignore
        return self.classifier(self.norm(hidden))


TOKENS = torch.arange(20).view(4, 5)
CONFIG = MaskConfig(target_modules=("query", "value"), modules_to_save=("classifier",), initial_sparsity=0.1)


def trained(config: MaskConfig = CONFIG) -> MaskModel:
    model = get_peft_model(Encoder(), config)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(20):
            loss = nn.functional.cross_entropy(model(TOKENS), torch.tensor([0, 1, 2, 0]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@pytest.mark.parametrize(
    ("config", "targets"),
    [
        (MaskConfig(), {"layer.0.query", "layer.0.value", "layer.1.query", "layer.1.value", "classifier"}),
        (CONFIG, {"layer.0.query", "layer.0.value", "layer.1.query", "layer.1.value"}),
        (MaskConfig(target_modules=("query",), layers_to_transform=(1,)), {"layer.1.query"}),
        (MaskConfig(target_modules=r"layer\.\d\.value"), {"layer.0.value", "layer.1.value"}),
        (MaskConfig(target_modules=("words",)), {"words"}),
        (MaskConfig(exclude_modules=("query", "classifier")), {"layer.0.value", "layer.1.value"}),
    ],
)
def test_where_masks_go(config: MaskConfig, targets: set[str]) -> None:
    assert set(config.targets(Encoder())) == targets


@pytest.mark.parametrize(
    "config",
    [
        MaskConfig(target_modules=("queri",)),
        MaskConfig(target_modules="nothing"),
        MaskConfig(layers_to_transform=(9,)),
        MaskConfig(modules_to_save=("head",)),
    ],
)
def test_masks_on_what_is_not_there_are_refused(config: MaskConfig) -> None:
    with pytest.raises(ConfigError):
        get_peft_model(Encoder(), config)


def test_what_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    model = get_peft_model(Encoder(), CONFIG)
    assert model.get_nb_trainable_parameters() == (4 * 64 + 27, 160 + 4 * 72 + 4 * 8 + 27)
    model.print_trainable_parameters()
    assert "256 of them mask bits" in capsys.readouterr().out


def test_the_base_answers_when_the_adapter_is_off_and_comes_back_whole() -> None:
    before, base = Encoder().eval()(TOKENS), weights_hash(Encoder().state_dict())
    model = trained()
    adapted = model(TOKENS)
    assert not torch.equal(adapted, before)
    with model.disable_adapter():
        assert torch.equal(model(TOKENS), before)
    assert torch.equal(model(TOKENS), adapted)
    merged = model.merge_and_unload()
    assert torch.equal(merged(TOKENS), adapted)
    assert torch.equal(model(TOKENS), adapted), "merging leaves the wrapped network alone"
    assert weights_hash(model.unload().state_dict()) == base


def test_frozen_statistics_stay_and_a_merged_copy_is_free_again() -> None:
    model = trained()
    assert not model.base_model.get_buffer("norm.running_mean").any()
    merged = model.merge_and_unload().train()
    merged(TOKENS)
    assert merged.get_buffer("norm.running_mean").any(), "nothing of ours is left in it"
    model.train()(TOKENS)
    assert not model.base_model.get_buffer("norm.running_mean").any(), "and the wrapped one is still held"


def test_a_saved_task_is_loaded_onto_its_base_bit_by_bit(tmp_path: Path) -> None:
    model = trained()
    size = model.save_pretrained(tmp_path / "task")
    assert {path.name for path in (tmp_path / "task").iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "README.md",
    }
    assert size == (tmp_path / "task" / "adapter_model.safetensors").stat().st_size
    network = Encoder()
    loaded = MaskModel.from_pretrained(network, tmp_path / "task")
    assert torch.equal(loaded(TOKENS), model(TOKENS))
    assert weights_hash(loaded.merge_and_unload().state_dict()) == weights_hash(model.merge_and_unload().state_dict())
    for name, mask in masks(loaded.base_model).items():
        assert torch.equal(mask.mask, masks(model.base_model)[name].mask)


def test_a_task_of_another_base_is_refused_and_the_network_left_alone(tmp_path: Path) -> None:
    trained().save_pretrained(tmp_path)
    other = Encoder()
    with torch.no_grad():
        other.words.weight[3, 3] += 1
    before = weights_hash(other.state_dict())
    with pytest.raises(WeightsError, match="belongs to other weights"):
        MaskModel.from_pretrained(other, tmp_path)
    assert weights_hash(other.state_dict()) == before
    with pytest.raises(WeightsError):
        MaskModel.from_pretrained(nn.Sequential(nn.Linear(8, 3)), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": "(a+)+$"},
        {"target_modules": ["layer.0.query"]},
        {"target_modules": [3]},
        {"modules_to_save": []},
        {"init_scale": float("nan")},
        {"init_scale": -1.0},
        {"initial_sparsity": "half"},
        {"mask_init": "largest"},
        {"rank": 3},
    ],
)
def test_settings_of_strangers_are_checked_before_anything_is_wrapped(tmp_path: Path, changes: dict) -> None:
    trained().save_pretrained(tmp_path)
    told = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**told, **changes}))
    network = Encoder()
    before = weights_hash(network.state_dict())
    with pytest.raises(WeightsError):
        MaskModel.from_pretrained(network, tmp_path)
    assert weights_hash(network.state_dict()) == before
    assert not masks(network)


@pytest.mark.parametrize("told", ["{", "[]", '{"peft_type": "LORA"}', '{"peft_type": "COUNTERMOVE_MASK", "rank": 3}'])
def test_settings_of_something_else_are_refused(tmp_path: Path, told: str) -> None:
    trained().save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text(told)
    with pytest.raises(WeightsError):
        MaskModel.from_pretrained(Encoder(), tmp_path)


def test_settings_come_back_as_they_were(tmp_path: Path) -> None:
    config = MaskConfig(
        target_modules=("query",), layers_to_transform=(0,), mask_init="random", seed=4, sampler="bernoulli"
    )
    trained(config).save_pretrained(tmp_path)
    found = MaskModel.from_pretrained(Encoder(), tmp_path).config
    assert found.target_modules == ("layer.0.query",), "in full"
    assert (found.start, found.sampler, found.init_scale) == (config.start, "bernoulli", config.init_scale)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["mask_init"] == "random"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        trained().save_pretrained(tmp_path / "file" / "folder")


def test_peft_works_beside_it() -> None:
    """LoRA of the package peft on the same kind of network, in one run."""
    peft = pytest.importorskip("peft")
    lora = peft.get_peft_model(Encoder(), peft.LoraConfig(r=2, target_modules=["query", "value"]))
    before = Encoder()(TOKENS)
    assert torch.allclose(lora(TOKENS), before)
    masked = get_peft_model(lora.merge_and_unload(), MaskConfig(target_modules=("query",), initial_sparsity=0.5))
    assert not torch.allclose(masked(TOKENS), before)
