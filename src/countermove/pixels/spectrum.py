"""Where in the spectrum a change to a picture lies, and how much of it is colour."""

from __future__ import annotations

import torch
from torch import Tensor

PICTURES = 1000
"""Spectra are means; this many pictures are enough for them."""


def mean_power(delta: Tensor) -> Tensor:
    """Return the mean power spectrum [H, W], unshifted, of changes [N, 3, H, W]; of the first PICTURES only."""
    return torch.fft.fft2(delta[:PICTURES]).abs().square().mean(dim=(0, 1))


def high_frequency_share(power: Tensor) -> float:
    """Return the share of energy where either frequency is above half of the highest. Power: [H, W], unshifted.

    White noise has about 0.72 (at a side of 32: 1 - (17 / 32) squared); nothing at all has 0.
    """
    height, width = power.shape
    down, across = torch.fft.fftfreq(height).abs(), torch.fft.fftfreq(width).abs()
    high = torch.maximum(down[:, None], across[None, :]) > 0.25
    total = float(power.sum())
    return float(power[high].sum()) / total if total else 0.0


def colour_share(delta: Tensor) -> float:
    """Return the share of the energy of changes [N, 3, H, W] that is not common to the channels.

    That is what the mean over channels removes: 0 for gray noise, 2/3 for independent channels.
    """
    total = float(delta.square().sum())
    common = float(delta.mean(dim=1).square().sum()) * delta.shape[1]
    return 1 - common / total if total else 0.0
