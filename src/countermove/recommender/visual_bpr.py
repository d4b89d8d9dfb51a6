"""Learning VBPR and AMR: pairwise ranking on item factors and on features of the items' pictures.

Legend: U users, I items, D features, K visual factors, F item factors, n triples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.randomness import generator
from countermove.recommender.fitting import Fitted, Material
from countermove.recommender.judges import Judges
from countermove.recommender.ranker import DotRanker
from countermove.recommender.triples import Triples, epoch_of_triples

JUDGED_EVERY = 2


class Preferring(Protocol):
    """What is learned, whatever form it has."""

    def preference(self, t: Triples, liked: Tensor, other: Tensor) -> Tensor:
        """Return p_ui - p_uj for triples [n], given the features [n, D] of both items."""
        ...

    def decay(self, t: Triples) -> Tensor:
        """Return the squared lengths of the drawn rows, a triple."""
        ...


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How it is learned; see Vbpr and Amr, which say what each is."""

    factors: int
    visual: int
    epochs: int
    lr: float
    reg: float
    batch_size: int
    eps: float = 0.0
    weight: float = 0.0
    on_parameters: bool = False


@dataclass
class Parameters:
    """What is learned: float [U, F], [I, F], [I], [U, K], [D, K], [D]."""

    users: Tensor
    items: Tensor
    bias: Tensor
    seekers: Tensor
    projection: Tensor
    looks: Tensor

    def all(self) -> list[Tensor]:
        """Return them in order."""
        return [getattr(self, f.name) for f in fields(self)]

    def moved(self, changes: list[Tensor]) -> Parameters:
        """Return them with something added to each."""
        return Parameters(*(mine + change for mine, change in zip(self.all(), changes, strict=True)))

    def preference(self, t: Triples, liked: Tensor, other: Tensor) -> Tensor:
        """Return p_ui - p_uj for triples, given the features [n, D] of both items: Eq. 2.2 without what cancels."""
        difference = liked - other
        by_factors = (self.users[t.users] * (self.items[t.liked] - self.items[t.other])).sum(1)
        by_looks = (self.seekers[t.users] * (difference @ self.projection)).sum(1) + difference @ self.looks
        return by_factors + by_looks + self.bias[t.liked] - self.bias[t.other]

    def decay(self, t: Triples) -> Tensor:
        """Return the squared lengths of the drawn rows, a triple. What all share (E and beta') does not decay."""
        rows = self.users[t.users].square().sum() + self.seekers[t.users].square().sum()
        for item in (t.liked, t.other):
            rows = rows + self.items[item].square().sum() + self.bias[item].square().sum()
        return rows / len(t.users)


def fit_visual_bpr(material: Material, settings: Settings) -> Fitted:
    """Learn by Adam; the epoch that validates best is kept."""
    shop, seed = material.shop, material.seed
    network, table = material.features()
    device = material.device
    scale = _scale(table[shop.warm])
    features = ((table - scale[0]) / scale[1]).to(device)
    source = generator(seed, "visual-bpr")
    learned = _fresh(len(shop.users), len(shop.items), table.shape[1], settings, source, device)
    optimizer = torch.optim.Adam(learned.all(), lr=settings.lr)
    judges, best, kept, seen = Judges(shop, seed), -1.0, None, 0
    for epoch in range(settings.epochs):
        for drawn in epoch_of_triples(shop, settings.batch_size, source):
            t = Triples(drawn.users.to(device), drawn.liked.to(device), drawn.other.to(device))
            loss = pairwise_loss(learned, t, features, settings)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(t.users) * (2 if settings.weight else 1)
        if (epoch + 1) % JUDGED_EVERY == 0 or epoch + 1 == settings.epochs:
            ranker = _ranker(learned, network, features, scale, shop.cold)
            quality = judges.quality(ranker.pairs)
            if quality > best or judges.absent:
                best, kept = quality, ranker
    assert kept is not None, "at least one epoch was judged"
    return Fitted(kept, seen)


def pairwise_loss(learned: Preferring, t: Triples, features: Tensor, settings: Settings) -> Tensor:
    """Return the mean of -ln sigmoid over triples, plus the adversary's share, plus weight decay (Eq. 2.11)."""
    liked, other = features[t.liked], features[t.other]
    loss = -F.logsigmoid(learned.preference(t, liked, other)).mean()
    if settings.weight:
        loss = loss + settings.weight * _against_adversary(learned, t, liked, other, settings)
    return loss + settings.reg * learned.decay(t)


def _against_adversary(learned: Preferring, t: Triples, liked: Tensor, other: Tensor, settings: Settings) -> Tensor:
    """Return the loss after the adversary changed the features of both items, or all parameters, to raise it."""
    if settings.on_parameters:
        assert isinstance(learned, Parameters), "what goes on from a ranker has an adversary of features"
        gradients = torch.autograd.grad(-F.logsigmoid(learned.preference(t, liked, other)).sum(), learned.all())
        changes = [settings.eps * change for change in _steps(learned, gradients)]
        return -F.logsigmoid(learned.moved(changes).preference(t, liked, other)).mean()
    pair = [side.detach().requires_grad_() for side in (liked, other)]
    gradients = torch.autograd.grad(-F.logsigmoid(learned.preference(t, *pair)).sum(), pair)
    reach = settings.eps * liked.shape[1] ** 0.5  # the mean length of features is the root of their number
    moved = [side + reach * F.normalize(g, dim=1) for side, g in zip((liked, other), gradients, strict=True)]
    return -F.logsigmoid(learned.preference(t, *moved)).mean()


def _steps(learned: Parameters, gradients: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield a change of every parameter: each row along its gradient, by the mean length of the parameter's rows."""
    for f, gradient in zip(fields(learned), gradients, strict=True):
        parameter = getattr(learned, f.name)
        rows = [t[:, None] if f.name == "bias" else t for t in (parameter.detach(), gradient)]  # a bias is a row itself
        length = torch.linalg.vector_norm(rows[0], dim=-1).mean()
        yield (length * F.normalize(rows[1], dim=-1)).view_as(parameter)


def _fresh(users: int, items: int, width: int, settings: Settings, source: torch.Generator, device: str) -> Parameters:
    def draw(rows: int, columns: int, spread: float) -> Tensor:
        return (spread * torch.randn(rows, columns, generator=source)).to(device).requires_grad_()

    return Parameters(
        users=draw(users, settings.factors, 0.1),
        items=draw(items, settings.factors, 0.1),
        bias=torch.zeros(items, device=device, requires_grad=True),
        seekers=draw(users, settings.visual, 0.1),
        projection=draw(width, settings.visual, 0.1),
        looks=torch.zeros(width, device=device, requires_grad=True),
    )


def _scale(features: Tensor) -> Tensor:
    """Return the mean of features, and one width that brings their mean square to one: [2, D]."""
    mean = features.mean(0)
    width = (features - mean).square().mean().sqrt().clamp_min(1e-6)
    return torch.stack([mean, width.expand_as(mean)])


@torch.no_grad()
def _ranker(learned: Parameters, network: torch.nn.Module, features: Tensor, scale: Tensor, cold: Tensor) -> DotRanker:
    """Return what was learned as a ranker; the visual bias of Eq. 2.2's code is one more visual factor."""
    projection = torch.cat([learned.projection, learned.looks[:, None]], dim=1).cpu()
    seekers = torch.cat([learned.seekers, torch.ones_like(learned.seekers[:, :1])], dim=1).cpu()
    items, bias = learned.items.detach().cpu().clone(), learned.bias.detach().cpu().clone()
    items[cold], bias[cold] = 0, 0
    return DotRanker(
        network=network,
        projection=projection,
        scale=scale,
        seekers=seekers,
        catalogue=features.cpu() @ projection,
        user_factors=learned.users.detach().cpu().clone(),
        item_factors=items,
        item_bias=bias,
    )


def check_settings(name: str, positive: Mapping[str, float], not_negative: Mapping[str, float]) -> None:
    """Refuse what cannot be learned with.

    Raises:
        ConfigError: a setting that must be above zero and is not, or a negative one.
    """
    for key, value in positive.items():
        if value <= 0:
            raise ConfigError(f"model {name!r}: {key} = {value} is refused: it must be above 0")
    for key, value in not_negative.items():
        if value < 0:
            raise ConfigError(f"model {name!r}: {key} = {value} is refused: it must not be negative")
