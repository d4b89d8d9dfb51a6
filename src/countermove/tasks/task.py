"""A task on texts or pictures: what is read, what is to be said of it. Legend: N texts or pictures, K classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countermove.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

TEXT, PICTURE = "text", "picture"


def medium_of(method: Any) -> str:
    """Return what a network or a task is about: TEXT, unless its class says something else in `medium`."""
    return getattr(type(method), "medium", TEXT)


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
class Pictures:
    """Labelled pictures.

    pictures: uint8 [N, 3, H, W].
    labels:   rows of `PictureTask.classes`.
    ids:      unique.
    """

    pictures: Tensor
    labels: Sequence[int]
    ids: Sequence[str]

    def __post_init__(self) -> None:
        if len({len(self.pictures), len(self.labels), len(self.ids)}) != 1 or len(set(self.ids)) != len(self.ids):
            raise DataError("pictures, labels and ids must be as many, and ids unique")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class TextTask:
    """What is trained on and what is tested, and how long texts may be (in tokens)."""

    name: str
    classes: tuple[str, ...]
    train: Texts
    test: Texts
    length: int

    def __post_init__(self) -> None:
        _check_task(self)

    @property
    def chance(self) -> float:
        """Return the share of the largest class among the test texts."""
        return _largest(self)


@dataclass(frozen=True, kw_only=True)
class PictureTask:
    """What is trained on and what is tested."""

    name: str
    classes: tuple[str, ...]
    train: Pictures
    test: Pictures

    def __post_init__(self) -> None:
        _check_task(self)

    @property
    def chance(self) -> float:
        """Return the share of the largest class among the test pictures."""
        return _largest(self)


def _check_task(task: TextTask | PictureTask) -> None:
    if len(task.classes) < 2 or not len(task.train) or not len(task.test):
        raise DataError(f"{task.name}: a task has at least two classes, and something to train and to test on")


def _largest(task: TextTask | PictureTask) -> float:
    labels = list(task.test.labels)
    return max(labels.count(k) for k in range(len(task.classes))) / len(labels)
