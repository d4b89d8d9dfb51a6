"""Search by keypoints: SIFT, a bag of visual words, and signatures that tell a word's descriptors apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.pixels.randomness import generator
from countermove.retrieval.backbone import Describer
from countermove.retrieval.collection import Collection, Pictures, Read
from countermove.retrieval.indexes.inverted import Features, InvertedLists, Weight, weights_of
from countermove.retrieval.indexes.stored import checked, kept_rows, read_facts, read_index, stored_tensor, write_index
from countermove.retrieval.indexes.vocabulary import Vocabulary, learn_vocabulary

DIM = 128
LEAST_INLIERS = 8
TOLERANCE, ATTEMPTS = 0.01, 500
"""How far off a match may be, by the diagonal of the query's keypoints; how many homographies are tried."""
_SEARCH_ONLY = {"threshold", "weight", "idf", "burstiness", "assignment", "verify"}
_TRAINING_ONLY = {"sample", "rounds"}


@dataclass(frozen=True, kw_only=True)
class LocalFeatures:
    """SIFT, Lowe 2004, with Hamming embedding, Jegou et al. 2008 (inria-00316866).

    Descriptors become visual words; a query's descriptor matches those of its word whose 64-bit signatures differ in
    at most 24 bits. A match counts weight x idf squared, divided by the root of the number of votes of that query
    descriptor for that picture; a picture's sum is divided by the roots of the sums of squared idf of the query's and
    the picture's words. A picture without keypoints scores 0 and finds nothing; so does one that is alone in an index,
    as its words tell nothing apart.

    words:      visual words (thesis: 20,000), learned from public pictures.
    bits:       of a signature, 1 to 64.
    threshold:  the largest Hamming distance of a match.
    weight:     "log" counts how unlikely a match is, "gauss" is COLMAP's, "binary" is the first paper's.
    idf:        words that many pictures have count less.
    burstiness: repeated structure counts less.
    assignment: words a query's descriptor is looked up under; indexed ones have one.
    root:       RootSIFT, Arandjelovic and Zisserman 2012.
    keypoints:  the strongest so many of a picture; 0: all.
    contrast:   threshold of OpenCV's detector on a keypoint's contrast, and its default; lower finds more.
    edge:       its threshold on how edge-like a keypoint may be; higher finds more.
    verify:     the first so many results are ranked by how many matches agree on a homography; 0: none.
    sample:     at most so many descriptors teach the vocabulary.
    rounds:     of Lloyd's k-means.

    Differs from the thesis: keypoints are OpenCV's, and it names neither weight nor burstiness.
    """

    version: ClassVar[int] = 1
    words: int = 20_000
    bits: int = 64
    threshold: int = 24
    weight: Weight = "log"
    idf: bool = True
    burstiness: bool = True
    assignment: int = 1
    root: bool = True
    keypoints: int = 0
    contrast: float = 0.04
    edge: float = 10.0
    verify: int = 0
    sample: int = 500_000
    rounds: int = 10

    def __post_init__(self) -> None:
        if self.weight not in get_args(Weight):
            raise ConfigError(f"unknown weight {self.weight!r}; {did_you_mean(str(self.weight), get_args(Weight))}")
        if not 1 <= self.bits <= 64 or not 0 <= self.threshold <= self.bits:
            raise ConfigError(
                f"bits = {self.bits}, threshold = {self.threshold} are refused: signatures have 1 to 64 bits, "
                "and at most all of them differ"
            )
        for name, least in (("words", 1), ("sample", 1), ("rounds", 0), ("keypoints", 0), ("verify", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} = {getattr(self, name)} is refused: it must be at least {least}")
        if not 1 <= self.assignment <= self.words:
            raise ConfigError(f"assignment = {self.assignment} is refused: it is 1 to words = {self.words}")
        if self.contrast < 0 or self.edge <= 0:
            raise ConfigError(
                f"contrast = {self.contrast}, edge = {self.edge} are refused: they are thresholds above 0"
            )

    def described_as(self, vocabulary: Vocabulary | None = None) -> dict[str, Any]:
        """Return what words and signatures depend on; how they are compared may change afterwards."""
        settings = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in _SEARCH_ONLY | _TRAINING_ONLY
        }
        learned = {} if vocabulary is None else {"vocabulary": vocabulary.digest}
        return {"engine": "local", "version": self.version, **settings, **learned}

    def describe(self, picture: Tensor) -> tuple[np.ndarray, Tensor]:
        """Return a picture's keypoints, x and y float32 [n, 2], and their descriptors, float32 [n, 128].

        Raises:
            ConfigError: when OpenCV is absent.
            DataError: when it is not uint8 [3, H, W].
        """
        cv2 = opencv()
        rgb = np.ascontiguousarray(checked(picture).permute(1, 2, 0).cpu().numpy())
        detector = cv2.SIFT_create(nfeatures=self.keypoints, contrastThreshold=self.contrast, edgeThreshold=self.edge)
        points, found = detector.detectAndCompute(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), None)
        if found is None or not len(points):
            return np.zeros((0, 2), dtype=np.float32), torch.zeros(0, DIM)
        descriptors = torch.from_numpy(np.asarray(found, dtype=np.float32))
        if self.root:
            descriptors = torch.nn.functional.normalize(descriptors, p=1, dim=1).sqrt()
        else:
            descriptors = torch.nn.functional.normalize(descriptors, dim=1)
        return np.array([point.pt for point in points], dtype=np.float32), descriptors

    def train(self, pictures: Pictures | Sequence[Tensor], *, seed: int) -> Vocabulary:
        """Learn a vocabulary from pictures that are neither indexed nor queries.

        Raises:
            ConfigError: when they have too few descriptors for so many words.
        """
        found = [self.describe(pictures[row])[1] for row in range(len(pictures))]
        descriptors = torch.cat(found) if found else torch.zeros(0, DIM)
        if len(descriptors) > self.sample:
            chosen = torch.randperm(len(descriptors), generator=generator(seed, "sample"))[: self.sample]
            descriptors = descriptors[chosen.sort().values]
        return learn_vocabulary(descriptors, words=self.words, bits=self.bits, rounds=self.rounds, seed=seed)

    def build(self, pictures: Pictures | Sequence[Tensor], vocabulary: Vocabulary) -> LocalIndex:
        """Index pictures.

        Raises:
            DataError: when there are none, or one is not uint8 [3, H, W].
            ConfigError: when the vocabulary has other words or bits.
        """
        if vocabulary.thresholds.shape != (self.words, self.bits):
            words, bits = vocabulary.thresholds.shape
            raise ConfigError(f"the vocabulary has {words} words of {bits} bits; asked are {self.words} of {self.bits}")
        return LocalIndex(self, vocabulary, _entries(self, vocabulary, pictures))

    def looks(self) -> None:
        """Return None: it looks through no backbone."""

    def index(
        self,
        collection: Collection,
        pictures: Sequence[Tensor],
        *,
        describer: Describer | None,
        seed: int,
        device: str,
    ) -> LocalIndex:
        """Return an index of pictures, with a vocabulary learned from the collection's public ones, on the CPU.

        Raises:
            ConfigError: when these have too few descriptors for so many words.
        """
        rows = collection.public.tolist()
        public = Read(len(rows), lambda row: collection.pictures[rows[row]])
        return self.build(pictures, self.train(public, seed=seed))

    def opened(self, folder: Path, collection: Collection, *, describer: Describer | None, device: str) -> LocalIndex:
        """Return an index that was saved, as `load` does."""
        return self.load(folder)

    def load(self, folder: Path, *, vocabulary: Vocabulary | None = None) -> LocalIndex:
        """Load an index with the vocabulary it was built by.

        Args:
            folder:     where it was saved.
            vocabulary: with this one only.

        Raises:
            DataError: when there is none, it is broken, or was built with other settings or another vocabulary.
        """
        digest = read_facts(folder).get("vocabulary")
        wanted = {"vocabulary": digest if vocabulary is None else vocabulary.digest}
        tensors = read_index(folder, {**self.described_as(), **wanted})
        learned = Vocabulary(
            centres=stored_tensor(tensors, "centres", torch.float32, self.words, DIM),
            projection=stored_tensor(tensors, "projection", torch.float32, self.bits, DIM),
            thresholds=stored_tensor(tensors, "thresholds", torch.float32, self.words, self.bits),
        )
        if learned.digest != digest:
            raise DataError(f"the vocabulary in {folder} is not the one it says. Build the index again")
        counts = stored_tensor(tensors, "counts", torch.int64, None).numpy()
        total = int(counts.sum())
        features = {
            "word": stored_tensor(tensors, "word", torch.int32, total).numpy(),
            "signature": stored_tensor(tensors, "signature", torch.int64, total).numpy().view(np.uint64),
            "place": stored_tensor(tensors, "place", torch.float32, total, 2).numpy(),
        }
        word = features["word"]
        if (len(word) and not 0 <= int(word.min()) <= int(word.max()) < self.words) or (counts < 0).any():
            raise DataError(f"the index in {folder} names words that are not there. Build it again")
        return LocalIndex(self, learned, Features(counts=counts, **features))


class LocalIndex:
    """Pictures by their keypoints' words and signatures."""

    def __init__(self, engine: LocalFeatures, vocabulary: Vocabulary, features: Features) -> None:
        self.engine = engine
        self.vocabulary = vocabulary
        self._hold(features)

    def __len__(self) -> int:
        return len(self.features.counts)

    def scores(self, queries: Sequence[Tensor]) -> Tensor:
        """Return the normalised votes, float64 [Q, M]; verified pictures stand above all others."""
        return torch.from_numpy(np.stack([self._scores(query) for query in queries]))

    def add(self, pictures: Sequence[Tensor]) -> None:
        """Put pictures behind those that are there; the vocabulary stays, idf follows."""
        self._hold(self.features.joined(_entries(self.engine, self.vocabulary, pictures)))

    def remove(self, rows: Sequence[int]) -> None:
        """Take pictures out; those behind move up."""
        self._hold(self.features.kept(kept_rows(len(self), rows).numpy()))

    def save(self, folder: Path) -> None:
        """Write everything, with the vocabulary, into an empty folder."""
        features = {
            "word": torch.from_numpy(self.features.word),
            "signature": torch.from_numpy(self.features.signature.view(np.int64)),
            "place": torch.from_numpy(self.features.place),
            "counts": torch.from_numpy(self.features.counts),
        }
        write_index(folder, self.engine.described_as(self.vocabulary), {**self.vocabulary.tensors(), **features})

    def _hold(self, features: Features) -> None:
        self.features = features
        self.lists = InvertedLists(features, len(self.vocabulary))
        self._norms = self.lists.norms(idf=self.engine.idf)

    def _scores(self, query: Tensor) -> np.ndarray:
        engine = self.engine
        places, descriptors = engine.describe(query)
        if not len(places):
            return np.zeros(len(self))
        words = self.vocabulary.words(descriptors, engine.assignment)
        signature = self.vocabulary.signatures(descriptors, words).reshape(-1)
        feature = np.repeat(np.arange(len(places)), engine.assignment)
        word = words.reshape(-1).numpy()
        weight = weights_of(engine.weight, engine.threshold, engine.bits)
        votes = self.lists.scores(word, signature, feature, weight=weight, idf=engine.idf, burstiness=engine.burstiness)
        own = self.lists.idf[words[:, 0].numpy()] ** 2 if engine.idf else np.ones(len(places))
        norms = self._norms * np.sqrt(own.sum())
        scores = np.divide(votes, norms, out=np.zeros(len(self)), where=norms > 0)
        return self._verified(scores, word, signature, feature, places) if engine.verify else scores

    def _verified(
        self, scores: np.ndarray, word: np.ndarray, signature: np.ndarray, feature: np.ndarray, places: np.ndarray
    ) -> np.ndarray:
        """Lift those of the first results whose matches agree on where things are."""
        cv2 = opencv()
        first = np.argsort(-scores, kind="stable")[: self.engine.verify]
        found = list(self.lists.matches(word, signature, feature, self.engine.threshold))
        picture, entry, mine, distance = (
            np.concatenate([getattr(part, name) for part in found])
            for name in ("picture", "entry", "feature", "distance")
        )
        tolerance = max(1.0, TOLERANCE * float(np.hypot(*np.ptp(places, axis=0))))
        lifted = scores.copy()
        for row in first:
            here = np.flatnonzero(picture == row)
            # Each feature with its most similar entry: the more that cannot fit, the longer what fits is sought.
            here = here[np.lexsort((distance[here], mine[here]))]
            here = here[np.unique(mine[here], return_index=True)[1]]
            if len(here) < LEAST_INLIERS:
                continue
            there = self.lists.place[entry[here]]
            _, agree = cv2.findHomography(places[mine[here]], there, cv2.RANSAC, tolerance, maxIters=ATTEMPTS)
            # Matches may share an entry; where a homography squeezes all into a point, all do.
            inliers = 0 if agree is None else len(np.unique(entry[here][agree[:, 0] > 0]))
            if inliers >= LEAST_INLIERS:
                lifted[row] += inliers * float(scores.max())
        return lifted


def opencv() -> Any:
    """Return OpenCV.

    Raises:
        ConfigError: when it is absent.
    """
    try:
        return import_module("cv2")
    except ImportError as error:
        raise ConfigError(
            f"keypoints need OpenCV, which cannot be imported ({error}); run: pip install 'countermove[retrieval]', "
            "or search by another engine"
        ) from error


def _entries(engine: LocalFeatures, vocabulary: Vocabulary, pictures: Pictures | Sequence[Tensor]) -> Features:
    if not len(pictures):
        raise DataError("there is no picture; an index needs at least one")
    parts = []
    for row in range(len(pictures)):
        places, descriptors = engine.describe(pictures[row])
        words = vocabulary.words(descriptors)
        parts.append((words[:, 0].int().numpy(), vocabulary.signatures(descriptors, words)[:, 0], places))
    word, signature, place = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    counts = np.array([len(part[0]) for part in parts], dtype=np.int64)
    return Features(word=word, signature=signature, place=place, counts=counts)
