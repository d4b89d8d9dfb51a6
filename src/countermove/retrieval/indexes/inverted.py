"""Inverted lists of binary signatures: which pictures have a visual word, and how alike theirs are to the query's.

Legend: E entries, one for each descriptor of each indexed picture; K words; P pairs of a query's feature and an entry.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

Weight = Literal["log", "gauss", "binary"]
"""How much a match at a Hamming distance counts."""

PAIRS_AT_ONCE = 1 << 22
_HALVES = 16


def hamming(a: Any, b: Any) -> np.ndarray:
    """Return how many bits of 64 differ, uint8, broadcast."""
    return _bits(np.bitwise_xor(a, b))


def weights_of(weight: Weight, threshold: int, bits: int) -> np.ndarray:
    """Return the weight of each Hamming distance from 0 to 64, float64; 0 beyond the threshold.

    binary: 1. gauss: exp(-(4 h / bits)^2), which is COLMAP's exp(-h^2 / 16^2) for 64 bits. log: minus the logarithm to
    base 2 of how likely random signatures are at least as alike; 64 at distance 0.
    """
    h = np.arange(65, dtype=np.float64)
    if weight == "binary":
        values = np.ones(65)
    elif weight == "gauss":
        values = np.exp(-((4 * h / bits) ** 2))
    else:
        counts = np.cumsum([math.comb(bits, i) for i in range(65)], dtype=np.float64)
        values = bits - np.log2(counts)
    values[threshold + 1 :] = 0
    return values


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Described keypoints of pictures, one after the other.

    word:      of each, int32 [E].
    signature: uint64 [E].
    place:     x and y in the picture, float32 [E, 2].
    counts:    how many each picture has, int64 [M].
    """

    word: np.ndarray
    signature: np.ndarray
    place: np.ndarray
    counts: np.ndarray

    def __post_init__(self) -> None:
        assert len(self.word) == len(self.signature) == len(self.place) == int(self.counts.sum())

    @property
    def picture(self) -> np.ndarray:
        """Return the picture of each entry, int32 [E]."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)

    def joined(self, other: Features) -> Features:
        """Return these pictures and others behind them."""
        names = ("word", "signature", "place", "counts")
        return Features(**{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names})

    def kept(self, rows: np.ndarray) -> Features:
        """Return the pictures of some rows, in ascending order."""
        stays = np.zeros(len(self.counts), dtype=bool)
        stays[rows] = True
        entries = np.repeat(stays, self.counts)
        return Features(
            word=self.word[entries],
            signature=self.signature[entries],
            place=self.place[entries],
            counts=self.counts[stays],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """Pairs that fit: a query's feature, an entry of the lists, its picture, and the Hamming distance, [P] each."""

    feature: np.ndarray
    entry: np.ndarray
    picture: np.ndarray
    distance: np.ndarray


class InvertedLists:
    """Entries sorted by word, and where each word's begin."""

    def __init__(self, features: Features, words: int) -> None:
        self.words = words
        self.pictures = len(features.counts)
        # The order within a word is that of the pictures.
        order = np.argsort(features.word, kind="stable")
        self.signature = features.signature[order]
        self.picture = features.picture[order]
        self.place = features.place[order]
        word = features.word[order]
        self.start = np.searchsorted(word, np.arange(words + 1))
        first = np.ones(len(word), dtype=bool)
        first[1:] = (word[1:] != word[:-1]) | (self.picture[1:] != self.picture[:-1])
        having = np.bincount(word[first], minlength=words)
        # A word that no picture has is never met; one that all have says nothing.
        self.idf = np.where(having > 0, np.log(max(1, self.pictures) / np.maximum(having, 1)), 0.0)
        self.word = word

    def norms(self, *, idf: bool) -> np.ndarray:
        """Return the root of the sum of squared idf over each picture's entries, float64 [M]."""
        squares = self.idf[self.word] ** 2 if idf else np.ones(len(self.word))
        return np.sqrt(np.bincount(self.picture, weights=squares, minlength=self.pictures))

    def matches(
        self, word: np.ndarray, signature: np.ndarray, feature: np.ndarray, threshold: int
    ) -> Iterator[Matches]:
        """Yield the entries of the same word whose signatures differ in at most so many bits, in portions.

        Args:
            word:      words of a query's features, int [n]; a feature may stand there with several.
            signature: uint64 [n], each by its word's thresholds.
            feature:   which feature of the query each is, int [n], ascending.
            threshold: the largest Hamming distance.
        """
        length = self.start[word + 1] - self.start[word]
        total = np.cumsum(length)
        begin = 0
        while begin < len(word):
            before = total[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(total, before + PAIRS_AT_ONCE, side="right")))
            # All words of a feature stay together, so that its votes for a picture can be counted.
            while end < len(word) and feature[end] == feature[end - 1]:
                end += 1
            part = slice(begin, end)
            row = np.repeat(np.arange(begin, end), length[part])
            offset = np.arange(len(row)) - np.repeat(total[part] - length[part] - before, length[part])
            entry = np.repeat(self.start[word[part]], length[part]) + offset
            distance = hamming(self.signature[entry], signature[row])
            near = distance <= threshold
            entry, row = entry[near], row[near]
            yield Matches(
                feature=feature[row], entry=entry, picture=self.picture[entry], distance=distance[near].astype(np.int64)
            )
            begin = end

    def scores(
        self,
        word: np.ndarray,
        signature: np.ndarray,
        feature: np.ndarray,
        *,
        weight: np.ndarray,
        idf: bool,
        burstiness: bool,
    ) -> np.ndarray:
        """Return the votes for every picture, float64 [M], not yet normalised.

        Args:
            word: as for matches.
            signature: as for matches.
            feature: as for matches.
            weight: of each Hamming distance, 0 beyond the threshold.
            idf: multiply by the squared idf of the word.
            burstiness: divide a feature's votes for a picture by the root of their number.
        """
        votes = np.zeros(self.pictures)
        threshold = int(np.flatnonzero(weight).max())
        for found in self.matches(word, signature, feature, threshold):
            value = weight[found.distance]
            if idf:
                value = value * self.idf[self.word[found.entry]] ** 2
            if burstiness:
                pair = found.feature.astype(np.int64) * self.pictures + found.picture
                _, inverse, counts = np.unique(pair, return_inverse=True, return_counts=True)
                value = value / np.sqrt(counts)[inverse]
            votes += np.bincount(found.picture, weights=value, minlength=self.pictures)
        return votes


def _bits(values: np.ndarray) -> np.ndarray:
    count = getattr(np, "bitwise_count", None)
    if count is not None:
        return count(values)
    # numpy before 2.0
    parts = np.ascontiguousarray(values).view(np.uint16).reshape(*np.shape(values), 4)
    return _table()[parts].sum(-1, dtype=np.uint8)


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    numbers = np.arange(1 << _HALVES, dtype=np.uint16)
    return np.unpackbits(numbers.view(np.uint8).reshape(-1, 2), axis=1).sum(1, dtype=np.uint8)
