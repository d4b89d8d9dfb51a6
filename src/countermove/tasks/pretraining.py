"""Pre-training a small BERT on books: masked words, no next sentences. Legend: N rows, L tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from countermove.learning.checkpoint import Checkpoint, restore_training, training_state
from countermove.nets.parts import seeded
from countermove.pixels.randomness import generator
from countermove.tasks.schedule import linear_schedule
from countermove.tasks.tokens import needs_transformers, packed, token_number, train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MASKED, HIDDEN, RANDOM = 0.15, 0.8, 0.1
IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class BertSize:
    """How large a BERT is and how long it is trained.

    width, layers, heads: of the encoder; its intermediate layers are four times as wide.
    vocabulary: tokens.
    length:     of a row of tokens in pre-training, and the longest that it can read.
    epochs, batch_size, lr, warmup: of AdamW; the rate rises over a share of all steps and falls to zero in a line.
    """

    width: int = 128
    layers: int = 4
    heads: int = 2
    vocabulary: int = 8192
    length: int = 128
    epochs: int = 3
    batch_size: int = 32
    lr: float = 1e-3
    warmup: float = 0.05


@dataclass
class Pretrained:
    """What a pre-training gives: the model with its head for masked words, its tokenizer, and how it went."""

    model: Any
    tokenizer: PreTrainedTokenizerFast
    loss: list[float]
    samples: int
    seconds: float


Watch = Callable[[str, int, int], None]
"""Told what is being done, and how many steps of how many are through."""


def pretrain(
    texts: list[str],
    size: BertSize,
    *,
    seed: int,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    watch: Watch = lambda *_: None,
) -> Pretrained:
    """Train tokenizer and BERT on texts, Devlin et al. 2019 (arXiv:1810.04805), masks drawn anew every time (RoBERTa).

    Of every row 15 % of the tokens are to be guessed; 80 % of these are masked, 10 % replaced, 10 % left. A checkpoint
    that is found is continued from, to the same result.

    Returns:
        the model (transformers' BertForMaskedLM), the tokenizer, the mean loss of every epoch.
    """
    began = time.perf_counter()
    tokenizer = train_tokenizer(texts, size=size.vocabulary)
    rows = packed(tokenizer, texts, length=size.length)
    model = blank_bert(size, len(tokenizer), seed=seed).to(device)
    work = _Work(model, size, tokenizer, steps=size.epochs * -(-len(rows) // size.batch_size), device=device)
    masking, losses = generator(seed, "masking"), []
    done, mean = work.resume(checkpoint, losses, masking)
    per_epoch = -(-len(rows) // size.batch_size)
    model.train()
    for step in range(done, work.steps):
        epoch, place = divmod(step, per_epoch)
        order = torch.randperm(len(rows), generator=generator(seed, "order", epoch))
        index = order[place * size.batch_size : (place + 1) * size.batch_size]
        mean = (mean if place else 0.0) + work.step(rows[index].long(), masking, step) / per_epoch
        if place == per_epoch - 1:
            losses.append(mean)
        watch("pre-training", step + 1, work.steps)
        if checkpoint is not None:
            work.save(checkpoint, losses, masking, step + 1, mean)
    return Pretrained(
        model=model.eval().cpu(),
        tokenizer=tokenizer,
        loss=losses,
        samples=size.epochs * len(rows),
        seconds=time.perf_counter() - began,
    )


def blank_bert(size: BertSize, vocabulary: int, *, seed: int) -> Any:
    """Return an untrained BertForMaskedLM, without dropout: a small one sees too little text to need it."""
    transformers = needs_transformers()
    config = transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.width,
        max_position_embeddings=size.length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    with seeded(generator(seed, "weights")):
        return transformers.BertForMaskedLM(config)


class _Work:
    """The state of one pre-training: model, optimiser, schedule."""

    def __init__(
        self, model: Any, size: BertSize, tokenizer: PreTrainedTokenizerFast, *, steps: int, device: str
    ) -> None:
        self.model, self.size, self.tokenizer, self.steps, self.device = model, size, tokenizer, steps, device
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=size.lr, betas=(0.9, 0.98), weight_decay=0.01)

    def step(self, rows: Tensor, masking: Generator, step: int) -> float:
        """Guess masked tokens of rows [n, L] once; return the loss."""
        given, wanted = mask_tokens(rows, self.tokenizer, masking)
        asked = wanted != IGNORED
        for group in self.optimizer.param_groups:
            group["lr"] = self.size.lr * linear_schedule(step, self.steps, self.size.warmup)
        hidden = self.model.bert(input_ids=given.to(self.device)).last_hidden_state
        logits = self.model.cls(hidden[asked.to(self.device)])  # only where something is to be guessed
        loss = F.cross_entropy(logits, wanted[asked].to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return float(loss.detach())

    def save(self, checkpoint: Checkpoint, losses: list[float], masking: Generator, done: int, mean: float) -> None:
        checkpoint.save_if_due(
            {**training_state(self.model, self.optimizer), "masking": masking.get_state()},
            {"losses": losses, "done": done, "mean": mean},
        )

    def resume(self, checkpoint: Checkpoint | None, losses: list[float], masking: Generator) -> tuple[int, float]:
        """Take up a checkpoint; return how many steps are done and the mean loss of the epoch so far."""
        found = checkpoint.load() if checkpoint is not None else None
        if found is None:
            return 0, 0.0
        tensors, facts = found
        restore_training(self.model, self.optimizer, tensors)
        masking.set_state(tensors["masking"])
        losses += facts["losses"]
        return facts["done"], facts["mean"]


def mask_tokens(rows: Tensor, tokenizer: PreTrainedTokenizerFast, masking: Generator) -> tuple[Tensor, Tensor]:
    """Return rows with tokens masked, and what is to be guessed, IGNORED elsewhere; both int64 [n, L]."""
    draw = torch.rand(rows.shape, generator=masking)
    special = torch.isin(rows, torch.tensor(tokenizer.all_special_ids))
    asked = (draw < MASKED) & ~special
    other = torch.randint(len(tokenizer), rows.shape, generator=masking)
    given = torch.where(draw < MASKED * (HIDDEN + RANDOM), other, rows)
    given = torch.where(draw < MASKED * HIDDEN, token_number(tokenizer, "mask"), given)
    return torch.where(asked, given, rows), torch.where(asked, rows, IGNORED)
