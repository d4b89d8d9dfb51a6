"""Visual words: centres of descriptors, and the thresholds by which a word's descriptors become signatures.

Legend: n descriptors of D numbers, K words, B bits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.randomness import generator

LEAST_SAMPLES = 5
"""Words with fewer descriptors to learn from take the thresholds of all descriptors together."""
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """What turns descriptors into words and signatures. Nothing of it depends on what is indexed.

    centres:    float32 [K, D].
    projection: rows are orthonormal, float32 [B, D].
    thresholds: by word and bit, float32 [K, B].
    """

    centres: Tensor
    projection: Tensor
    thresholds: Tensor

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def digest(self) -> str:
        """Return SHA-256 over all its numbers."""
        content = hashlib.sha256()
        for name, tensor in self.tensors().items():
            content.update(f"{name} {list(tensor.shape)}".encode())
            content.update(tensor.contiguous().numpy().astype("<f4").tobytes())
        return content.hexdigest()

    def tensors(self) -> dict[str, Tensor]:
        """Return everything, to be saved."""
        return {"centres": self.centres, "projection": self.projection, "thresholds": self.thresholds}

    def words(self, descriptors: Tensor, count: int = 1) -> Tensor:
        """Return the nearest words of descriptors, the nearest first, int64 [n, count]."""
        return nearest_words(descriptors, self.centres, count)

    def signatures(self, descriptors: Tensor, words: Tensor) -> np.ndarray:
        """Return signatures by the thresholds of each descriptor's words [n, count], uint64 [n, count]."""
        projected = descriptors @ self.projection.T
        return np.stack([packed(projected > self.thresholds[column]) for column in words.unbind(1)], axis=1)


def nearest_words(descriptors: Tensor, centres: Tensor, count: int = 1) -> Tensor:
    """Return the nearest centres by Euclidean distance, int64 [n, count]: one product for many descriptors."""
    lengths = centres.square().sum(1) / 2
    found = []
    for part in descriptors.split(_ROWS_AT_ONCE):
        near = torch.addmm(-lengths, part, centres.T)
        found.append(near.argmax(1, keepdim=True) if count == 1 else near.topk(count, dim=1).indices)
    return torch.cat(found) if found else torch.zeros(0, count, dtype=torch.int64)


def packed(bits: Tensor) -> np.ndarray:
    """Return bool [n, B], B up to 64, as uint64 [n]; bits that are not there are 0."""
    full = np.zeros((len(bits), 64), dtype=np.uint8)
    full[:, : bits.shape[1]] = bits.numpy()
    return np.packbits(full, axis=1).view(">u8")[:, 0].astype(np.uint64)


def learn_vocabulary(descriptors: Tensor, *, words: int, bits: int, rounds: int, seed: int) -> Vocabulary:
    """Cluster descriptors and learn the thresholds.

    Args:
        descriptors: float32 [n, D].
        words:       how many.
        bits:        of a signature, at most D and 64.
        rounds:      of Lloyd's algorithm, from randomly chosen descriptors.
        seed:        of that choice and of the projection.

    Raises:
        ConfigError: when there are fewer different descriptors than words.
    """
    different = _different(descriptors, seed)
    if len(different) < words:
        raise ConfigError(
            f"words = {words:,} is refused: the public pictures have {len(different):,} different descriptors, and a "
            f"word needs at least one. Use words <= {len(different) // 10:,}, or more public pictures"
        )
    start = torch.randperm(len(different), generator=generator(seed, "words"))[:words]
    centres = different[start].clone()
    for _ in range(rounds):
        centres = _moved(descriptors, centres)
    gauss = torch.randn(descriptors.shape[1], descriptors.shape[1], generator=generator(seed, "projection"))
    projection = torch.linalg.qr(gauss.double()).Q[:bits].float().contiguous()
    word = nearest_words(descriptors, centres)[:, 0]
    thresholds = _medians(descriptors @ projection.T, word, words)
    return Vocabulary(centres=centres, projection=projection, thresholds=thresholds)


def _different(descriptors: Tensor, seed: int) -> Tensor:
    """Leave out copies: flat and synthetic pictures have many. Along a random direction, only copies coincide."""
    direction = torch.randn(descriptors.shape[1], generator=generator(seed, "copies"), dtype=torch.float64)
    along = torch.cat([part.double() @ direction for part in descriptors.split(_ROWS_AT_ONCE)])
    return descriptors[torch.from_numpy(np.unique(along.numpy().round(9), return_index=True)[1])]


def _moved(descriptors: Tensor, centres: Tensor) -> Tensor:
    word = nearest_words(descriptors, centres)[:, 0]
    counts = torch.bincount(word, minlength=len(centres))[:, None]
    sums = torch.zeros_like(centres, dtype=torch.float64).index_add_(0, word, descriptors.double())
    # A word that nothing is nearest to stays where it is.
    return torch.where(counts > 0, (sums / counts.clamp(min=1)).float(), centres)


def _medians(projected: Tensor, word: Tensor, words: int) -> Tensor:
    """Return the median of each bit over each word's descriptors, float32 [K, B]."""
    numbers, owner = projected.numpy(), word.numpy()
    counts = np.bincount(owner, minlength=words)
    start = np.concatenate([[0], np.cumsum(counts)[:-1]])
    enough = counts >= LEAST_SAMPLES
    low, high = start + np.maximum(counts - 1, 0) // 2, start + np.maximum(counts, 1) // 2
    high = np.minimum(high, len(owner) - 1)
    low = np.minimum(low, len(owner) - 1)
    thresholds = np.empty((words, projected.shape[1]), dtype=np.float32)
    for bit in range(projected.shape[1]):
        column = numbers[:, bit]
        column = column[np.lexsort((column, owner))]
        middle = (column[low] + column[high]) / 2
        thresholds[:, bit] = np.where(enough, middle, np.median(numbers[:, bit]))
    return torch.from_numpy(thresholds)
