"""HR@5 of 1,000 new items in the lists of 34,000 users: one threshold a user against sorting 1,002 items a pair.

A list holds 1,000 candidates, the tested item, and one new item. Our side scores the catalogue of 110,000 items for
portions of users, keeps every user's list, scores all new items by one product a portion, and compares them with the
fifth best score. The usual side takes the same lists and scores and sorts 1,002 scores for every user and every new
item, as the code released with the paper does; it is measured on a sample of users and scaled linearly. What the ranker
learned is drawn at random, and so are candidates. The hits of the sampled users are compared one by one. The peak is
that of the whole process. Run it alone.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

import numpy as np
import torch
from torch import Tensor, nn

from countermove.pixels.randomness import generator
from countermove.recommender.ranker import DotRanker
from countermove.recommender.ranking import Lists, make_lists
from countermove.recommender.shop import Shop

USERS, ITEMS, COLD, CANDIDATES = 34_000, 110_000, 1_000, 1_000
VISUAL, FACTORS = 100, 100
LENGTH = 5
SAMPLE = 20
USERS_AT_ONCE = 1_024


def made_up(users: int, items: int) -> tuple[DotRanker, Shop, Tensor]:
    """Return a ranker, a shop without pictures to speak of, and candidates [users, CANDIDATES]."""
    source = generator(0, "hit rate")

    def draw(*shape: int) -> Tensor:
        return 0.1 * torch.randn(*shape, generator=source)

    ranker = DotRanker(
        network=nn.Identity(),
        projection=torch.zeros(1, VISUAL),
        scale=None,
        seekers=draw(users, VISUAL),
        catalogue=draw(items, VISUAL),
        user_factors=draw(users, FACTORS),
        item_factors=draw(items, FACTORS),
        item_bias=draw(items),
    )
    shop = Shop(
        name="made-up",
        users=("",) * users,
        items=("",) * items,
        pictures=torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(items, 3, 1, 1),
        train=torch.zeros(0, 2, dtype=torch.int64),
        validation=torch.full((users,), -1),
        test=torch.randint(items, (users,), generator=source),
        cold=torch.zeros(0, dtype=torch.int64),
    )
    candidates = torch.randint(items, (users, CANDIDATES), generator=source, dtype=torch.int32)
    return ranker, shop, candidates


def by_threshold(lists: Lists, ranker: DotRanker, embedded: Tensor) -> Tensor:
    """Return how many users have each new item among their first: int64 [COLD]."""
    counts = torch.zeros(len(embedded), dtype=torch.int64)
    for users in torch.arange(ranker.users).split(USERS_AT_ONCE):
        part = Lists(lists.scores[users], lists.tested[users], lists.before[users], lists.level[users])
        counts += part.hits(ranker.visual(embedded, users), LENGTH).sum(0)
    return counts


def by_sorting(incumbents: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Return which new items a user has among the first, bool [COLD], by a sort for each of them."""
    hit = np.empty(len(outside), dtype=bool)
    for k, score in enumerate(outside):
        everything = np.append(incumbents, score)
        hit[k] = len(incumbents) in np.argsort(-everything, kind="stable")[:LENGTH]
    return hit


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    ranker, shop, candidates = made_up(asked.users, asked.items)
    embedded = 0.3 * torch.randn(COLD, VISUAL, generator=generator(0, "new"))

    began = time.perf_counter()
    lists = make_lists(ranker, shop, candidates)
    listed = time.perf_counter()
    counts = by_threshold(lists, ranker, embedded)
    ended = time.perf_counter()

    sample = torch.arange(0, asked.users, max(1, asked.users // SAMPLE))[:SAMPLE]
    outside = ranker.visual(embedded, sample)
    part = Lists(lists.scores[sample], lists.tested[sample], lists.before[sample], lists.level[sample])
    ours = part.hits(outside, LENGTH).numpy()
    incumbents = lists.scores[sample].numpy()
    started = time.perf_counter()
    theirs = np.stack([by_sorting(*row) for row in zip(incumbents, outside.numpy(), strict=True)])
    sorted_in = (time.perf_counter() - started) / len(sample) * asked.users

    print(f"{asked.users} users, {COLD} new items, {CANDIDATES + 2} items a list, {asked.items} in the catalogue")
    print(f"  lists of all users, once a ranker   {listed - began:10.1f} s")
    print(f"  hits by threshold                   {ended - listed:10.2f} s")
    print(f"  hits by sorting                     {sorted_in:10.0f} s, scaled from {len(sample)} users")
    print(f"  ratio: {sorted_in / (ended - listed):.0f}x, with the lists {sorted_in / (ended - began):.0f}x")
    print(
        f"  HR@{LENGTH}: {float(counts.double().mean() / asked.users):.4f}; same hits: {np.array_equal(ours, theirs)}"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  whole: {ended - began:.1f} s, peak memory of the process {peak:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
