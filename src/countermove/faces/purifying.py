"""A small network that takes cloaks away from photos. Legend: N photos."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.faces.trainer import Purification
from countermove.learning.scoring import place, to_model
from countermove.nets.parts import seeded
from countermove.pixels.randomness import generator
from countermove.pixels.steps import frozen

BATCH = 32


class PurifyingNetwork(nn.Module):
    """Four convolutions whose output is added to a photo; before training they add nothing."""

    def __init__(self, width: int) -> None:
        """Draw the weights from the global random state."""
        super().__init__()
        last = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias if last.bias is not None else torch.zeros(3))
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            last,
        )

    def forward(self, photos: Tensor) -> Tensor:
        """Return purified photos [N, 3, S, S], clipped to [0, 1]."""
        return (photos + self.layers(photos - 0.5)).clamp(0, 1)


def blank_purifier(width: int, *, seed: int) -> PurifyingNetwork:
    """Return an untrained network."""
    with seeded(generator(seed, "purifier")):
        return PurifyingNetwork(width)


def fit_purifier(
    network: PurifyingNetwork,
    embedder: nn.Module,
    clean: Tensor,
    cloaked: Tensor,
    *,
    asked: Purification,
    seed: int,
    device: str,
) -> int:
    """Train a network in place to turn cloaked photos into clean ones and to leave clean ones alone.

    Args:
        network: what is trained.
        embedder: whose features shall be the clean photo's; it stays as it is.
        clean: uint8 [N, 3, S, S].
        cloaked: the same photos cloaked, or clean once more.
        asked: how.
        seed: of the order.
        device: where.

    Returns:
        Forward-backward passes of a photo.
    """
    place(network, device)
    source = generator(seed, "purifying")
    optimizer = torch.optim.Adam(network.parameters(), lr=asked.lr)
    steps = asked.epochs * math.ceil(len(clean) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    with frozen(place(embedder, device)):
        for _ in range(asked.epochs):
            for rows in torch.randperm(len(clean), generator=source).split(BATCH):
                truth, given = to_model(clean[rows], device), to_model(cloaked[rows], device)
                with torch.no_grad():
                    wanted = embedder(truth)
                found = network(given)
                features = (embedder(found) - wanted).square().sum(1).mean()
                loss = F.mse_loss(found, truth) + asked.weight * features
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
    network.eval()
    return asked.epochs * len(clean)


@torch.no_grad()
def purify(photos: Tensor, *, network: PurifyingNetwork, device: str) -> Tensor:
    """Return float photos [N, 3, S, S] purified, where they came from."""
    with frozen(place(network, device)):
        return network(photos.to(device).contiguous(memory_format=torch.channels_last)).to(photos)
