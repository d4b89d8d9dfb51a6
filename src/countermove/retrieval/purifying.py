"""A small network that takes changes away from pictures. Legend: N pictures or pieces of them, S side of a piece."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import DataError
from countermove.learning.scoring import place, to_model
from countermove.nets.parts import seeded
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.steps import frozen
from countermove.retrieval.plan import Purification

BATCH, PIECE = 32, 64


class PurifyingNetwork(nn.Module):
    """Four convolutions whose output is added to a picture of any size; before training they add nothing."""

    def __init__(self, width: int) -> None:
        """Draw the weights from the global random state."""
        super().__init__()
        last = nn.Conv2d(width, 3, 3, padding=1, padding_mode="replicate")
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias if last.bias is not None else torch.zeros(3))
        layers: list[nn.Module] = []
        for channels in (3, width, width):
            layers += [nn.Conv2d(channels, width, 3, padding=1, padding_mode="replicate"), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, last)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return purified pictures [N, 3, H, W], clipped to [0, 1]."""
        return (pictures + self.layers(pictures - 0.5)).clamp(0, 1)


def blank_purifier(width: int, *, seed: int) -> PurifyingNetwork:
    """Return an untrained network."""
    with seeded(generator(seed, "purifier")):
        return PurifyingNetwork(width)


def fit_purifier(
    network: PurifyingNetwork,
    describer: nn.Module | None,
    clean: Sequence[Tensor],
    changed: Sequence[Tensor],
    *,
    asked: Purification,
    seed: int,
    device: str,
) -> int:
    """Train a network in place to turn changed pictures into clean ones and to leave clean ones alone.

    It sees one piece of every picture in every epoch, the same of both, where both are as large; smaller pictures
    are continued by their border.

    Args:
        network: what is trained.
        describer: whose descriptors shall be the clean ones'; it stays as it is. None: pixels alone count.
        clean: uint8 [3, H, W] each.
        changed: the same pictures changed, or clean once more.
        asked: how.
        seed: of the order and the pieces.
        device: where.

    Returns:
        Forward-backward passes of a piece.

    Raises:
        DataError: no pictures, or pairs that differ in size.
    """
    if not clean or len(clean) != len(changed):
        raise DataError(
            f"a purifier learns from pairs of pictures; there are {len(clean)} clean, {len(changed)} changed"
        )
    place(network, device)
    source = generator(seed, "purifying")
    optimizer = torch.optim.Adam(network.parameters(), lr=asked.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, asked.epochs * math.ceil(len(clean) / BATCH))
    network.train()
    with frozen(place(describer or nn.Identity(), device)) as described:
        for _ in range(asked.epochs):
            for rows in torch.randperm(len(clean), generator=source).split(BATCH):
                pairs = [_piece(clean[row], changed[row], source) for row in rows.tolist()]
                truth, given = (to_model(torch.stack(side), device) for side in zip(*pairs, strict=True))
                found = network(given)
                loss = F.mse_loss(found, truth)
                if describer is not None and asked.weight:
                    with torch.no_grad():
                        wanted = described(truth)
                    loss = loss + asked.weight * (described(found) - wanted).square().sum(1).mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
    network.eval()
    return asked.epochs * len(clean)


def _piece(clean: Tensor, changed: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cut the same square out of both, uint8 [3, S, S]."""
    if clean.shape != changed.shape:
        raise DataError(f"a changed picture of {list(changed.shape)} is none of a clean one of {list(clean.shape)}")
    height, width = clean.shape[1:]
    rows, columns = (
        (torch.arange(PIECE) + int(torch.randint(max(1, side - PIECE + 1), (), generator=source))).clamp(max=side - 1)
        for side in (height, width)
    )
    return clean[:, rows][:, :, columns], changed[:, rows][:, :, columns]


@torch.no_grad()
def purify(picture: Tensor, *, network: PurifyingNetwork, device: str) -> Tensor:
    """Return a picture uint8 [3, H, W] purified, where it came from."""
    with frozen(place(network, device)):
        return to_uint8(network(to_float(picture)[None].to(device))[0].to(picture.device))
