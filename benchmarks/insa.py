"""One step of an insider's attack on a shop of 34,000 users: objectives that collapse against a loop over users.

Both sides take the gradient of the same objective (the sum of all users' scores, or the logarithm of the sum of their
exponentials) with respect to one picture of 64 x 64, through the same small network with 512 features. One loop embeds
the picture once and then adds the users' scores one by one; the other takes a forward-backward pass a user, as the code
released with the paper does for AlexRank. Loops run over the first 200 users and once more over the first 20, and are
scaled linearly: what the picture costs once is counted once, and a user costs the difference over 180. What rankers
learned is drawn at random. For those 200 users the gradients of all sides are compared. Run it alone.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from countermove.nets.registry import build_network
from countermove.pixels.randomness import generator
from countermove.pixels.steps import frozen
from countermove.recommender.extractor import features_of
from countermove.recommender.ranker import Aggregate, DotRanker, NearestRanker, Ranker

USERS, VISUAL, SIDE = 34_000, 100, 64
NETWORK, FEATURES = "small-cnn(width=0.25)", 512
ITEMS, TOUCHED = 5_000, 5
FEW, MORE = 20, 200
REPEATS = 5

Score = Callable[[Ranker, int, Tensor], Tensor]


def dot_ranker(network: nn.Module, users: int, aggregate: Aggregate) -> DotRanker:
    """Return a ranker as VBPR (sum) and DVBPR (sum-exp) learn it; item factors play no part for a new item."""
    source = generator(0, "dot")
    return DotRanker(
        network=network,
        projection=torch.randn(FEATURES, VISUAL, generator=source) / FEATURES**0.5,
        scale=None,
        seekers=0.3 * torch.randn(USERS, VISUAL, generator=source)[:users],
        catalogue=torch.zeros(1, VISUAL),
        user_factors=torch.zeros(users, 1),
        item_factors=torch.zeros(1, 1),
        item_bias=torch.zeros(1),
        aggregate=aggregate,
    )


def nearest_ranker(network: nn.Module, users: int) -> NearestRanker:
    """Return a ranker as AlexRank is."""
    source = generator(0, "nearest")
    catalogue = torch.randn(ITEMS, FEATURES, generator=source).relu()
    touched = torch.rand(USERS, ITEMS // 10, generator=source).topk(TOUCHED).indices[:users]
    touched = 10 * touched + torch.randint(10, touched.shape, generator=source)
    index = torch.stack([torch.arange(users).repeat_interleave(TOUCHED), touched.flatten()])
    values = torch.full((users * TOUCHED,), 1 / TOUCHED)
    profiles = torch.sparse_coo_tensor(index, values, (users, ITEMS), check_invariants=True).coalesce()
    return NearestRanker(network=network, catalogue=catalogue, profiles=profiles)


def dot_score(ranker: Ranker, user: int, feature: Tensor) -> Tensor:
    """Return what one user gives a picture of these features [D]: theta . (E phi)."""
    assert isinstance(ranker, DotRanker)
    return torch.dot(ranker.seekers[user], feature @ ranker.projection)


def nearest_scores(ranker: NearestRanker) -> Score:
    """Return the same for AlexRank: minus the mean distance to the items that the user touched."""
    touched = ranker.profiles.indices()[1].view(-1, TOUCHED)

    def score(ranker: Ranker, user: int, feature: Tensor) -> Tensor:
        return -torch.linalg.vector_norm(ranker.catalogue[touched[user]] - feature, dim=1).mean()

    return score


def collapsed(ranker: Ranker, picture: Tensor) -> Tensor:
    """Return the gradient of the objective as our insider takes it."""
    leaf = picture.clone().requires_grad_()
    return torch.autograd.grad(ranker.appeal(ranker.embed(leaf), ranker.aggregate).sum(), leaf)[0]


def user_by_user(ranker: Ranker, picture: Tensor, score: Score, users: int) -> Tensor:
    """Return it with users' scores added one by one to one embedding."""
    leaf = picture.clone().requires_grad_()
    feature = features_of(ranker.network, leaf)[0]
    scores = torch.stack([score(ranker, user, feature) for user in range(users)])
    total = scores.sum() if ranker.aggregate == "sum" else scores.logsumexp(0)
    return torch.autograd.grad(total, leaf)[0]


def pass_by_pass(ranker: Ranker, picture: Tensor, score: Score, users: int) -> Tensor:
    """Return it from a pass a user; of exponentials, the sum of gradients is divided by the sum at the end."""
    gradient, weight = torch.zeros_like(picture), 0.0
    for user in range(users):
        leaf = picture.clone().requires_grad_()
        mine = score(ranker, user, features_of(ranker.network, leaf)[0])
        value = mine if ranker.aggregate == "sum" else mine.exp()
        gradient += torch.autograd.grad(value, leaf)[0]
        weight += float(value.detach())
    return gradient if ranker.aggregate == "sum" else gradient / weight


def fastest(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the seconds of the fastest of some runs, after one that does not count."""
    work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def scaled(loop: Callable[[int], object], users: int) -> float:
    """Return the seconds of a loop over all users, from two short ones."""
    few, more = fastest(lambda: loop(FEW)), fastest(lambda: loop(MORE), 3)
    each = (more - few) / (MORE - FEW)
    return more + each * (users - MORE)


def compare(name: str, ranker: Ranker, few: Ranker, score: Score, picture: Tensor) -> None:
    """Measure one ranker, and print."""
    found = [collapsed(few, picture), *(way(few, picture, score, MORE) for way in (user_by_user, pass_by_pass))]
    apart = max(float((found[0] - other).abs().max() / other.abs().max()) for other in found[1:])
    ours = fastest(lambda: collapsed(ranker, picture), 20)
    slow = {
        "embedded once, user by user": scaled(lambda n: user_by_user(ranker, picture, score, n), ranker.users),
        "a pass a user": scaled(lambda n: pass_by_pass(ranker, picture, score, n), ranker.users),
    }
    print(f"{name}, {ranker.aggregate}, {ranker.users} users, one picture of {SIDE} x {SIDE}")
    print(f"  {'collapsed':30} {1000 * ours:10.2f} ms a step")
    for way, seconds in slow.items():
        print(f"  {way:30} {1000 * seconds:10.0f} ms a step, scaled from {MORE} users   ratio {seconds / ours:8.0f}x")
    print(f"  largest relative difference of the gradients, {MORE} users: {apart:.1e}", flush=True)


def main() -> None:
    """Measure the three rankers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    if not MORE <= asked.users <= USERS:
        parser.error(f"--users lies in {MORE}..{USERS}")
    torch.set_num_threads(asked.threads)
    network = build_network(NETWORK, 10, SIDE, generator(0, "insa"))
    picture = torch.rand(1, 3, SIDE, SIDE, generator=generator(0, "picture"))
    with frozen(network):
        rankers: dict[str, Aggregate] = {"vbpr": "sum", "dvbpr": "sum-exp"}
        for name, aggregate in rankers.items():
            ranker = dot_ranker(network, asked.users, aggregate)
            few = replace(ranker, seekers=ranker.seekers[:MORE])
            compare(name, ranker, few, dot_score, picture)
        nearest = nearest_ranker(network, asked.users)
        compare("alexrank", nearest, nearest_ranker(network, MORE), nearest_scores(nearest), picture)


if __name__ == "__main__":
    main()
