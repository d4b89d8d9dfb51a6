"""Cells of an audit that share photos: features found again by content against embedding everything in every cell.

Five replies are played against one cloak with one extractor: the gallery as it was taken and as it was published, and
the photos to be named; two cells squeeze them all first, and in two some photos leak. With the cache a photo is
embedded once; without it every cell embeds all that it looks at, as evaluation scripts do. The features of every cell
are compared. The time with the cache includes hashing. Run it alone.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import torch
from torch import Tensor

from countermove.faces.artifacts import cloak_and_round
from countermove.faces.cloak import CloakContext
from countermove.faces.extractor import embed, read_extractor
from countermove.faces.methods import METHODS
from countermove.faces.remembered import Remembered
from countermove.pixels.batch import Batch
from countermove.pixels.jpeg import jpeg
from countermove.pixels.rounding import to_float
from countermove.pixels.squeezes import squeeze_uint8

DATA = "planted-faces(movers=40, people=48, photos=12, side=64)"
EXTRACTOR = "small"
EPOCHS = 2

Cell = tuple[str, list[Tensor]]


def made_up_cells() -> tuple[list[Cell], torch.nn.Module]:
    """Return the photos that each cell embeds, 8-bit, and the extractor."""
    faces = METHODS.compose("data", DATA).method()
    _, extractor = read_extractor(f"small(epochs={EPOCHS})", "benchmark")
    embedder, _ = extractor.fit(faces, seed=0, device="cpu", checkpoint=None)
    rows = faces.published
    clean, tests = faces.photos[rows], faces.photos[faces.tested]
    batch = Batch(
        pictures=to_float(clean),
        labels=faces.person[rows],
        ids=tuple(faces.ids[i] for i in rows.tolist()),
        classes=faces.people,
    )
    cloak = METHODS.compose("move", "random-noise").method
    moved, _ = cloak_and_round(cloak, batch, CloakContext(embedders=()))
    leaks = torch.arange(len(rows)) % 4 == 0
    some = torch.where(leaks[:, None, None, None], clean, moved)
    squeezed = [squeeze_uint8(photos, lambda part: jpeg(part, 50)) for photos in (clean, moved, tests)]
    cells = [
        ("none", [clean, moved, tests]),
        ("leaked", [clean, some, tests]),
        ("jpeg", squeezed),
        ("jpeg, detector", squeezed),
        ("leaked, detector", [clean, some, tests]),
    ]
    return cells, embedder


def played(cells: list[Cell], look: Callable[[Tensor], Tensor]) -> tuple[list[list[Tensor]], list[float]]:
    """Return all cells' features, and each cell's seconds."""
    features, seconds = [], []
    for _, photos in cells:
        began = time.perf_counter()
        features.append([look(part) for part in photos])
        seconds.append(time.perf_counter() - began)
    return features, seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    cells, embedder = made_up_cells()
    embed(embedder, cells[0][1][0][:64])  # pay the one-time costs outside the measurement
    memory = Remembered()
    ours, with_cache = played(cells, lambda photos: memory.embed("extractor", embedder, photos))
    theirs, without = played(cells, lambda photos: embed(embedder, photos))
    pairs = [(a, b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)]
    apart = max(float((a - b).abs().max()) for a, b in pairs)
    looked = sum(len(photos) for photos in cells[0][1])
    print(f"{looked} photos a cell, {DATA}, {EXTRACTOR}, {asked.threads} threads")
    print(f"  {'cell':20} {'with the cache':>16} {'without':>12}")
    for (name, _), mine, other in zip(cells, with_cache, without, strict=True):
        print(f"  {name:20} {mine:14.3f} s {other:10.3f} s   ratio {other / mine:6.1f}x")
    print(f"  {memory.computed} of {memory.asked} photos embedded; largest difference of features: {apart:.1e}")
    print(f"  ratio: {sum(without) / sum(with_cache):.2f}x over all cells", flush=True)


if __name__ == "__main__":
    main()
