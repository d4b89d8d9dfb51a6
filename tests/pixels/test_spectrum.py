"""Numbers about where noise lies."""

from __future__ import annotations

import pytest
import torch

from countermove.pixels.spectrum import colour_share, high_frequency_share, mean_power


def test_white_noise_flat_noise_and_a_chequerboard() -> None:
    white = torch.randn(400, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert high_frequency_share(mean_power(white)) == pytest.approx(1 - (17 / 32) ** 2, abs=0.01)
    assert high_frequency_share(mean_power(torch.ones(2, 3, 8, 8))) == 0
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    board = ((-1.0) ** (rows + columns)).expand(2, 3, 8, 8)
    assert high_frequency_share(mean_power(board)) == pytest.approx(1)
    assert high_frequency_share(mean_power(torch.zeros(1, 3, 4, 4))) == 0


def test_the_colour_share_is_what_the_mean_over_channels_removes() -> None:
    noise = torch.randn(300, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    left = noise.mean(dim=1, keepdim=True).expand_as(noise)
    assert colour_share(noise) == pytest.approx(1 - float(left.square().sum() / noise.square().sum()), abs=1e-5)
    assert colour_share(noise) == pytest.approx(2 / 3, abs=0.02)
    assert colour_share(left) == pytest.approx(0, abs=1e-6)
    assert colour_share(torch.zeros(1, 3, 2, 2)) == 0
