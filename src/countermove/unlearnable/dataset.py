"""A data set of pictures as the arena holds it: 8-bit, in memory or in a file, with ids that noise can follow."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.pixels.batch import Batch
from countermove.pixels.mapped import portions, room_for
from countermove.pixels.selection import pick
from countermove.unlearnable.data.reading import Split


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """The pictures of one split.

    pictures: uint8 [N, 3, H, W], RGB.
    labels:   int64 [N], indices into classes.
    ids:      N strings, unique in the data set.
    classes:  the names of all classes.
    """

    pictures: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.pictures)
        if self.pictures.dtype != torch.uint8 or self.pictures.ndim != 4 or self.pictures.shape[1] != 3:
            raise DataError(
                f"pictures must be uint8 [N, 3, H, W]; got {self.pictures.dtype} {list(self.pictures.shape)}"
            )
        if n == 0:
            raise DataError("there are no pictures here; at least one is needed")
        if self.labels.dtype != torch.int64 or self.labels.shape != (n,) or len(self.ids) != n:
            raise DataError(
                f"{n} pictures need {n} int64 labels and {n} ids; "
                f"got {self.labels.dtype} {list(self.labels.shape)} and {len(self.ids)} ids"
            )
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise DataError(
                f"labels don't match the classes: they run from {low} to {high}, but {len(self.classes)} classes are "
                f"named, so 0 to {len(self.classes) - 1} is expected (a label of -1 usually means 'not labelled')"
            )

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, index: Tensor | Sequence[int] | None = None) -> Batch:
        """Return some or all pictures as float32 in [0, 1], in the order of `index`."""
        if index is None:
            return Batch(pictures=_unit(self.pictures), labels=self.labels, ids=self.ids, classes=self.classes)
        index = torch.as_tensor(index, dtype=torch.int64)
        ids = tuple(self.ids[i] for i in index.tolist())
        return Batch(pictures=_unit(self.pictures[index]), labels=self.labels[index], ids=ids, classes=self.classes)


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet:
    """Train and test pictures of one size, and which train pictures belong to the mover.

    name:    what it is called.
    train:   what a learner trains on; every class has at least two pictures.
    test:    what the learner is judged by; never moved.
    moved:   bool [N_train], the pictures that the mover owns and may change; all, unless chosen otherwise.
    skipped: messages about files that were left out because they were broken.
    people:  whether the classes are persons, so that verification is measured, too.
    """

    name: str
    train: Pictures
    test: Pictures
    moved: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))
    skipped: tuple[str, ...] = ()
    people: bool = False

    def __post_init__(self) -> None:
        if len(self.moved) == 0:
            object.__setattr__(self, "moved", torch.ones(len(self.train), dtype=torch.bool))
        if self.moved.dtype != torch.bool or self.moved.shape != (len(self.train),):
            raise DataError(f"{self.name}: moved must be bool [{len(self.train)}]; got {list(self.moved.shape)}")
        if self.train.classes != self.test.classes:
            raise DataError(f"{self.name}: train and test name different classes")
        sizes = [tuple(part.pictures.shape[2:]) for part in (self.train, self.test)]
        if sizes[0] != sizes[1]:
            raise DataError(
                f"{self.name}: unequal sizes: train pictures are {sizes[0]}, test pictures {sizes[1]} (H, W)"
            )
        _check_classes(self.name, self.train)
        _check_ids(self.name, self.train.ids + self.test.ids)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of all classes, in the order of the labels."""
        return self.train.classes

    @cached_property
    def digest(self) -> str:
        """SHA-256 over classes, ids, labels, shapes and bytes of both splits."""
        total = hashlib.sha256()
        for word in self.classes:
            total.update(word.encode() + b"\0")
        for part in (self.train, self.test):
            total.update(repr(tuple(part.pictures.shape)).encode())
            total.update("\0".join(part.ids).encode())
            total.update(part.labels.numpy().astype("<i8").tobytes())
            total.update(part.pictures.contiguous().numpy().data)
        return total.hexdigest()

    def choose(self, *, fraction: float = 1.0, classes: Sequence[str] = (), seed: int = 0) -> DataSet:
        """Return the same data with other moved pictures; see choose_moved."""
        moved = choose_moved(self.train.labels, self.train.ids, self.classes, fraction, classes, seed)
        return replace(self, moved=moved)


def choose_moved(
    labels: Tensor,
    ids: Sequence[str],
    classes: Sequence[str],
    fraction: float,
    moved_classes: Sequence[str],
    seed: int,
) -> Tensor:
    """Choose which train pictures the mover owns. Returns bool [N].

    Args:
        labels: int64 [N].
        ids: N ids; the choice follows them through any reordering.
        classes: the names of all classes.
        fraction: share of the pictures (of the moved classes, if any are named), in (0, 1].
        moved_classes: names of the classes to choose from; empty means all.
        seed: another seed chooses others.

    Raises:
        ConfigError: on an unknown class, a fraction outside (0, 1], or a choice that holds no picture.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"the moved fraction must be above 0 and at most 1; got {fraction}")
    for name in moved_classes:
        if name not in classes:
            raise ConfigError(f"unknown class {name!r} among the moved classes: {did_you_mean(name, classes)}")
    wanted = torch.tensor([not moved_classes or name in moved_classes for name in classes])
    candidates: list[int] = wanted[labels].nonzero().flatten().tolist()
    chosen = pick([ids[i] for i in candidates], fraction, seed=seed, purpose="moved")
    moved = torch.zeros(len(ids), dtype=torch.bool)
    moved[torch.tensor(candidates, dtype=torch.int64)] = torch.from_numpy(chosen)
    if not moved.any():
        raise ConfigError(f"a fraction of {fraction} of {len(candidates)} pictures is none; raise it")
    return moved


def from_arrays(name: str, classes: Sequence[str], train: Split, test: Split, skipped: Sequence[str] = ()) -> DataSet:
    """Build a data set from channels-last arrays, as files give them.

    Raises:
        DataError: when the parts do not fit together; see DataSet.
    """
    return DataSet(
        name=name,
        train=_split(classes, *train),
        test=_split(classes, *test),
        skipped=tuple(skipped),
    )


def _split(
    classes: Sequence[str], pictures: np.ndarray, labels: np.ndarray | Sequence[int], ids: Sequence[str]
) -> Pictures:
    numbers = torch.from_numpy(np.asarray(labels).astype(np.int64))
    return Pictures(pictures=_channels_first(pictures), labels=numbers, ids=tuple(ids), classes=tuple(classes))


def _channels_first(pictures: np.ndarray) -> Tensor:
    """Return uint8 [N, 3, H, W] of [N, H, W, 3]; what read_entries laid out is not copied."""
    turned = pictures.transpose(0, 3, 1, 2)
    if turned.flags.c_contiguous and turned.flags.writeable:
        return torch.from_numpy(turned)
    if turned.dtype != np.uint8:  # which Pictures refuses
        return torch.from_numpy(np.ascontiguousarray(turned))
    laid_out = room_for(turned.shape)
    for part in portions(len(turned), turned.shape):
        laid_out[part] = torch.from_numpy(np.array(turned[part]))
    return laid_out


def _check_classes(name: str, train: Pictures) -> None:
    if len(train.classes) < 2 or len(set(train.classes)) != len(train.classes):
        raise DataError(f"{name}: at least two classes of different names are needed; got {list(train.classes)}")
    counts = torch.bincount(train.labels, minlength=len(train.classes)).tolist()
    poor = [f"{label} ({count})" for label, count in zip(train.classes, counts, strict=True) if count < 2]
    if poor:
        more = f" and {len(poor) - 5} more" if len(poor) > 5 else ""
        raise DataError(
            f"{name}: every class needs at least two train pictures; too few in: {', '.join(poor[:5])}{more}. "
            "Add pictures, drop the class, or raise train_limit"
        )


def _check_ids(name: str, ids: Sequence[str]) -> None:
    if len(set(ids)) != len(ids):
        twice = [sample for sample, count in Counter(ids).items() if count > 1]
        raise DataError(f"{name}: ids must be unique; {len(twice)} occur more than once, for example {twice[0]!r}")


def _unit(pictures: Tensor) -> Tensor:
    return pictures.to(torch.float32) / 255
