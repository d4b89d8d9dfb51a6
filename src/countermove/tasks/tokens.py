"""Text to rows of token numbers. Legend: N texts, L tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def needs_transformers() -> Any:
    """Return the transformers package, quiet.

    Raises:
        ConfigError: when it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise ConfigError("this needs the packages of the finetuning extra: countermove[finetuning]") from None
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def train_tokenizer(texts: Iterable[str], *, size: int) -> PreTrainedTokenizerFast:
    """Learn lower-cased byte-level pairs (RoBERTa's kind, by the tokenizers library) from texts.

    The same texts give the same tokens. The library's trainer of word pieces, BERT's kind, does not: it numbers pieces
    in the order of a hash table.

    Args:
        texts: a paragraph each.
        size: of the vocabulary, the special tokens and 256 bytes among it.
    """
    transformers = needs_transformers()
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    numbers = {token: i for token, i in tokenizer.get_vocab().items() if token in SPECIAL.values()}
    sep, cls = ((SPECIAL[name], numbers[SPECIAL[name]]) for name in ("sep_token", "cls_token"))
    tokenizer.post_processor = processors.BertProcessing(sep, cls)  # pyright: ignore[reportAttributeAccessIssue]
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def read_tokenizer(folder: Path, vocabulary: int) -> PreTrainedTokenizerFast:
    """Read the tokenizer that lies beside a model, and see that the two belong together.

    Args:
        folder: with tokenizer.json, or vocab.txt as BERT's own.
        vocabulary: how many tokens the model has embeddings for.

    Raises:
        DataError: when there is none, or it knows tokens that the model has no embedding for.
    """
    transformers = needs_transformers()
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.txt").is_file():
        raise DataError(f"{folder} holds no tokenizer: neither tokenizer.json nor vocab.txt lies beside the model")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises plain Exceptions, and nothing narrower
        raise DataError(f"the tokenizer in {folder} cannot be read: {error}") from error
    if len(tokenizer) > vocabulary:
        raise DataError(
            f"the tokenizer in {folder} knows {len(tokenizer)} tokens, the model beside it has embeddings for "
            f"{vocabulary}; they do not belong together"
        )
    special = [getattr(tokenizer, name) for name in ("pad_token_id", "cls_token_id", "sep_token_id")]
    if None in special or len(set(special)) != len(special):
        raise DataError(
            f"the tokenizer in {folder} lacks one of the tokens for padding, beginning and end, or shares it"
        )
    tokenizer.padding_side = "right"
    return tokenizer


def token_number(tokenizer: PreTrainedTokenizerFast, name: str) -> int:
    """Return the number of a special token: "pad", "cls", "sep" or "mask"."""
    number = getattr(tokenizer, f"{name}_token_id")
    assert isinstance(number, int), "checked when the tokenizer was read"
    return number


def encode(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], pairs: Sequence[str] | None, *, length: int
) -> tuple[Tensor, Tensor]:
    """Return token numbers and segment numbers, int64 [N, L], padded with the tokenizer's padding token.

    Args:
        tokenizer: as trained or read.
        texts: one a row.
        pairs: second sentences, where the task has them; cut together with the first, longest first.
        length: tokens at most; no row is longer than the longest one needs.
    """
    found = tokenizer(
        list(texts),
        None if pairs is None else list(pairs),
        truncation="longest_first" if pairs is not None else True,
        max_length=length,
        padding="longest",
        return_token_type_ids=True,
        return_attention_mask=False,
        return_tensors="np",
    )
    return torch.from_numpy(found["input_ids"]).long(), torch.from_numpy(found["token_type_ids"]).long()


def packed(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], *, length: int) -> Tensor:
    """Return one long stream of texts cut into full rows, int32 [N, L]; each begins with the token for a beginning.

    A separator stands after every text; what is left over for a last row is dropped.
    """
    backend = tokenizer.backend_tokenizer
    encoded = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    sep, cls = token_number(tokenizer, "sep"), token_number(tokenizer, "cls")
    stream = [token for one in encoded for token in (*one.ids, sep)]
    rows = len(stream) // (length - 1)
    body = torch.tensor(stream[: rows * (length - 1)], dtype=torch.int32).view(rows, length - 1)
    return torch.cat([torch.full((rows, 1), cls, dtype=torch.int32), body], dim=1)
