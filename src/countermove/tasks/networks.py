"""Small networks for pictures: pre-trained on some classes, built for others. Legend: N pictures, K classes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from countermove.errors import WeightsError
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import train
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples, to_model
from countermove.nets.features import last_linear
from countermove.nets.parts import seeded
from countermove.nets.registry import build_network
from countermove.nets.weights import load_weights, save_weights
from countermove.pixels.randomness import generator
from countermove.tasks.task import Pictures

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class PictureRows:
    """Pictures as networks are given them: uint8 [N, 3, H, W], int64 [N]."""

    pictures: Tensor
    labels: Tensor

    @classmethod
    def of(cls, pictures: Pictures) -> PictureRows:
        """Return labelled pictures as tensors."""
        return cls(pictures=pictures.pictures, labels=torch.tensor(list(pictures.labels)))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> Tensor:
        """Return zeros: all are of one size."""
        return torch.zeros(len(self), dtype=torch.int64)

    def logits(self, network: Any, index: Tensor, device: str) -> tuple[Tensor, Tensor]:
        """Return what a network answers to some pictures, and their labels."""
        return network(to_model(self.pictures[index], device)), self.labels[index].to(device)


def pretrain_classifier(
    network: str, pictures: Pictures, classes: int, to: Path, *, epochs: int, seed: int, device: str, work: Checkpoint
) -> dict[str, Any]:
    """Train a network on labelled pictures and write it; returns how that went.

    Args:
        network: spelled.
        pictures: with labels below classes.
        classes: how many.
        to: the folder, which is made.
        epochs: passes.
        seed: of weights and order.
        device: "cpu" or "cuda".
        work: where to go on from.
    """
    side = int(pictures.pictures.shape[-1])
    model = build_network(network, classes, side, generator(seed, "pre-trained"))
    examples = Examples(pictures=pictures.pictures, labels=torch.tensor(list(pictures.labels)))
    few = Examples(pictures=examples.pictures[:100], labels=examples.labels[:100])
    log = train(
        model, examples, few, recipe=Recipe(epochs=epochs), seed=seed, classes=classes, device=device, checkpoint=work
    )
    to.mkdir(parents=True)
    save_weights(model, to / WEIGHTS)
    (to / CONFIG).write_text(json.dumps({"network": network, "classes": classes, "side": side}), encoding="utf-8")
    return {"train_accuracy": log.train_accuracy, "samples": log.samples, "seconds": log.seconds}


def build_classifier(folder: Path, classes: int, *, source: Generator) -> tuple[nn.Module, tuple[str, ...]]:
    """Read a pre-trained network and give it an output layer; returns it with the name of that layer.

    Raises:
        WeightsError: when the folder holds no such network.
    """
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        network = build_network(found["network"], found["classes"], found["side"], torch.Generator().manual_seed(0))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder} holds no network for pictures that was pre-trained here: {error}") from error
    load_weights(network, folder / WEIGHTS)
    old = last_linear(network)
    (name,) = (name for name, module in network.named_modules() if module is old)
    with seeded(source):
        fresh = nn.Linear(old.in_features, classes, bias=old.bias is not None)
    network.set_submodule(name, fresh)
    return network.eval(), (name,)
