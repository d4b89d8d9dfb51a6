"""Choosing additions among many candidates: products and summaries against reading every profile anew.

Near-black box: `profiles.choosing.least_similar` takes the least similar of 50,000 candidates with 2,048 features for
100 profiles by one matrix product with top-k. The other side normalises the candidates once, goes through the profiles
and takes the mean of the cosines between each item and every candidate.

White box: `profiles.choosing.greedy` chooses ten additions one after the other. With a summary each candidate costs the
layers after pooling; the other side puts every candidate into the profile and reads all of it, in batches as large as
memory likes, in every round. Both sides run in full with as many threads and must choose the same. Features are drawn
at random. Run it alone.
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.pixels.randomness import generator
from countermove.profiles.choosing import greedy, least_similar
from countermove.profiles.profiler import BagNetwork, Profiler
from countermove.profiles.profilers.att_mil import AttMil
from countermove.profiles.profilers.deep_sets import DeepSets
from countermove.profiles.profilers.majority_vote import MajorityVote

PROFILES, ITEMS, WIDE = 100, 10, 2048
FEATURES, COUNT = 128, 10
PROFILERS: tuple[Profiler, ...] = (MajorityVote(), DeepSets(), AttMil())


def by_items(profile: Tensor, directions: Tensor) -> Tensor:
    """Return the least similar candidates, given as directions, of one profile."""
    cosines = torch.stack([directions @ F.normalize(item, dim=0) for item in profile])
    return cosines.mean(0).topk(COUNT, largest=False).indices


@torch.no_grad()
def by_reading(network: BagNetwork, profile: Tensor, candidates: Tensor, label: int) -> Tensor:
    """Return a greedy choice that reads the whole profile with every candidate in every round."""
    chosen: list[int] = []
    for _ in range(COUNT):
        extended = torch.cat([profile, candidates[chosen]])
        losses = []
        for part in candidates.split(2048):
            together = torch.cat([extended.expand(len(part), -1, -1), part[:, None]], 1)
            logits = network(together, torch.ones(together.shape[:2], dtype=torch.bool))
            losses.append(F.cross_entropy(logits, torch.full((len(part),), label), reduction="none"))
        against = torch.cat(losses)
        against[chosen] = -torch.inf
        chosen.append(int(against.argmax()))
    return torch.tensor(chosen)


def near_black_box(count: int) -> None:
    """Measure the least similar."""
    source = generator(0, "near-black box")
    candidates = torch.randn(count, WIDE, generator=source).relu()
    profiles = torch.randn(PROFILES, ITEMS, WIDE, generator=source).relu()
    for kind in (torch.float32, torch.float16):
        kept = candidates.to(kind)
        began = time.perf_counter()
        ours = least_similar(F.normalize(profiles, dim=2).mean(1), kept, COUNT)
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        directions = F.normalize(kept.float())
        theirs = torch.stack([by_items(profile, directions) for profile in profiles])
        loop = time.perf_counter() - began
        print(f"least similar of {count} x {WIDE} ({str(kind)[6:]}) for {PROFILES} profiles of {ITEMS} items")
        print(f"  one product          {seconds:8.2f} s")
        print(f"  item by item         {loop:8.2f} s")
        print(f"  ratio: {loop / seconds:.0f}x, same choice: {torch.equal(ours, theirs)}", flush=True)


def white_box(count: int) -> None:
    """Measure greedy choices."""
    source = generator(0, "white box")
    candidates, profile = torch.randn(count, FEATURES, generator=source), torch.randn(ITEMS, FEATURES, generator=source)
    for profiler in PROFILERS:
        network = profiler.network(FEATURES, 2, generator=generator(0, "weights")).eval()
        greedy(network, profile, candidates[:100], COUNT, 0)  # pays the one-time costs outside the measurement
        began = time.perf_counter()
        ours = greedy(network, profile, candidates, COUNT, 0)
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        theirs = by_reading(network, profile, candidates, 0)
        reading = time.perf_counter() - began
        print(f"{COUNT} of {count} x {FEATURES}, greedily, for one profile of {ITEMS} items, {type(profiler).__name__}")
        print(f"  summaries            {seconds:8.2f} s")
        print(f"  reading all anew     {reading:8.2f} s")
        print(f"  ratio: {reading / seconds:.0f}x, same choice: {ours.tolist() == theirs.tolist()}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    near_black_box(asked.candidates)
    white_box(asked.candidates)


if __name__ == "__main__":
    main()
