"""Naming test photos in as many worlds as there are movers: in world m, mover m alone has cloaked their photos.

Legend: M movers, G gallery photos, T test photos, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from countermove.errors import DataError

TESTS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class Views:
    """The features that a recogniser works with; unit vectors.

    clean:  float [G, D], every gallery photo as its owner took it.
    moved:  float [G, D], as its owner publishes it when they move.
    owner:  int64 [G], in 0 .. M - 1; everybody has a photo.
    tests:  float [T, D].
    tested: int64 [T], whose each is.
    """

    clean: Tensor
    moved: Tensor
    owner: Tensor
    tests: Tensor
    tested: Tensor

    def __post_init__(self) -> None:
        for features in (self.clean, self.moved, self.tests):
            if not features.isfinite().all():
                raise DataError("an extractor's features are not finite; check its weights")

    @property
    def movers(self) -> int:
        """Return how many people are in the gallery."""
        return int(self.owner.max()) + 1

    def world(self, mover: int) -> Tensor:
        """Return the gallery when one mover has cloaked, [G, D]; nobody has for -1."""
        return torch.where((self.owner == mover)[:, None], self.moved, self.clean)


@dataclass(frozen=True, kw_only=True)
class Named:
    """What a recogniser says of the test photos.

    worlds:     int64 [T, M], the name in every mover's world.
    similarity: float [T, M], how sure it is there; higher is surer. Only to be compared with its own.
    clean:      int64 [T], the name where nobody moves.
    sure:       float [T], likewise.
    together:   bool [M, M], who else cloaks (rows) in every world (columns); None: nobody.
    """

    worlds: Tensor
    similarity: Tensor
    clean: Tensor
    sure: Tensor
    together: Tensor | None = None


def nearest(views: Views) -> Named:
    """Name every photo by its nearest neighbour in the gallery, in all worlds from two products.

    The names are those that refitting the neighbours for every mover would give: in world m only mover m's photos
    differ, so a photo's best match is either the best clean one of everybody else (the best or second best person of
    the clean world) or the best of mover m's cloaked ones. Of two people as near (copies of a photo under two names)
    the earlier one is named, in every world.
    """
    count, movers = len(views.tests), views.movers
    worlds = torch.empty(count, movers, dtype=torch.int64)
    similarity = torch.empty(count, movers)
    clean, sure = torch.empty(count, dtype=torch.int64), torch.empty(count)
    everybody = torch.arange(movers)
    for start in range(0, count, TESTS_AT_ONCE):
        rows = slice(start, start + TESTS_AT_ONCE)
        honest = best_by_person(views.tests[rows], views.clean, views.owner, movers)
        cloaked = best_by_person(views.tests[rows], views.moved, views.owner, movers)
        nearest_one = honest.max(1, keepdim=True)
        first = nearest_one.indices
        runner_up = honest.scatter(1, first, -torch.inf).max(1, keepdim=True)
        itself = first == everybody  # world m takes its best match away
        other = torch.where(itself, runner_up.indices, first)
        best = torch.where(itself, runner_up.values, nearest_one.values)
        wins = (cloaked > best) | ((cloaked == best) & (everybody < other))
        worlds[rows] = torch.where(wins, everybody, other)
        similarity[rows] = torch.maximum(cloaked, best)
        clean[rows], sure[rows] = first[:, 0], nearest_one.values[:, 0]
    return Named(worlds=worlds, similarity=similarity, clean=clean, sure=sure)


def best_by_person(tests: Tensor, gallery: Tensor, owner: Tensor, people: int) -> Tensor:
    """Return each test photo's similarity to each person's most similar photo, [T, people]."""
    found = torch.full((len(tests), people), -torch.inf)
    return found.scatter_reduce_(1, owner.expand(len(tests), -1), tests @ gallery.T, "amax")


def nearest_other(views: Views) -> Tensor:
    """Return every clean gallery photo's similarity to its nearest other one, [G]: what a threshold is set on."""
    similarity = views.clean @ views.clean.T
    return similarity.fill_diagonal_(-torch.inf).amax(1)


def either(first: Named, second: Named, tested: Tensor) -> Named:
    """Return the right name where one of two recognisers has it, else the first one's: a search that returns two."""

    def joined(one: Tensor, other: Tensor, truth: Tensor) -> Tensor:
        return torch.where(other == truth, other, one)

    return Named(
        worlds=joined(first.worlds, second.worlds, tested[:, None]),
        similarity=first.similarity,
        clean=joined(first.clean, second.clean, tested),
        sure=first.sure,
    )


def fall_back(first: Named, second: Named, threshold: float) -> Named:
    """Return the first recogniser's names where it is sure enough, and the second's elsewhere."""
    unsure, unsure_clean = first.similarity < threshold, first.sure < threshold
    return Named(
        worlds=torch.where(unsure, second.worlds, first.worlds),
        similarity=first.similarity,
        clean=torch.where(unsure_clean, second.clean, first.clean),
        sure=first.sure,
    )


def grown(named: Named, views: Views, *, threshold: float, rounds: int) -> Named:
    """Return the names when photos that are named surely join the gallery, round by round, in every world.

    Args:
        named: what a nearest neighbour says; its similarities are compared with those between test photos.
        views: the features.
        threshold: similarity from which a photo joins.
        rounds: at most so many; it ends before when nothing changes.
    """
    alike = (views.tests @ views.tests.T).fill_diagonal_(-torch.inf)
    worlds = [
        _grown(*world, alike, threshold, rounds) for world in zip(named.worlds.T, named.similarity.T, strict=True)
    ]
    clean, sure = _grown(named.clean, named.sure, alike, threshold, rounds)
    return Named(
        worlds=torch.stack([names for names, _ in worlds], dim=1),
        similarity=torch.stack([similarity for _, similarity in worlds], dim=1),
        clean=clean,
        sure=sure,
    )


def _grown(names: Tensor, sure: Tensor, alike: Tensor, threshold: float, rounds: int) -> tuple[Tensor, Tensor]:
    """Return names [T] and similarities [T] in one world."""
    for _ in range(rounds):
        joined = sure >= threshold
        near = alike.masked_fill(~joined, -torch.inf).max(1)
        better = ~joined & (near.values > sure)
        if not better.any():
            break
        names = torch.where(better, names[near.indices], names)
        sure = torch.where(better, near.values, sure)
    return names, sure
