"""A small autoencoder of limited rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.learning.scoring import place, to_model
from countermove.nets.parts import seeded
from countermove.pixels.randomness import generator
from countermove.unlearnable.countermeasure import Plan, ReplyContext, check_halves

_PORTION = 500


@dataclass(frozen=True, kw_only=True)
class Purifier:
    """Purification by a rate-limited autoencoder, Yu et al. 2024, arXiv:2405.01460.

    A small variational autoencoder is trained on the received pictures alone and replaces every one by its
    reconstruction. It may spend only so much information on a picture, and goes for what explains most of its energy:
    small noise is left out. One latent position stands for 4 x 4 pixels.

    rate:       nats that a latent position may carry on average; more is punished. With 3, reconstructions of CIFAR-10
                are about as far from the pictures as JPEG's at quality 10.
    channels:   of a latent position: the bottleneck.
    width:      channels of the hidden layers.
    epochs:     of the autoencoder (paper: 60).
    batch_size: pictures a step.
    lr:         of Adam, under a cosine schedule (paper: 5e-3).
    train:      purify what was received.
    test:       purify the pictures that the trained model judges.

    Differs from the paper: one pass instead of two, and no class-wise embeddings that learn the noise so that it can be
    subtracted: only the rate limits it. The network is ours and smaller.
    """

    version: ClassVar[int] = 1

    rate: float = 3.0
    channels: int = 16
    width: int = 32
    epochs: int = 15
    batch_size: int = 64
    lr: float = 5e-3
    train: bool = True
    test: bool = False

    def __post_init__(self) -> None:
        check_halves(self.train, self.test)
        if min(self.channels, self.width, self.epochs, self.batch_size) < 1:
            raise ConfigError("purifier: channels, width, epochs and batch_size are refused below 1")
        if not 0 < self.rate < math.inf or not 0 < self.lr < 1:
            raise ConfigError(
                f"purifier: rate = {self.rate}, lr = {self.lr} is refused: a rate above 0, such as 3, and an lr "
                "between 0 and 1, such as 0.005"
            )

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the plan with reconstructed pictures."""
        network = self._trained(plan.received.pictures, context)
        squeeze = partial(reconstruct, network=network, device=context.device)
        spent = plan.samples + self.epochs * len(plan.received)
        return replace(plan.squeezed(squeeze, train=self.train, test=self.test), samples=spent)

    def _trained(self, pictures: Tensor, context: ReplyContext) -> Autoencoder:
        source = generator(context.seed, "purifier")
        with seeded(source):
            network = Autoencoder(self.width, self.channels)
        place(network, context.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        steps = self.epochs * math.ceil(len(pictures) / self.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(pictures), generator=source).split(self.batch_size):
                x = to_model(pictures[rows], context.device)
                seen, nats = network(x, source)
                # The squared error of a picture, against a unit Gaussian's: both terms are then in nats a position.
                loss = F.mse_loss(seen, x) / _NOISE + F.relu(nats - self.rate)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
        return network.eval()


_NOISE = (8 / 255) ** 2


class Autoencoder(nn.Module):
    """From pictures [N, 3, H, W] to [N, channels, H/4, W/4] and back; any size."""

    def __init__(self, width: int, channels: int) -> None:
        """Build the network from the global random state."""
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * channels, 3, 1, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, 2 * width, 3, 1, 1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 4 * width, 3, 1, 1),
            nn.PixelShuffle(2),
            nn.SiLU(),
            nn.Conv2d(width, 12, 3, 1, 1),
            nn.PixelShuffle(2),
        )

    def forward(self, pictures: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return reconstructions from noisy latents, and the mean information of a latent position in nats."""
        mean, spread = self.encoder(pictures * 2 - 1).chunk(2, dim=1)
        spread = (spread - 2).clamp(-8, 8)  # begins with little noise, so that something passes to learn from
        noise = torch.randn(mean.shape, generator=source).to(mean.device)
        nats = 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(1).mean()
        return self._decode(mean + noise * (spread / 2).exp(), pictures), nats

    def clean(self, pictures: Tensor) -> Tensor:
        """Return reconstructions from the latents' means."""
        return self._decode(self.encoder(pictures * 2 - 1).chunk(2, dim=1)[0], pictures)

    def _decode(self, latent: Tensor, like: Tensor) -> Tensor:
        return self.decoder(latent)[..., : like.shape[2], : like.shape[3]] / 2 + 0.5


@torch.no_grad()
def reconstruct(pictures: Tensor, *, network: Autoencoder, device: str) -> Tensor:
    """Return what the autoencoder makes of float pictures [N, 3, H, W], in [0, 1]."""
    parts = []
    for part in pictures.split(_PORTION):
        placed = part.to(device).contiguous(memory_format=torch.channels_last)
        parts.append(network.clean(placed).clamp(0, 1).to(part))
    return torch.cat(parts)
