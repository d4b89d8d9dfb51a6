"""One thread for every test of this room, and toy pictures that a network learns at once."""

from __future__ import annotations

import pytest
import torch
from tests.threads import one_thread as one_thread

from countermove.learning.scoring import Examples
from countermove.pixels.randomness import generator


def two_colours(n: int, name: str) -> Examples:
    """Return n reddish (class 0) and bluish (class 1) noisy pictures of 16 x 16."""
    labels = torch.arange(n) % 2
    colours = torch.tensor([[180, 70, 70], [70, 70, 180]])[labels][:, :, None, None]
    noise = torch.randint(-60, 61, (n, 3, 16, 16), generator=generator(0, name))
    return Examples(pictures=(colours + noise).to(torch.uint8), labels=labels)


@pytest.fixture(scope="session")
def train_set() -> Examples:
    return two_colours(192, "train")


@pytest.fixture(scope="session")
def test_set() -> Examples:
    return two_colours(64, "test")
