"""Telling cloaked photos from clean ones."""

from __future__ import annotations

from functools import partial

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from countermove.faces.trainer import Detection
from countermove.learning.loop import train
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import EVALUATION_BATCH, Examples, place, to_model
from countermove.nets.registry import build_network
from countermove.pixels.jpeg import jpeg
from countermove.pixels.randomness import generator
from countermove.pixels.squeezes import squeeze_uint8
from countermove.pixels.steps import frozen


def blank_detector(network: str, side: int, *, seed: int) -> nn.Module:
    """Return an untrained network with the classes clean and cloaked."""
    return build_network(network, 2, side, generator(seed, "detector"))


def fit_detector(
    network: nn.Module, clean: Tensor, cloaked: Tensor, *, asked: Detection, seed: int, device: str
) -> int:
    """Train a network in place on 8-bit photos, clean [N, 3, S, S] and cloaked [M, 3, S, S]; return the passes."""
    pictures = seen(torch.cat([clean, cloaked]), asked)
    labels = torch.cat([torch.zeros(len(clean)), torch.ones(len(cloaked))]).long()
    examples = Examples(pictures=pictures, labels=labels)
    few = Examples(pictures=pictures[:1], labels=labels[:1])
    recipe = Recipe(epochs=asked.epochs, lr=asked.lr)
    return train(network, examples, few, recipe=recipe, seed=seed, classes=2, device=device).samples


def detect(network: nn.Module, clean: Tensor, cloaked: Tensor, *, asked: Detection, device: str) -> dict[str, float]:
    """Return the area under the ROC curve, and at a half the share of cloaked and of clean photos called cloaked."""
    scores = [_scores(network, seen(photos, asked), device) for photos in (clean, cloaked)]
    truth = torch.cat([torch.zeros(len(clean)), torch.ones(len(cloaked))])
    return {
        "detector_auc": float(roc_auc_score(truth.numpy(), torch.cat(scores).numpy())),
        "detector_recall": float((scores[1] > 0.5).float().mean()),
        "detector_false_alarms": float((scores[0] > 0.5).float().mean()),
    }


def seen(photos: Tensor, asked: Detection) -> Tensor:
    """Return photos as the detector sees them, whichever class they are of."""
    quality = asked.quality
    return photos if quality is None else squeeze_uint8(photos, partial(jpeg, quality=quality))


@torch.no_grad()
def _scores(network: nn.Module, photos: Tensor, device: str) -> Tensor:
    with frozen(place(network, device)):
        parts = [network(to_model(part, device)).float().cpu() for part in photos.split(EVALUATION_BATCH)]
    return torch.cat(parts).softmax(1)[:, 1]
