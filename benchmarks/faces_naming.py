"""Naming test photos in the worlds of 400 movers: two similarity products against refitting neighbours for every mover.

In world m mover m alone has cloaked, so every mover has a gallery of their own. One side names all test photos in all
worlds with `faces.naming.nearest`; the other fits scikit-learn's KNeighborsClassifier(1) on each mover's gallery and
lets it name the same photos, as the code released with Data Poisoning Won't Save You does. Features are drawn at
random: a direction a person with noise around it, every second cloaked one around somebody else's. Both sides run in
full, with as many threads, and every name is compared. Run it alone.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits
from torch import Tensor

from countermove.faces.naming import Views, nearest
from countermove.pixels.randomness import generator

PEOPLE, PUBLISHED, TESTED, FEATURES = 400, 14, 6, 128
SPREAD = 1.5
REPEATS = 3


def made_up(people: int) -> Views:
    """Return features of a gallery and of test photos."""
    source = generator(0, "naming")
    centre = F.normalize(torch.randn(people, FEATURES, generator=source))

    def around(whose: Tensor) -> Tensor:
        noise = F.normalize(torch.randn(len(whose), FEATURES, generator=source))
        return F.normalize(centre[whose] + SPREAD * noise)

    owner, tested = (torch.arange(people).repeat_interleave(count) for count in (PUBLISHED, TESTED))
    return Views(
        clean=around(owner),
        moved=around((owner + torch.arange(len(owner)) % 2) % people),
        owner=owner,
        tests=around(tested),
        tested=tested,
    )


def refitted(views: Views) -> np.ndarray:
    """Return the names [T, M] of a classifier that is fitted anew for every mover."""
    tests, owner = views.tests.numpy(), views.owner.numpy()
    names = []
    for mover in range(views.movers):
        classifier = KNeighborsClassifier(1).fit(views.world(mover).numpy(), owner)
        names.append(np.asarray(classifier.predict(tests)))
    return np.stack(names, axis=1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=PEOPLE)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    views = made_up(asked.people)
    named = nearest(views)  # pay the one-time costs outside the measurement
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        named = nearest(views)
        seconds.append(time.perf_counter() - began)
    with threadpool_limits(asked.threads):
        began = time.perf_counter()
        theirs = refitted(views)
        refitting = time.perf_counter() - began
    ours, same = min(seconds), named.worlds.numpy() == theirs
    right = named.worlds.gather(1, views.tested[:, None])[:, 0] == views.tested
    print(
        f"{asked.people} movers, {len(views.owner)} gallery photos, {len(views.tests)} test photos, "
        f"{FEATURES} features, {asked.threads} threads"
    )
    print(f"  all worlds from two products          {ours:8.3f} s")
    print(f"  refitted for every mover, all of them {refitting:8.3f} s")
    print(f"  ratio: {refitting / ours:.0f}x")
    print(f"  same names: {same.all()} ({same.size - same.sum()} of {same.size} differ)")
    print(
        f"  named rightly: {float((named.clean == views.tested).double().mean()):.3f} where nobody moves, "
        f"{float(right.double().mean()):.3f} of a mover's own where they do",
        flush=True,
    )


if __name__ == "__main__":
    main()
