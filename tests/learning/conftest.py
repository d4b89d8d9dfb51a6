"""One thread for every test of this room, and toy pictures that a network learns at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from countermove.learning.scoring import Examples
from countermove.pixels.randomness import generator


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
