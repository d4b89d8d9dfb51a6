"""Fitted rankers: what orders a user's list by the items' pictures. Legend: U users, I items, N pictures, K embedding.

A ranker method (model axis) is a frozen dataclass with `fit`; what it returns is one of the two kinds here. Both give
an item that nobody touched a score from its picture alone::

    embed(pictures [N, 3, H, W]) -> [N, K]       differentiable
    visual(embedded [N, K])      -> [U, N]       scores of items known by their picture only; differentiable
    appeal(embedded, aggregate)  -> [N]          what an insider maximises, over all users at once; differentiable
    score(users [u], items [n])  -> [u, n]       scores of items in the catalogue
    pairs(users [u], items [u, n]) -> [u, n]     the same, other items for every user: what lists are made of
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from countermove.errors import DataError
from countermove.learning.scoring import EVALUATION_BATCH, place, to_model
from countermove.pixels.steps import frozen
from countermove.recommender.extractor import features_of
from countermove.recommender.shop import Shop

Aggregate = Literal["sum", "sum-exp"]


class Ranker(ABC):
    """A fitted ranker. `network` turns pictures into features; it stays as it is."""

    network: nn.Module
    catalogue: Tensor
    """float [I, K], the embedded pictures of all items."""
    aggregate: Aggregate
    """What the paper's insider maximises for this ranker (Eq. 2.6)."""

    @abstractmethod
    def embed(self, pictures: Tensor) -> Tensor:
        """Return embeddings [N, K] of float pictures [N, 3, H, W]; differentiable."""

    @abstractmethod
    def visual(self, embedded: Tensor, users: Tensor | None = None) -> Tensor:
        """Return scores [U, N] of items that are known by their pictures only; differentiable."""

    @abstractmethod
    def appeal(self, embedded: Tensor, aggregate: Aggregate) -> Tensor:
        """Return [N]: scores summed over all users, or the logarithm of the sum of their exponentials."""

    @abstractmethod
    def score(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        """Return scores [u, n] of items in the catalogue (all of them: None)."""

    @abstractmethod
    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Return scores [u, n] of users [u] and, for each, its own items of the catalogue [u, n]."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return what must be stored besides the network."""

    @abstractmethod
    def recatalogued(self, catalogue: Tensor) -> Ranker:
        """Return the same ranker with other pictures in the catalogue, embedded: [I, K]."""

    @abstractmethod
    def placed(self, device: str) -> Ranker:
        """Return the same ranker with its network and its tables on a device."""

    @property
    @abstractmethod
    def users(self) -> int:
        """Return how many users it knows."""

    @torch.no_grad()
    def embed_uint8(self, pictures: Tensor, *, device: str = "cpu") -> Tensor:
        """Return embeddings of 8-bit pictures, float [N, K] on the CPU."""
        with frozen(self.network):
            parts = [self.embed(to_model(part, device)).float().cpu() for part in pictures.split(EVALUATION_BATCH)]
        return torch.cat(parts)

    def rank(self, user: int, items: Tensor) -> Tensor:
        """Return catalogue items, the best first; equal scores in the order given.

        Raises:
            DataError: when a score is no number.
        """
        scores = self.score(torch.tensor([user]), items)[0]
        check_scores(scores)
        return items[scores.argsort(descending=True, stable=True)]

    def recommend(self, user: int, shop: Shop, k: int) -> Tensor:
        """Return the k best items that the user did not touch."""
        touched = shop.train[shop.train[:, 0] == user, 1]
        free = torch.ones(len(shop.items), dtype=torch.bool)
        free[touched] = False
        return self.rank(user, free.nonzero().flatten())[:k]

    def save(self, path: Path) -> None:
        """Store all that was learned, the network's weights included."""
        weights = {f"network.{name}": tensor.detach().cpu() for name, tensor in self.network.state_dict().items()}
        tensors = {**self.tensors(), **weights}
        dense = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        save_file(dense, path, metadata={"aggregate": self.aggregate})


@dataclass(frozen=True, kw_only=True, eq=False)
class DotRanker(Ranker):
    """Scores are dot products of what a user looks for and an item's embedded picture, plus learned item factors.

    network:      gives features [N, D].
    scale:        float [2, D], mean and width that features are brought to before the projection; None: as they are.
    projection:   float [D, K].
    seekers:      float [U, K], what users look for.
    catalogue:    float [I, K].
    user_factors: float [U, F]; item_factors: float [I, F]; item_bias: float [I]. Zero for cold items, who have no
                  history to learn them from.
    """

    network: nn.Module
    projection: Tensor
    scale: Tensor | None
    seekers: Tensor
    catalogue: Tensor
    user_factors: Tensor
    item_factors: Tensor
    item_bias: Tensor
    aggregate: Aggregate = "sum"

    @property
    def users(self) -> int:
        """Return how many users it knows."""
        return len(self.seekers)

    def embed(self, pictures: Tensor) -> Tensor:
        """Return embeddings [N, K]; differentiable."""
        return self.project(features_of(self.network, pictures))

    def project(self, features: Tensor) -> Tensor:
        """Return embeddings of features [N, D]."""
        if self.scale is not None:
            features = (features - self.scale[0].to(features)) / self.scale[1].to(features)
        return features @ self.projection.to(features)

    def visual(self, embedded: Tensor, users: Tensor | None = None) -> Tensor:
        """Return scores [U, N]; differentiable."""
        seekers = self.seekers if users is None else self.seekers[users]
        return seekers.to(embedded) @ embedded.t()

    def appeal(self, embedded: Tensor, aggregate: Aggregate) -> Tensor:
        """Return [N]. The sum over users collapses to one vector; the other is one product in log-sum-exp form."""
        if aggregate == "sum":
            return embedded @ self.seekers.sum(0).to(embedded)
        return torch.logsumexp(self.visual(embedded), dim=0)

    def score(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        """Return scores [u, n] of items in the catalogue."""
        rows = slice(None) if items is None else items
        factors = self.user_factors[users] @ self.item_factors[rows].t()
        return self.seekers[users] @ self.catalogue[rows].t() + factors + self.item_bias[rows]

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Return scores [u, n] of users [u] and, for each, its own items of the catalogue [u, n]."""
        looks = torch.einsum("uk,unk->un", self.seekers[users], self.catalogue[items])
        factors = torch.einsum("uf,unf->un", self.user_factors[users], self.item_factors[items])
        return looks + factors + self.item_bias[items]

    def tensors(self) -> dict[str, Tensor]:
        """Return what was learned."""
        names = ("seekers", "catalogue", "user_factors", "item_factors", "item_bias", "projection", "scale")
        return {name: tensor for name in names if (tensor := getattr(self, name)) is not None}

    def placed(self, device: str) -> DotRanker:
        """Return the same ranker on a device, so that no step of a long ascent moves its tables there again."""
        place(self.network, device)
        return replace(self, **{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def recatalogued(self, catalogue: Tensor) -> DotRanker:
        """Return the same ranker with other pictures in the catalogue."""
        return replace(self, catalogue=catalogue)


@dataclass(frozen=True, kw_only=True, eq=False)
class NearestRanker(Ranker):
    """Scores are minus the mean distance of an item's features to those of the items that the user touched.

    network:   gives features [N, D].
    catalogue: float [I, D].
    profiles:  sparse float [U, I], every row sums to one.
    """

    network: nn.Module
    catalogue: Tensor
    profiles: Tensor
    aggregate: Aggregate = "sum"

    @property
    def users(self) -> int:
        """Return how many users it knows."""
        return int(self.profiles.shape[0])

    def embed(self, pictures: Tensor) -> Tensor:
        """Return features [N, D]; differentiable."""
        return features_of(self.network, pictures)

    def visual(self, embedded: Tensor, users: Tensor | None = None) -> Tensor:
        """Return scores [U, N]; differentiable."""
        profiles = self.profiles if users is None else self.profiles.index_select(0, users.to(self.profiles.device))
        return -torch.sparse.mm(profiles.to(embedded), self.anchors_like(embedded).distances(embedded))

    def appeal(self, embedded: Tensor, aggregate: Aggregate) -> Tensor:
        """Return [N]. The sum over users and their items collapses to one weight an item of the catalogue."""
        if aggregate == "sum":
            return -(self.weights.to(embedded) @ self.anchors_like(embedded).distances(embedded))
        return torch.logsumexp(self.visual(embedded), dim=0)

    @cached_property
    def anchors(self) -> Anchors:
        """Return the catalogue, prepared for distances."""
        return Anchors.of(self.catalogue)

    def anchors_like(self, embedded: Tensor) -> Anchors:
        """Return the prepared catalogue with a tensor's kind and place."""
        kept = self.anchors
        same = (kept.rows.dtype, kept.rows.device) == (embedded.dtype, embedded.device)
        return kept if same else Anchors.of(self.catalogue.to(embedded))

    def placed(self, device: str) -> NearestRanker:
        """Return the same ranker on a device, so that no step of a long ascent moves its tables there again."""
        place(self.network, device)
        return replace(self, catalogue=self.catalogue.to(device), profiles=self.profiles.to(device))

    @cached_property
    def weights(self) -> Tensor:
        """Return how much of all users' profiles each item is: float [I]."""
        return torch.sparse.sum(self.profiles, dim=0).to_dense()

    def score(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        """Return scores [u, n] of items in the catalogue."""
        wanted = torch.arange(len(self.catalogue)) if items is None else items
        return self.pairs(users, wanted.expand(len(users), -1))

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Return scores [u, n] of users [u] and, for each, its own items of the catalogue [u, n].

        User by user, for each touched few items: a matrix of all distances would not fit a large shop.
        """
        index, values = self.profiles.indices(), self.profiles.values()
        first = torch.searchsorted(index[0].contiguous(), users)
        last = torch.searchsorted(index[0].contiguous(), users, right=True)
        rows = []
        for wanted, start, end in zip(items, first.tolist(), last.tolist(), strict=True):
            touched = self.catalogue[index[1, start:end]]
            rows.append(-(values[start:end] @ torch.cdist(touched, self.catalogue[wanted])))
        return torch.stack(rows)

    def tensors(self) -> dict[str, Tensor]:
        """Return what was learned."""
        profiles = self.profiles.coalesce()
        size = torch.tensor(profiles.shape)
        return {"catalogue": self.catalogue, "index": profiles.indices(), "values": profiles.values(), "size": size}

    def recatalogued(self, catalogue: Tensor) -> NearestRanker:
        """Return the same ranker with other pictures in the catalogue."""
        return replace(self, catalogue=catalogue)


@dataclass(frozen=True)
class Anchors:
    """What distances to a fixed set of points [I, D] are computed from, made once.

    centre:  float [D]; subtracting it changes no distance but keeps the digits.
    rows:    float [I, D], centred.
    squares: float [I, 1], their squared lengths.
    """

    centre: Tensor
    rows: Tensor
    squares: Tensor

    @classmethod
    def of(cls, points: Tensor) -> Anchors:
        """Prepare points [I, D]."""
        centre = points.mean(0)
        rows = points - centre
        return cls(centre, rows, rows.square().sum(1)[:, None])

    def distances(self, mine: Tensor) -> Tensor:
        """Return Euclidean distances [I, N] to points [N, D] by one matrix product; differentiable.

        Never below a tiny length, so that gradients stay finite.
        """
        mine = mine - self.centre
        squares = self.squares + mine.square().sum(1) - 2 * self.rows @ mine.t()
        return squares.clamp_min(1e-12).sqrt()


def distances(theirs: Tensor, mine: Tensor) -> Tensor:
    """Return Euclidean distances [I, N] of points [I, D] and [N, D], see `Anchors`."""
    return Anchors.of(theirs).distances(mine)


def load_ranker(path: Path, network: nn.Module) -> Ranker:
    """Read a ranker that `Ranker.save` wrote, into a network of the same kind."""
    # Copied, for a file's memory is not aligned, and products from it differ in their last bits.
    stored = {name: tensor.clone() for name, tensor in load_file(path).items()}
    with safe_open(path, framework="pt") as file:
        aggregate: Aggregate = "sum-exp" if file.metadata()["aggregate"] == "sum-exp" else "sum"
    weights = {name.removeprefix("network."): stored.pop(name) for name in list(stored) if name.startswith("network.")}
    network.load_state_dict(weights)
    if "index" in stored:
        size = torch.Size(stored["size"].tolist())
        profiles = sparse(stored["index"], stored["values"], size)
        return NearestRanker(network=network, catalogue=stored["catalogue"], profiles=profiles, aggregate=aggregate)
    scale: Tensor | None = stored.pop("scale", None)
    return DotRanker(network=network, aggregate=aggregate, scale=scale, **stored)


def sparse(index: Tensor, values: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Return a checked, coalesced sparse matrix."""
    return torch.sparse_coo_tensor(index, values, size, check_invariants=True).coalesce()


def check_scores(scores: Tensor) -> None:
    """Refuse scores that are no numbers.

    Raises:
        DataError: on NaN; minus infinity stands for places that a list does not have.
    """
    if scores.isnan().any():
        raise DataError(f"{int(scores.isnan().sum())} scores are NaN; the ranker diverged, train it at a lower rate")
