"""Fitting a network to a task. Legend: N texts or pictures, L tokens, K classes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.finetuning.critical_layers import CountedLosses
from countermove.pixels.randomness import generator
from countermove.tasks.model import Reader
from countermove.tasks.schedule import linear_schedule
from countermove.tasks.task import Texts
from countermove.tasks.tokens import encode, token_number

EVALUATION_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network learns a task; the learning rate belongs to the countermove.

    epochs, batch_size: of AdamW without weight decay.
    warmup: share of all steps over which the rate rises; it then falls to zero in a line.
    """

    epochs: int = 2
    batch_size: int = 32
    warmup: float = 0.1

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not 0 <= self.warmup < 1:
            raise ConfigError("training: epochs and batch_size are at least 1, warmup lies in [0, 1)")


class Readable(Protocol):
    """Labelled examples of any medium."""

    @property
    def labels(self) -> Tensor:
        """Return int64 [N]."""
        ...

    @property
    def lengths(self) -> Tensor:
        """Return how long each is, int64 [N]; those of like length are read together."""
        ...

    def __len__(self) -> int: ...

    def logits(self, network: Any, index: Tensor, device: str) -> tuple[Tensor, Tensor]:
        """Return what a network answers to some of them, [n, K], and their labels."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Encoded texts.

    tokens, segments: int64 [N, L], padded on the right.
    labels: int64 [N].
    pad:    the number of the padding token.
    """

    tokens: Tensor
    segments: Tensor
    labels: Tensor
    pad: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> Tensor:
        """Return how many tokens each has."""
        return (self.tokens != self.pad).sum(1)

    def logits(self, network: Any, index: Tensor, device: str) -> tuple[Tensor, Tensor]:
        """Return what a network answers to some rows, and their labels."""
        given, labels = self.batch(index, device)
        return network(**given).logits, labels

    def batch(self, index: Tensor, device: str) -> tuple[dict[str, Tensor], Tensor]:
        """Return what the network is given of some rows, cut after the longest of them, and their labels."""
        tokens = self.tokens[index]
        width = int((tokens != self.pad).sum(1).max())
        tokens = tokens[:, :width].to(device)
        given = {
            "input_ids": tokens,
            "attention_mask": (tokens != self.pad).long(),
            "token_type_ids": self.segments[index][:, :width].to(device),
        }
        return given, self.labels[index].to(device)


def encoded(reader: Reader, texts: Texts, *, length: int) -> Rows:
    """Encode texts for a reader, at most as long as it can read."""
    pairs = None if texts.pairs is None else list(texts.pairs)
    tokens, segments = encode(reader.tokenizer, list(texts.texts), pairs, length=min(length, reader.longest))
    pad = token_number(reader.tokenizer, "pad")
    return Rows(tokens=tokens, segments=segments, labels=torch.tensor(list(texts.labels)), pad=pad)


def fit(network: nn.Module, rows: Readable, *, recipe: Recipe, lr: float, seed: int, device: str = "cpu") -> int:
    """Train whatever of a network requires gradients, in place; return how many texts went forward and back.

    Raises:
        DataError: when the loss is no longer finite.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    per_epoch = -(-len(rows) // recipe.batch_size)
    steps = recipe.epochs * per_epoch
    network.to(device).train()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(generator(seed, "dropout and masks").initial_seed())
        for epoch in range(recipe.epochs):
            order, total = torch.randperm(len(rows), generator=generator(seed, "order", epoch)), 0.0
            for i, index in enumerate(order.split(recipe.batch_size)):
                for group in optimizer.param_groups:
                    group["lr"] = lr * linear_schedule(epoch * per_epoch + i, steps, recipe.warmup)
                loss = F.cross_entropy(*rows.logits(network, index, device))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                total = total + loss.detach()
            if not math.isfinite(float(total)):
                raise DataError("the training diverged: its loss is not finite; lower the countermove's lr")
    network.eval()
    return recipe.epochs * len(rows)


@torch.no_grad()
def answers(network: nn.Module, rows: Readable, *, device: str = "cpu") -> Tensor:
    """Return the class of every row, int64 [N]. Rows of like length are read together."""
    network.to(device).eval()
    order = rows.lengths.argsort(stable=True)
    found = torch.zeros(len(rows), dtype=torch.int64)
    for index in order.split(EVALUATION_BATCH):
        found[index] = rows.logits(network, index, device)[0].argmax(1).cpu()
    return found


def some_losses(rows: Readable, *, batch_size: int, seed: int, device: str = "cpu") -> CountedLosses:
    """Return what yields the losses of batches, to measure the sensitivity of a network on that device."""

    def batches(network: Any) -> Iterator[tuple[Tensor, int]]:
        order = torch.randperm(len(rows), generator=generator(seed, "sensitivity"))
        for index in order.split(batch_size):
            yield F.cross_entropy(*rows.logits(network, index, device)), len(index)

    return CountedLosses(batches)


def matthews(answered: Tensor, labels: Tensor) -> float:
    """Return Matthews' correlation of two classes, 0 where one side never varies (GLUE's metric for CoLA)."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels.numpy(), answered.numpy()))
