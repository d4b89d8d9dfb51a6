"""One thread for every test of this room; a tiny shop made by hand, and a network to see its pictures with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.threads import one_thread as one_thread
from torch import Tensor, nn

from countermove.nets.registry import build_network
from countermove.pixels.randomness import generator
from countermove.recommender.extractor import feature_table
from countermove.recommender.fitting import Material
from countermove.recommender.shop import Shop


@pytest.fixture
def shop() -> Shop:
    """12 users, 20 items of 16 x 16: users 0 to 5 touch items 0 to 9, which are red, the others 10 to 19, blue.

    Items 8, 9, 18, 19 are cold. User 5 has no test and no validation item, user 11 no validation item.
    """
    pairs, validation, test = [], [], []
    for user in range(12):
        first = 0 if user < 6 else 10
        at = [first + (user + k) % 8 for k in range(6)]
        pairs += [(user, item) for item in at[:4]]
        validation.append(at[4])
        test.append(at[5])
    validation[5] = test[5] = validation[11] = -1
    red, blue = torch.tensor([0.8, 0.2, 0.2]), torch.tensor([0.2, 0.2, 0.8])
    colours = torch.stack([red] * 10 + [blue] * 10)[:, :, None, None]
    noise = 0.2 * torch.rand(20, 3, 16, 16, generator=generator(0, "shop")) - 0.1
    return Shop(
        name="made-up",
        users=tuple(f"u{k}" for k in range(12)),
        items=tuple(f"i{k}" for k in range(20)),
        pictures=((colours + noise) * 255).round().to(torch.uint8),
        train=torch.tensor(sorted(pairs)),
        validation=torch.tensor(validation),
        test=torch.tensor(test),
        cold=torch.tensor([8, 9, 18, 19]),
        categories=("red", "blue"),
        category=torch.tensor([0] * 10 + [1] * 10),
    )


@pytest.fixture
def network() -> nn.Module:
    """An untrained network for these pictures with 32 features; its batch norms have numbers that training changes."""
    built = build_network("small-pooled(width=0.25)", 4, 16, generator(0, "network"))
    for name, buffer in built.named_buffers():
        if "running_var" in name:
            buffer.uniform_(0.5, 1.5, generator=generator(1))
    return built.eval()


@pytest.fixture
def material(shop: Shop, network: nn.Module) -> Callable[[int], Material]:
    """What rankers are fitted on, for a seed."""
    table = feature_table(network, shop.pictures)
    return lambda seed: Material(shop=shop, seed=seed, network=network, table=table)


@pytest.fixture
def pictures() -> Tensor:
    """Three random pictures of 16 x 16 as float64."""
    return torch.rand(3, 3, 16, 16, generator=generator(5), dtype=torch.float64)
