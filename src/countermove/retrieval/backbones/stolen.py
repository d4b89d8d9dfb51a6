"""A network of the mover's own, trained on nothing but the lists that an engine returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import Training
from countermove.learning.scoring import place, to_model
from countermove.nets.registry import check_network
from countermove.pixels.randomness import generator
from countermove.retrieval.backbone import Describer
from countermove.retrieval.backbones.small import Small, common_side, resized
from countermove.retrieval.collection import Collection


@dataclass(frozen=True, kw_only=True)
class Stolen:
    """A small network that ranks as an engine was seen to rank, after Li et al. 2019, arXiv:1812.00552.

    Public pictures are sent as queries. Of the pictures that come back, one that stood higher should be nearer to the
    query than one that stood lower, and either nearer than one that came back for another query.

    network: one of ours, as for the backbone small.
    side:    to which pictures are resized for training; 0: the public ones' where all have one size, else 64.
    length:  of the lists that are looked at.
    scale:   factor on differences of cosines.
    epochs, lr: of Adam, over the queries.
    build:   another number is another draw of weights and order.

    Differs from the paper: differences of cosines pass through softplus instead of a hinge with margins by rank.
    """

    version: ClassVar[int] = 1
    stored: ClassVar[bool] = True
    network: str = "small-cnn"
    side: int = 0
    length: int = 10
    scale: float = 16.0
    epochs: int = 20
    lr: float = 0.002
    build: int = 0

    def __post_init__(self) -> None:
        if self.length < 2 or self.epochs < 1 or self.lr <= 0 or self.scale <= 0:
            raise ConfigError("backbone stolen: length is at least 2, epochs at least 1, scale and lr above 0")
        check_network(self.network)

    @property
    def _small(self) -> Small:
        return Small(network=self.network, side=self.side, build=self.build)

    def blank(self, collection: Collection, *, seed: int) -> Describer:
        """Return the untrained network."""
        return self._small.blank(collection, seed=seed)

    def fit(
        self, collection: Collection, *, seed: int, device: str = "cpu", checkpoint: Checkpoint | None = None
    ) -> tuple[Describer, Training]:
        """Refuse: without an engine's lists there is nothing to learn from; see `steal`."""
        raise ConfigError("backbone stolen is made from lists that an engine returns; only a move can be made on it")

    def steal(
        self, collection: Collection, asked: Tensor, answers: Tensor, *, seed: int, device: str = "cpu"
    ) -> tuple[Describer, int]:
        """Return the network and the forward-backward passes of a picture that it took.

        Args:
            collection: whose pictures were sent and came back.
            asked: rows of the pictures that were sent, int64 [A].
            answers: rows of those that came back, the best first, int64 [A, L].
            seed: of weights and order.
            device: where to train.

        Raises:
            DataError: when fewer than two were sent, or lists hold fewer than two pictures.
        """
        if len(asked) < 2 or answers.shape[1] < 2:
            raise DataError(f"{len(asked)} lists of {answers.shape[1]} pictures teach nothing; 2 lists of 2 are needed")
        answers = answers[:, : self.length]
        network = self.blank(collection, seed=seed).train()
        place(network, device)
        side = self.side or common_side(collection)
        needed, places = torch.cat([asked, answers.flatten()]).unique(return_inverse=True)
        pictures = torch.stack([resized(collection.pictures[row], side) for row in needed.tolist()])
        sent, listed = places[: len(asked)], places[len(asked) :].view_as(answers)
        source, samples = generator(seed, "stolen", self.build), 0
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(sent), generator=source).split(16):
                if len(rows) < 2:
                    continue
                high, low = _two_ranks(len(rows), listed.shape[1], source)
                other = listed[rows.roll(1), high]
                batch = torch.cat([sent[rows], listed[rows, high], listed[rows, low], other])
                query, near, far, foreign = network(to_model(pictures[batch], device)).chunk(4)
                gaps = [(query * (b - a)).sum(1) for a, b in ((near, far), (near, foreign), (far, foreign))]
                loss = torch.stack([F.softplus(self.scale * gap).mean() for gap in gaps]).sum()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                samples += len(batch)
        return network.eval(), samples


def _two_ranks(count: int, length: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return two different places of a list, the better one first, [count] each."""
    first = torch.randint(length, (count,), generator=source)
    second = (first + torch.randint(1, length, (count,), generator=source)) % length
    return torch.minimum(first, second), torch.maximum(first, second)
