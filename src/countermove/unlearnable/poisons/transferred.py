"""Noise that was made on another data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.balls import Ball, Norm
from countermove.pixels.batch import Batch
from countermove.pixels.rounding import to_uint8
from countermove.unlearnable.data.sources import digest_of, load_source, read_source
from countermove.unlearnable.dataset import Pictures
from countermove.unlearnable.parts import charge, corner, kept_within, read_part
from countermove.unlearnable.poison import Context, promised_ball, surrogates_of
from countermove.unlearnable.transfer import EXTRA, carried_noise, read_mapping, resized, source_of_classes


@dataclass(frozen=True, kw_only=True)
class Transferred:
    """Noise carried over from another data set, Huang et al. 2021, arXiv:2101.04898.

    A poison is made for all train pictures of the source, brought to the size of the pictures at hand, and its noise is
    put on these (section 4.4).

    source:  the other data set, spelled like data of the grid (paper: ImageNet at 32 x 32 to CIFAR-10, class-wise).
    poison:  what is made on it, spelled like a move (paper: error-minimizing, with form=class for the class-wise form).
    form:    "class": every picture gets the noise of the source class that stands for its own; the poison must be
             class-wise. "sample": the pictures at hand are pictures of the source, joined to these data by
             +extra-class(...), and keep the noise that they got there.
    match:   how classes are matched where no mapping is given: "name", by equal names; "position", the first class to
             the first and so on.
    mapping: for form=class, "class=source class" for every class that is moved (paper, table 4: airplane=airliner,
             automobile=wagon, bird=humming bird, cat=siamese cat, deer=ox, dog=golden retriever, frog=tailed frog,
             horse=zebra, ship=container ship, truck=trailer truck).

    Poisons that need a network trained beforehand are refused: it would have to be trained on the source. Differs from
    the paper: which part of ImageNet is at hand is up to the source.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = None
    streams: ClassVar[bool] = False

    source: str
    poison: str
    form: Literal["class", "sample"] = "class"
    match: Literal["name", "position"] = "name"
    mapping: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        part = read_part(self.poison, owner="transferred: poison")
        object.__setattr__(self, "poison", part.spelling)
        object.__setattr__(self, "source", read_source(self.source, owner="transferred").spelling)
        if surrogates_of(part.method):
            raise ConfigError(
                f"transferred: poison = {self.poison!r} is refused: it needs a network trained beforehand, and that "
                "would be trained on the wrong data; take one that trains its own, such as error-minimizing"
            )
        read_mapping(self.mapping)
        if self.mapping and (self.form == "sample" or self.match == "position"):
            raise ConfigError("transferred: a mapping is for form=class and match=name; leave it out or these")

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return SHA-256 over the source's content and the poison's settings, version and files."""
        source = read_source(self.source, owner="transferred")
        return digest_of(source, read_part(self.poison, owner="transferred"), rehash=rehash)

    def promise(self) -> Ball | None:
        """Return the ball that the poison promises."""
        return promised_ball(read_part(self.poison, owner="transferred").method)

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W], already rounded inside the promised ball.

        Raises:
            DataError: on a class without a source class, noise that is not class-wise, or pictures that the source
                does not have.
        """
        train = load_source(read_source(self.source, owner="transferred")).train
        if self.form == "class":
            return self._by_class(batch, train, context)
        rows = _rows_of(batch, train)
        train = _fitting(train, batch)
        _check_same(batch, train.pictures[rows])
        clean, moved = self._made(train, context)
        return self._put(batch, moved.pictures[rows] - clean.pictures[rows])

    def on_test(self, test: Batch, *, clean: Batch, moved: Batch, context: Context) -> Batch | None:
        """Put class-wise noise on new pictures; sample-wise noise fits no new picture."""
        if self.form == "sample":
            return None
        if "noise" not in context.kept:  # made by an earlier call
            self(clean, context=context)
        return self._put(test, context.kept["noise"][test.labels])

    def _by_class(self, batch: Batch, train: Pictures, context: Context) -> Batch:
        pairs = self._pairs(batch, train.classes)  # refused before anything is made
        by_name = carried_noise(*self._made(_fitting(train, batch), context), what=self.poison)
        noise = torch.zeros(len(batch.classes), *batch.pictures.shape[1:])
        for name, found in pairs.items():
            noise[batch.classes.index(name)] = by_name[found]
        context.kept["noise"] = noise
        return self._put(batch, noise[batch.labels])

    def _made(self, train: Pictures, context: Context) -> tuple[Batch, Batch]:
        """Return the source's pictures before and after the poison."""
        clean, own = train.batch(), corner(context, "source")
        moved = read_part(self.poison, owner="transferred").method(clean, context=own)
        charge(context, "source", own)
        return clean, moved

    def _put(self, batch: Batch, noise: Tensor) -> Batch:
        return batch.with_pictures(kept_within(batch.pictures + noise, batch.pictures, self.promise()))

    def _pairs(self, batch: Batch, source: tuple[str, ...]) -> dict[str, str]:
        labels = batch.labels.unique().tolist()
        wanted = [batch.classes[label] for label in labels]
        strange = [name for name in read_mapping(self.mapping) if name not in batch.classes]
        if strange:
            raise DataError(
                f"transferred: the mapping names a class {strange[0]!r}, but the pictures' classes are "
                f"{', '.join(batch.classes[:20])}"
            )
        if self.match == "name":
            return source_of_classes(wanted, source, self.mapping)
        if labels[-1] >= len(source):
            raise DataError(
                f"transferred: match=position is refused: class {wanted[-1]!r} is number {labels[-1] + 1}, but the "
                f"source has {len(source)} classes; give a mapping"
            )
        return {name: source[label] for name, label in zip(wanted, labels, strict=True)}


def _fitting(train: Pictures, batch: Batch) -> Pictures:
    """Return the source's pictures at the size of those at hand."""
    height, width = batch.pictures.shape[-2:]
    return replace(train, pictures=resized(train.pictures, (height, width)))


def _rows_of(batch: Batch, source: Pictures) -> Tensor:
    """Return where in the source the pictures at hand are."""
    place = {EXTRA + sample: i for i, sample in enumerate(source.ids)}
    absent = [sample for sample in batch.ids if sample not in place]
    if absent:
        raise DataError(
            f"transferred: form=sample is refused: {len(absent)} of {len(batch)} pictures are not among the source's "
            f"train pictures, the first is {absent[0]!r}. Join them with +extra-class(source=..., classname=...), "
            "naming the same source"
        )
    return torch.tensor([place[sample] for sample in batch.ids])


def _check_same(batch: Batch, pictures: Tensor) -> None:
    differ = (to_uint8(batch.pictures) != pictures).flatten(1).any(1)
    if differ.any():
        first = batch.ids[int(differ.nonzero()[0])]
        raise DataError(
            f"transferred: {int(differ.sum())} pictures differ from the source's of the same id, the first is "
            f"{first!r}; name the source that +extra-class(...) took them from"
        )
