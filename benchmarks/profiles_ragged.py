"""Training profilers on profiles of unequal length: batches with masks against one profile a step.

Both sides train the same network with the same optimiser for as many epochs over the same profiles, whose features lie
in memory, in one run with as many threads. One side is `profiles.fitting.fit_bags`, its shuffling, padding, masks and
book-keeping included; the other gives each profile to the network alone, without padding, and steps after it, as the
code released with the thesis does. Profiles have 3 to 17 items (--longest), 10 in the mean as in that code's Emotion
set. What is gained are a step's fixed costs, so it grows with the batch and falls with the network and with longer
profiles: three batch sizes are shown for every profiler at its own size. Also printed is the share of right answers on
profiles that were not trained on, after a tenth of the usual epochs, since fewer steps can learn less. Run it alone.
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.pixels.randomness import generator
from countermove.profiles.fitting import fit_bags, read_bags
from countermove.profiles.profiler import BagNetwork, BagRecipe, Profiler, Reader
from countermove.profiles.profilers.att_mil import AttMil
from countermove.profiles.profilers.deep_sets import DeepSets
from countermove.profiles.profilers.gru import Gru
from countermove.profiles.profilers.set_transformer import SetTransformer

PROFILES, FEATURES = 480, 128
FEWEST, LONGEST = 3, 17
BATCHES = (16, 32, 64)
PROFILERS: tuple[Profiler, ...] = (DeepSets(), SetTransformer(), AttMil(), Gru())


def made_up(longest: int) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return features, the rows of each profile, and labels that a third of a profile's items show a little."""
    source = generator(0, "ragged")
    lengths = torch.randint(FEWEST, longest + 1, (2 * PROFILES,), generator=source)
    labels = torch.arange(2 * PROFILES) % 2
    features = torch.randn(int(lengths.sum()), FEATURES, generator=source)
    shows = torch.rand(len(features), 1, generator=source) < 1 / 3
    towards = F.normalize(torch.randn(2, FEATURES, generator=source))
    features += 1.5 * shows * towards[labels.repeat_interleave(lengths)]
    return features, list(torch.arange(len(features)).split(lengths.tolist())), labels


def one_by_one(network: BagNetwork, source: Tensor, bags: list[Tensor], labels: Tensor, recipe: BagRecipe) -> None:
    """Train on one profile a step."""
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * len(bags))
    masks = [torch.ones(1, len(bag), dtype=torch.bool) for bag in bags]
    network.train()
    for _ in range(recipe.epochs):
        for p in torch.randperm(len(bags)).tolist():
            loss = F.cross_entropy(network(source[bags[p]][None], masks[p]), labels[p : p + 1])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--longest", type=int, default=LONGEST)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    source, bags, labels = made_up(asked.longest)
    trained, left = (bags[:PROFILES], labels[:PROFILES]), (bags[PROFILES:], labels[PROFILES:])
    print(
        f"{PROFILES} profiles of {FEWEST} to {asked.longest} items, {FEATURES} features, {asked.epochs} epochs, "
        f"{asked.threads} threads"
    )
    for profiler in PROFILERS:
        print(type(profiler).__name__)
        recipe = BagRecipe(epochs=asked.epochs)
        fit_bags(  # pays the one-time costs outside the measurement
            fresh(profiler), source, *trained, recipe=BagRecipe(epochs=1), seed=0, medium="table"
        )
        alone = fresh(profiler)
        began = time.perf_counter()
        one_by_one(alone.bag, source, *trained, recipe)
        theirs = time.perf_counter() - began
        print(f"  one profile a step   {theirs:8.2f} s                 {right(alone, source, *left):.3f} right")
        for batch in BATCHES:
            recipe = BagRecipe(epochs=asked.epochs, batch=batch)
            reader = fresh(profiler)
            began = time.perf_counter()
            fit_bags(reader, source, *trained, recipe=recipe, seed=0, medium="table")
            ours = time.perf_counter() - began
            print(
                f"  batches of {batch:3}       {ours:8.2f} s  ratio {theirs / ours:5.1f}x  "
                f"{right(reader, source, *left):.3f} right",
                flush=True,
            )


def fresh(profiler: Profiler) -> Reader:
    """Return an untrained network."""
    return Reader(profiler.network(FEATURES, 2, generator=generator(0, "weights")))


def right(reader: Reader, source: Tensor, bags: list[Tensor], labels: Tensor) -> float:
    """Return the share of profiles that are read rightly."""
    read, _ = read_bags(reader, source, bags, "table")
    return float((read.argmax(1) == labels).double().mean())


if __name__ == "__main__":
    main()
