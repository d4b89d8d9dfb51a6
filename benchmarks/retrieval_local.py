"""Words and signatures at the size of a real collection, against loops over descriptors.

Three things are measured, each with its loop: descriptors are assigned to 20,000 words in one product; one signature
is compared with 10 million; the features of a query picture are looked up in inverted lists with 10 million entries.
Descriptors, centres and signatures are drawn at random, which is of no matter to the time of a product or a count;
entries are spread evenly over the words, real ones are not. The loops run over a share that is named, and their time
is scaled to the whole; what both sides did is compared. Run it alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from countermove.pixels.randomness import generator
from countermove.retrieval.indexes.inverted import Features, InvertedLists, hamming, weights_of
from countermove.retrieval.indexes.vocabulary import nearest_words

WORDS, ENTRIES, PICTURES = 20_000, 10_000_000, 5_000
DESCRIPTORS, DIM = 4_700, 128
THRESHOLD, REPEATS = 24, 3


def best(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the least of some times, and the result."""
    call()  # pay the one-time costs outside the measurement
    seconds = []
    result = None
    for _ in range(REPEATS):
        began = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - began)
    return min(seconds), result


def once(call: Callable[[], Any], share: float) -> tuple[float, Any]:
    """Return the time of a share, scaled to the whole, and the result."""
    began = time.perf_counter()
    result = call()
    return (time.perf_counter() - began) / share, result


def told(what: str, ours: float, loop: float, of: str, same: bool) -> None:
    """Print a measurement."""
    print(what)
    print(f"  together                   {ours:10.3f} s")
    print(f"  a loop, scaled from {of}: {loop:10.1f} s")
    print(f"  ratio: {loop / ours:.0f}x; same result: {same}", flush=True)


def assignment(words: int) -> None:
    """Find the words of a picture's descriptors."""
    source = generator(0, "assignment")
    descriptors = torch.rand(DESCRIPTORS, DIM, generator=source)
    centres = torch.rand(words, DIM, generator=source)
    ours, found = best(lambda: nearest_words(descriptors, centres)[:, 0])
    some, known = descriptors[:50].numpy(), centres.numpy()
    loop, slow = once(lambda: [int(((known - one) ** 2).sum(1).argmin()) for one in some], len(some) / DESCRIPTORS)
    what = f"{DESCRIPTORS:,} descriptors of {DIM} numbers, {words:,} words, {torch.get_num_threads()} threads"
    told(what, ours, loop, "50 descriptors", found[:50].tolist() == slow)


def one_signature(signatures: np.ndarray) -> None:
    """Compare one signature with all."""
    query = signatures[0] ^ np.uint64(7)
    ours, found = best(lambda: np.flatnonzero(hamming(signatures, query) <= THRESHOLD))
    some, number = signatures[:200_000].tolist(), int(query)

    def slow() -> list[int]:
        return [i for i, other in enumerate(some) if (other ^ number).bit_count() <= THRESHOLD]

    loop, by_hand = once(slow, len(some) / len(signatures))
    same = found[found < len(some)].tolist() == by_hand
    told(f"one 64-bit signature among {len(signatures):,}", ours, loop, "200,000 signatures", same)


def inverted_lists(signatures: np.ndarray, words: int) -> None:
    """Score all pictures for a query."""
    draw = np.random.default_rng(0)
    count = len(signatures)
    features = Features(
        word=draw.integers(0, words, count).astype(np.int32),
        signature=signatures,
        place=np.zeros((count, 2), dtype=np.float32),
        counts=np.full(PICTURES, count // PICTURES, dtype=np.int64),
    )
    began = time.perf_counter()
    lists = InvertedLists(features, words)
    print(
        f"{count:,} entries of {PICTURES:,} pictures sorted into {words:,} lists: {time.perf_counter() - began:.1f} s"
    )
    word, weight = draw.integers(0, words, DESCRIPTORS), weights_of("log", THRESHOLD, 64)
    query = draw.integers(0, 2**63, DESCRIPTORS).astype(np.uint64)
    feature = np.arange(DESCRIPTORS)

    def ours_over(n: int) -> np.ndarray:
        return lists.scores(word[:n], query[:n], feature[:n], weight=weight, idf=True, burstiness=True)

    def slow(n: int) -> np.ndarray:
        votes = np.zeros(PICTURES)
        for k in range(n):
            given: dict[int, list[float]] = {}
            for i in range(lists.start[word[k]], lists.start[word[k] + 1]):
                apart = (int(lists.signature[i]) ^ int(query[k])).bit_count()
                if apart <= THRESHOLD:
                    given.setdefault(int(lists.picture[i]), []).append(weight[apart] * lists.idf[word[k]] ** 2)
            for picture, values in given.items():
                votes[picture] += sum(values) / len(values) ** 0.5
        return votes

    ours, _ = best(lambda: ours_over(DESCRIPTORS))
    loop, by_hand = once(lambda: slow(100), 100 / DESCRIPTORS)
    same = bool(np.allclose(ours_over(100), by_hand))
    told(f"a query of {DESCRIPTORS:,} features among {count:,} entries", ours, loop, "100 features", same)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, default=WORDS)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    assignment(asked.words)
    signatures = np.random.default_rng(1).integers(0, 2**64, asked.entries, dtype=np.uint64)
    one_signature(signatures)
    inverted_lists(signatures, asked.words)


if __name__ == "__main__":
    main()
