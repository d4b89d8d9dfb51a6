"""A task on texts: what is read, what is to be said of it. Legend: N texts, K classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from countermove.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Labelled texts.

    texts:  one a row.
    pairs:  second sentences; None where the task has single ones.
    labels: rows of `TextTask.classes`.
    ids:    unique.
    """

    texts: Sequence[str]
    labels: Sequence[int]
    ids: Sequence[str]
    pairs: Sequence[str] | None = None

    def __post_init__(self) -> None:
        lengths = {
            len(self.texts),
            len(self.labels),
            len(self.ids),
            len(self.texts if self.pairs is None else self.pairs),
        }
        if len(lengths) != 1 or len(set(self.ids)) != len(self.ids):
            raise DataError("texts, labels and ids must be as many, and ids unique")

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, rows: Sequence[int]) -> Texts:
        """Return some of them."""
        return Texts(
            texts=[self.texts[i] for i in rows],
            labels=[self.labels[i] for i in rows],
            ids=[self.ids[i] for i in rows],
            pairs=None if self.pairs is None else [self.pairs[i] for i in rows],
        )


@dataclass(frozen=True, kw_only=True)
class TextTask:
    """What is trained on and what is tested, and how long texts may be (in tokens)."""

    name: str
    classes: tuple[str, ...]
    train: Texts
    test: Texts
    length: int

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or not len(self.train) or not len(self.test):
            raise DataError(f"{self.name}: a task has at least two classes, and texts to train and to test on")

    @property
    def chance(self) -> float:
        """Return the share of the largest class among the test texts."""
        labels = list(self.test.labels)
        return max(labels.count(k) for k in range(len(self.classes))) / len(labels)
