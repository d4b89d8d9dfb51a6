"""Small networks trained on the public's pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from countermove.errors import ConfigError
from countermove.learning.loop import train
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples
from countermove.nets.registry import build_network, check_network
from countermove.pixels.randomness import generator
from countermove.profiles.dataset import Medium, Profiles
from countermove.profiles.extractor import ItemNetwork, check_medium
from countermove.profiles.extractors.parts import Standardised, labelled_public, without_head


@dataclass(frozen=True, kw_only=True)
class Small:
    """A small network trained to name what public pictures show; its features are what enters its last layer.

    It stands in for networks with public weights where there are none. The features are standardised by the public's.

    network:    one of ours, as on the command line: small-residual, 'small-cnn(width=2)', resnet-18.
    epochs, lr: of SGD with momentum, batches of 64, random crop and flip.
    build:      another number is another draw of weights and order.
    """

    version: ClassVar[int] = 1
    media: ClassVar[tuple[Medium, ...]] = ("picture",)
    stored: ClassVar[bool] = True
    learned: ClassVar[bool] = False
    network: str = "small-residual"
    epochs: int = 8
    lr: float = 0.1
    build: int = 0

    def __post_init__(self) -> None:
        check_network(self.network)
        if self.epochs < 1 or self.lr <= 0:
            raise ConfigError("extractor small: epochs and lr are above 0")

    def blank(self, data: Profiles, *, seed: int) -> ItemNetwork:
        """Return the network whose weights are still to be read.

        Raises:
            ConfigError: when these are no pictures, or too small ones.
        """
        check_medium(self, data, "small")
        side = data.items.shape[-1]
        return _headless(build_network(self.network, 2, side, generator(seed, "extractor", self.build)), side)

    def fit(self, data: Profiles, *, seed: int, device: str = "cpu") -> tuple[ItemNetwork, int]:
        """Train it on the public's pictures.

        Raises:
            ConfigError: when these are no pictures, or too small ones.
            DataError: when the public shows fewer than two classes.
        """
        check_medium(self, data, "small")
        rows, labels, classes = labelled_public(data, "small")
        side, pictures = data.items.shape[-1], data.items[rows]
        network = build_network(self.network, classes, side, generator(seed, "extractor", self.build))
        log = train(
            network,
            Examples(pictures=pictures, labels=labels),
            Examples(pictures=pictures[:100], labels=labels[:100]),
            recipe=Recipe(epochs=self.epochs, lr=self.lr),
            seed=int(torch.randint(2**31, (), generator=generator(seed, "extractor order", self.build))),
            classes=classes,
            device=device,
        )
        network = _headless(network.cpu(), side)
        # A feature that the public hardly moves is mostly one that a move could.
        network.learn(pictures, "picture", device=device, least=0.1)
        return network.eval(), log.samples


def _headless(network: torch.nn.Module, side: int) -> Standardised:
    body = without_head(network, torch.zeros(1, 3, side, side))
    with torch.no_grad():
        dim = body.eval()(torch.zeros(1, 3, side, side)).flatten(1).shape[1]
    return Standardised(body, dim)
