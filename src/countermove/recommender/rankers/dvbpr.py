"""DVBPR: a network that is trained to rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.learning.scoring import place, to_model
from countermove.nets.features import last_linear
from countermove.nets.registry import build_network, check_network
from countermove.pixels.randomness import generator
from countermove.recommender.extractor import item_table
from countermove.recommender.fitting import Fitted, Material
from countermove.recommender.judges import Judges
from countermove.recommender.ranker import DotRanker
from countermove.recommender.shop import Shop
from countermove.recommender.visual_bpr import check_settings

JUDGED_EVERY = 5
USER_RATE = 10
"""The users' vectors learn at ten times the network's rate: a row is drawn far less often."""


@dataclass(frozen=True, kw_only=True)
class Dvbpr:
    """Deep visually-aware Bayesian personalised ranking, Kang et al. 2017, arXiv:1711.02231.

    p_ui = theta_u . Phi(x_i): the network itself is trained to rank; thesis Eq. 2.5.

    network:    of ours; its last linear layer gives Phi (paper: CNN-F at 224 x 224).
    visual:     length of theta (paper: 100).
    epochs:     passes over all warm items, one of the pictures of each; the one that validates best is kept.
    lr:         of Adam for the network.
    reg:        weight decay of theta; the network has 1e-3 (paper: lambda_2 = 1, lambda_1 = 1e-3).
    batch_size: pictures a step.

    Differs from the paper: a step draws pictures, not pairs. It embeds a batch once and ranks every interaction with
    an item of the batch against a random item of the batch that its user did not touch, so every pair is as likely as
    before and a picture is embedded once for all its pairs. The released code leaves dropout on when it scores; our
    networks have none, and are always evaluated as such.
    """

    version: ClassVar[int] = 1
    network: str = "small-cnn"
    visual: int = 32
    epochs: int = 30
    lr: float = 0.001
    reg: float = 0.0001
    batch_size: int = 128

    def __post_init__(self) -> None:
        check_network(self.network)
        positive = {name: getattr(self, name) for name in ("visual", "epochs", "lr", "batch_size")}
        check_settings("dvbpr", positive, {"reg": self.reg})

    def extractor(self) -> None:
        """Return None: it learns from the pictures themselves."""

    def blank(self, shop: Shop, *, seed: int) -> nn.Module:
        """Return the network before training."""
        return build_network(self.network, self.visual, shop.side, generator(seed, "dvbpr"))

    def fit(self, material: Material) -> Fitted:
        """Train the network and the users' vectors together."""
        shop, seed, device = material.shop, material.seed, material.device
        network = place(self.blank(shop, seed=seed), device)
        source = generator(seed, "dvbpr-order")
        seekers = (0.1 * torch.randn(len(shop.users), self.visual, generator=source)).to(device).requires_grad_()
        optimizer = torch.optim.AdamW(
            [
                {"params": list(network.parameters()), "lr": self.lr, "weight_decay": 1e-3},
                {"params": [seekers], "lr": USER_RATE * self.lr, "weight_decay": self.reg},
            ]
        )
        judges, best, kept, seen = Judges(shop, seed), -1.0, None, 0
        for epoch in range(self.epochs):
            order = shop.warm[torch.randperm(len(shop.warm), generator=source)]
            network.train()
            for batch in order.split(self.batch_size):
                if len(batch) > 1:
                    loss = _loss(network, seekers, shop, batch, source, device)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    seen += len(batch)
            if (epoch + 1) % JUDGED_EVERY == 0 or epoch + 1 == self.epochs:
                ranker = _ranker(network, seekers, shop, device)
                quality = judges.quality(ranker.pairs)
                if quality > best or judges.absent:
                    state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
                    best, kept = quality, (ranker, state)
        assert kept is not None, "at least one epoch was judged"
        network.load_state_dict(kept[1])
        network.eval()
        return Fitted(kept[0], seen)


def _loss(
    network: nn.Module, seekers: Tensor, shop: Shop, batch: Tensor, source: torch.Generator, device: str
) -> Tensor:
    """Return the mean of -ln sigmoid(p_ui - p_uj) over the interactions with items i of a batch; j is of it, too."""
    place_of = torch.full((len(shop.items),), -1)
    place_of[batch] = torch.arange(len(batch))
    at = place_of[shop.train[:, 1]]
    users, liked = shop.train[at >= 0, 0], at[at >= 0]
    other = torch.randint(len(batch), (len(users),), generator=source)
    good = ~shop.touched(users, batch[other])
    users, liked, other = users[good].to(device), liked[good].to(device), other[good].to(device)
    embedded = network(to_model(shop.drawn(batch, source), device))
    preference = (seekers[users] * (embedded[liked] - embedded[other])).sum(1)
    return -F.logsigmoid(preference).sum() / max(1, len(users))


@torch.no_grad()
def _ranker(network: nn.Module, seekers: Tensor, shop: Shop, device: str) -> DotRanker:
    """Return a ranker on the network's features; the last layer's bias moves all of a user's scores alike."""
    projection = last_linear(network).weight.detach().cpu().t().clone()
    nothing = torch.zeros(len(shop.items), 1)
    return DotRanker(
        network=network,
        projection=projection,
        scale=None,
        seekers=seekers.detach().cpu().clone(),
        catalogue=item_table(network, shop, device=device) @ projection,
        user_factors=torch.zeros(len(shop.users), 1),
        item_factors=nothing,
        item_bias=nothing[:, 0].clone(),
        aggregate="sum-exp",
    )
