"""CEDD and GIST of a few pictures: blocks reshaped and filters in one transform against loops over pixels.

The loops are the ones that the tests hold our descriptors against, written from the descriptions: CEDD visits every
pixel of every block; GIST visits every frequency of every filter, and transforms by a product with the waves, which is
much less work than a loop over pixels would be. Both sides describe the same pictures, in one thread unless told
otherwise, and every number is compared. Run it alone, from the folder of the repository.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from countermove.pixels.randomness import generator
from countermove.retrieval.indexes.cedd import cedd
from countermove.retrieval.indexes.gist import gist

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.retrieval.slow_descriptors import slow_cedd, slow_gist

PICTURES = 32
REPEATS = 3


def made_up(count: int, height: int, width: int) -> Tensor:
    """Return pictures with areas of colour and a little grain, uint8 [N, 3, H, W]."""
    source = generator(0, "descriptors")
    coarse = torch.rand(count, 3, 12, 12, generator=source) * 255
    large = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (large + 12 * torch.rand(count, 3, height, width, generator=source)).clamp(0, 255).byte()


def compare(
    name: str, pictures: Tensor, ours: Callable[[Tensor], Tensor], slow: Callable[[np.ndarray], object], visits: int
) -> None:
    """Measure both sides; the slow one on the first few pictures only. Times are a picture's."""
    described = ours(pictures)  # pay the one-time costs outside the measurement
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        described = ours(pictures)
        seconds.append((time.perf_counter() - began) / len(pictures))
    began = time.perf_counter()
    theirs = np.array([slow(picture.numpy()) for picture in pictures[:visits]])
    looping = (time.perf_counter() - began) / visits
    apart = np.abs(described[:visits].numpy() - theirs).max() / np.abs(theirs).max()
    size = " x ".join(str(side) for side in pictures.shape[2:])
    print(f"{name}, {len(pictures)} pictures of {size}, {torch.get_num_threads()} threads")
    print(f"  together           {1000 * min(seconds):10.2f} ms a picture")
    print(f"  loops, {visits} of them   {1000 * looping:10.2f} ms a picture")
    print(f"  ratio: {looping / min(seconds):.0f}x; largest difference: {apart:.1e} of the largest number", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    compare("CEDD", made_up(asked.pictures, 240, 320), cedd, slow_cedd, 4)
    compare("GIST, side 64", made_up(asked.pictures, 64, 64), lambda x: gist(x, side=64), slow_gist, 2)
    square = made_up(asked.pictures, 256, 256)
    began = time.perf_counter()
    gist(square)
    print(f"GIST, side 256: {1000 * (time.perf_counter() - began) / len(square):.0f} ms a picture together")


if __name__ == "__main__":
    main()
