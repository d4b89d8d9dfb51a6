"""A small network that takes changes away from pictures. Legend: N pictures of 3 x H x W."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.learning.scoring import place, to_model
from countermove.nets.parts import seeded
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_uint8
from countermove.pixels.steps import frozen
from countermove.retrieval.backbone import by_shape
from countermove.retrieval.plan import Purification

AT_ONCE = 32


class PurifierNetwork(nn.Module):
    """Five convolutions that predict what was added to a picture, and take it off; of any size."""

    def __init__(self, width: int) -> None:
        """Make it; it changes nothing before it is trained."""
        super().__init__()
        channels = [3, width, width, width, width]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        last = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # pyright: ignore[reportArgumentType]
        self.net = nn.Sequential(*layers, last)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the pictures without what it sees as added."""
        return (pictures - self.net(pictures)).clamp(0, 1)


def blank_purifier(width: int, *, seed: int) -> PurifierNetwork:
    """Return an untrained purifier."""
    with seeded(generator(seed, "purifier")):
        return PurifierNetwork(width)


def fit_purifier(
    network: PurifierNetwork,
    given: Sequence[Tensor],
    clean: Sequence[Tensor],
    *,
    asked: Purification,
    seed: int,
    device: str = "cpu",
) -> int:
    """Train it in place to return clean pictures for given ones, uint8 [3, H, W] each; returns pictures passed."""
    place(network, device)
    source = generator(seed, "purifier's order")
    optimizer = torch.optim.Adam(network.parameters(), lr=asked.lr)
    network.train()
    for _ in range(asked.epochs):
        order = torch.randperm(len(given), generator=source).tolist()
        mixed = [given[row] for row in order]
        for rows in by_shape(mixed, AT_ONCE):
            shown = to_model(torch.stack([mixed[row] for row in rows]), device)
            wanted = to_model(torch.stack([clean[order[row]] for row in rows]), device)
            optimizer.zero_grad()
            F.mse_loss(shown - network.net(shown), wanted).backward()
            optimizer.step()
    network.eval()
    return asked.epochs * len(given)


@torch.no_grad()
def purified(network: PurifierNetwork, picture: Tensor, *, device: str = "cpu") -> Tensor:
    """Return a picture uint8 [3, H, W] without what the network sees as added."""
    with frozen(place(network, device)):
        return to_uint8(network(to_model(picture[None], device)).cpu())[0]
