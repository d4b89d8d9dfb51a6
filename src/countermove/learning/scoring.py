"""Labelled 8-bit pictures, and what a model says of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.nets.features import logits_and_features
from countermove.pixels.steps import frozen

EVALUATION_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Examples:
    """8-bit pictures with labels: uint8 [N, 3, H, W], int64 [N]."""

    pictures: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@torch.no_grad()
def predict(model: nn.Module, pictures: Tensor, *, device: str = "cpu") -> Tensor:
    """Return what the model, in evaluation mode, names 8-bit pictures: int64 [T]. Restores its mode."""
    was_training = model.training
    model.eval()
    parts = [
        model(to_model(pictures[start : start + EVALUATION_BATCH], device)).argmax(dim=1).cpu()
        for start in range(0, len(pictures), EVALUATION_BATCH)
    ]
    model.train(was_training)
    return torch.cat(parts)


@torch.no_grad()
def features(model: nn.Module, pictures: Tensor) -> Tensor:
    """Return what enters the model's last layer, in evaluation mode, for 8-bit pictures: float [T, D], on the CPU."""
    device = str(next(model.parameters()).device)
    with frozen(model):
        parts = [
            logits_and_features(model, to_model(pictures[start : start + EVALUATION_BATCH], device))[1].float().cpu()
            for start in range(0, len(pictures), EVALUATION_BATCH)
        ]
    return torch.cat(parts)


def correct(model: nn.Module, test: Examples, *, device: str = "cpu") -> Tensor:
    """Return bool [T]: which pictures the model, in evaluation mode, names rightly. Restores its mode."""
    return predict(model, test.pictures, device=device) == test.labels


def place(model: nn.Module, device: str) -> nn.Module:
    """Put a model on a device, its convolutions in channels_last memory. In place."""
    return model.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def to_model(pictures: Tensor, device: str) -> Tensor:
    """Return 8-bit pictures as floats in [0, 1] in channels_last memory on the device."""
    return pictures.to(device).float().div_(255).contiguous(memory_format=torch.channels_last)


@cache
def warm_up(device: str) -> None:
    """Pay the one-time costs of a process's first training step, so that no cell's price holds them."""
    with torch.random.fork_rng(devices=[]):
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model, pictures = place(net, device), to_model(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), device)
    F.cross_entropy(model(pictures), torch.tensor([0, 1], device=device)).backward()
