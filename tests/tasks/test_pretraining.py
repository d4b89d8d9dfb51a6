"""Tokens, masks and a pre-training that can be interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from countermove.errors import DataError, WeightsError
from countermove.finetuning.delta import weights_hash
from countermove.learning.checkpoint import Checkpoint
from countermove.pixels.randomness import generator
from countermove.tasks import bases, books
from countermove.tasks.model import build_reader
from countermove.tasks.pretraining import IGNORED, BertSize, mask_tokens, pretrain
from countermove.tasks.tokens import encode, packed, read_tokenizer, token_number, train_tokenizer

SHORT = BertSize(width=16, layers=1, heads=1, vocabulary=300, length=16, epochs=2, batch_size=32)


def test_the_same_texts_give_the_same_tokens(texts: list[str]) -> None:
    first, second = (train_tokenizer(texts, size=400).get_vocab() for _ in range(2))
    assert first == second


def test_tokens_come_back_as_words(texts: list[str]) -> None:
    tokenizer = train_tokenizer(texts, size=400)
    assert len(tokenizer) <= 400
    tokens, segments = encode(tokenizer, ["The RIVER", "a boat"], None, length=10)
    assert tokens.shape == segments.shape
    assert str(tokenizer.decode(tokens[0], skip_special_tokens=True)).strip() == "the river"
    assert tokens[0, 0] == tokenizer.cls_token_id
    both, segments = encode(tokenizer, ["the river"], ["a boat"], length=10)
    assert segments.max() == 1
    assert int(both.eq(token_number(tokenizer, "sep")).sum()) == 2
    cut, _ = encode(tokenizer, ["the river " * 50], None, length=10)
    assert cut.shape == (1, 10)


def test_packing_keeps_every_token_in_order(texts: list[str]) -> None:
    tokenizer = train_tokenizer(texts, size=400)
    rows = packed(tokenizer, texts[:20], length=16)
    assert rows[:, 0].eq(token_number(tokenizer, "cls")).all()
    stream = [token for text in texts[:20] for token in (*tokenizer.encode(text)[1:-1], tokenizer.sep_token_id)]
    assert rows[:, 1:].flatten().tolist() == stream[: rows.shape[0] * 15]


def test_masks_hide_the_shares_that_they_should(texts: list[str]) -> None:
    tokenizer = train_tokenizer(texts, size=400)
    rows = packed(tokenizer, texts, length=16).long().repeat(20, 1)
    given, wanted = mask_tokens(rows, tokenizer, generator(0, "masks"))
    asked = wanted != IGNORED
    special = torch.isin(rows, torch.tensor(tokenizer.all_special_ids))
    assert not (asked & special).any()
    assert float(asked[~special].float().mean()) == pytest.approx(0.15, abs=0.01)
    assert torch.equal(wanted[asked], rows[asked])
    assert torch.equal(given[~asked], rows[~asked])
    hidden = given[asked].eq(token_number(tokenizer, "mask"))
    kept = given[asked] == rows[asked]
    assert float(hidden.float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float(kept.float().mean()) == pytest.approx(0.1, abs=0.02)


class Stop(Exception):
    pass


def test_a_pretraining_that_was_cut_short_goes_on_to_the_same_network(texts: list[str], tmp_path: Path) -> None:
    whole = pretrain(texts, SHORT, seed=1)
    assert len(whole.loss) == 2
    assert whole.loss[1] < whole.loss[0], "it learns"
    checkpoint = Checkpoint(tmp_path / "training.safetensors", every=0)

    def stop(_: str, done: int, steps: int) -> None:
        if done == steps // 2 + 3:
            raise Stop

    with pytest.raises(Stop):
        pretrain(texts, SHORT, seed=1, checkpoint=checkpoint, watch=stop)
    seen: list[int] = []
    again = pretrain(texts, SHORT, seed=1, checkpoint=checkpoint, watch=lambda _, done, __: seen.append(done))
    assert seen[0] > 1, "it did not begin anew"
    assert again.loss == whole.loss
    assert weights_hash(again.model.state_dict()) == weights_hash(whole.model.state_dict())
    other = pretrain(texts, SHORT, seed=2)
    assert weights_hash(other.model.state_dict()) != weights_hash(whole.model.state_dict())


@pytest.fixture
def library(tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    author = tmp_path / "data" / "books_text" / "Nobody"
    author.mkdir(parents=True)
    body = "\n\n".join(texts[:300])
    (author / "A Book.md").write_text(f"# A Book\n\n## Nobody\n\n{body}\n", encoding="utf-8")
    monkeypatch.setenv("COUNTERMOVE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COUNTERMOVE_CACHE", str(tmp_path / "cache"))
    return author


def test_books_are_read_without_their_headings(library: Path, texts: list[str]) -> None:
    assert list(books.paragraphs()) == texts[:300]
    (library / "B.md").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match="UTF-8"):
        list(books.paragraphs())
    with pytest.raises(DataError, match="no books"):
        books.book_files(library / "elsewhere")


def test_a_base_is_trained_once_and_kept(library: Path) -> None:
    folder = bases.pretrained_folder(SHORT, seed=0)
    facts = bases.facts_of(folder)
    assert facts["size"]["width"] == 16
    assert len(facts["loss"]) == 2
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert bases.pretrained_folder(SHORT, seed=0) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert bases.base_key(SHORT, seed=1) != folder.name
    assert not list(folder.parent.glob(".*.tmp"))
    reader = build_reader(folder, 3, source=generator(0, "head"))
    assert reader.new == ("bert.pooler.dense", "classifier")
    assert reader.longest == 16


def test_a_tokenizer_of_another_network_is_refused(tiny: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    with pytest.raises(DataError, match="they do not belong together"):
        read_tokenizer(tmp_path, 20)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        read_tokenizer(tmp_path, 900)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="holds no tokenizer"):
        read_tokenizer(tmp_path, 900)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_a_network_is_refused(tiny: Path, tmp_path: Path, missing: str) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        if name != missing:
            (tmp_path / name).write_bytes((tiny / name).read_bytes())
    with pytest.raises(WeightsError, match="holds no network"):
        build_reader(tmp_path, 2, source=generator(0, "head"))


def test_a_base_in_half_precision_is_trained_in_full(tiny: Path, tmp_path: Path) -> None:
    import safetensors.torch

    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    state = safetensors.torch.load_file(tiny / "model.safetensors")
    half = {name: tensor.half() for name, tensor in state.items()}
    safetensors.torch.save_file(half, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "dtype": "float16", "torch_dtype": "float16"}))
    network = build_reader(tmp_path, 2, source=generator(0, "head")).network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_weights_of_another_network_are_refused(tiny: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(WeightsError, match="of another network"):
        build_reader(tmp_path, 2, source=generator(0, "head"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_size": 16}))
    with pytest.raises(WeightsError):
        build_reader(tmp_path, 2, source=generator(0, "head"))
