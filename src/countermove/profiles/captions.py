"""What is written under an item, as numbers that stand behind its features. Legend: M items, W width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor

WIDTH = 128


def caption_vectors(texts: Sequence[str]) -> Tensor:
    """Return which words every text has, float32 [M, W]: 1 in the place that a word is hashed to, else 0.

    Nothing is learned, so what an item is worth to a profiler is learned by the profiler alone. Words are those of
    scikit-learn, in lower case. Hashing: Weinberger et al. 2009, arXiv:0902.2206.
    """
    hashed = HashingVectorizer(n_features=WIDTH, norm=None, binary=True, alternate_sign=False)  # pyright: ignore[reportArgumentType]
    found: Any = hashed.transform(texts)
    return torch.from_numpy(found.toarray()).float()
