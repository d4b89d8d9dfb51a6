"""Many good masks: a task learned by zeroing from different starts, and how little the masks have in common.

Every start (its kind, its first sparsity, its seed) gets a mask on the same pre-trained network, trained on AG News in
the same way. Printed are what each reaches, how many weights end as zeros, and for all pairs the share of zeros that
both have (Jaccard) beside what two independent masks of the same sparsities would share.

``python tools/many_masks.py [ROWS]``: 4,000 training texts by default, two epochs, one thread.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import torch
from torch import Tensor

from countermove.finetuning.masks import masks, overlap, sparsity
from countermove.finetuning.ways.mask import Mask
from countermove.pixels.randomness import generator
from countermove.tasks.data.glue import AgNews
from countermove.tasks.fitting import Recipe, answers, encoded, fit
from countermove.tasks.model import build_reader
from countermove.tasks.models.small_bert import SmallBert

STARTS = (
    ("magnitude 5 %, seed 0", Mask(embeddings=True), 0),
    ("magnitude 5 %, seed 1", Mask(embeddings=True), 1),
    ("magnitude 20 %, seed 0", Mask(embeddings=True, sparsity=0.2), 0),
    ("random 5 %, seed 0", Mask(embeddings=True, init="random"), 0),
    ("random 5 %, seed 1", Mask(embeddings=True, init="random"), 1),
    ("random 20 %, seed 0", Mask(embeddings=True, init="random", sparsity=0.2), 0),
    ("all ones, seed 0", Mask(embeddings=True, init="ones"), 0),
)


def main() -> None:
    """Train a mask from every start and compare them."""
    torch.set_num_threads(1)
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    task, base = AgNews(rows=rows)(), SmallBert(epochs=1).folder()
    found: dict[str, dict[str, Tensor]] = {}
    print(f"AG News, {rows} training texts, {len(task.test)} test texts; small-bert(epochs=1)")
    print("| start | accuracy | zeros at the end | bytes stored |\n|---|---|---|---|")
    for name, way, seed in STARTS:
        reader = build_reader(base, len(task.classes), source=generator(seed, "output layer"))
        train, test = (encoded(reader, texts, length=task.length) for texts in (task.train, task.test))
        adapting = way.begin(reader.network, new=reader.new, seed=seed)
        fit(reader.network, train, recipe=Recipe(), lr=way.lr, seed=seed)
        found[name] = {key: mask.mask.clone() for key, mask in masks(reader.network).items()}
        adapted = adapting.finish()
        right = float((answers(reader.network, test) == test.labels).float().mean())
        print(f"| {name} | {right:.3f} | {sparsity(found[name]):.1%} | {adapted.bytes_stored:,} |", flush=True)
    print("\n| pair | zeros that both have, of zeros of either | independent masks |\n|---|---|---|")
    for one, other in itertools.combinations(found, 2):
        a, b = sparsity(found[one]), sparsity(found[other])
        alone = a * b / (a + b - a * b) if a + b else 1.0
        print(f"| {one}; {other} | {overlap(found[one], found[other]):.3f} | {alone:.3f} |")


if __name__ == "__main__":
    os.environ.setdefault("COUNTERMOVE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    main()
