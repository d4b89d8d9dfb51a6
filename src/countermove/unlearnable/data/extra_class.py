"""One class of another data set as an extra class: joined to a data set by a plus."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from countermove.errors import ConfigError, did_you_mean
from countermove.unlearnable.data.sources import digest_of, load_source, read_source

if TYPE_CHECKING:
    from countermove.unlearnable.dataset import DataSet, Pictures


@dataclass(frozen=True, kw_only=True)
class ExtraClass:
    """One class of another data set is added, and is the mover's: cifar100+extra-class(source=cifar10, classname=ship).

    Its train pictures join the train pictures and its test pictures the test pictures, brought to their size; the class
    gets the last number, and the ids begin with "extra/". Only it is moved (Huang et al. 2021, figure 3a: 'ship' of
    CIFAR-10 in CIFAR-100), unless +moved(...) behind it says otherwise. A move sees these pictures only;
    transferred(form=sample) makes its noise on the whole source.

    source:    the other data set, spelled like data of the grid.
    classname: the class of the source that is added. The data must not have one of that name.
    """

    version: ClassVar[int] = 1

    source: str
    classname: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", read_source(self.source, owner="extra-class").spelling)

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return SHA-256 over all that the source is, its files' content among it."""
        return digest_of(read_source(self.source, owner="extra-class"), rehash=rehash)

    def __call__(self, data: DataSet, *, seed: int) -> DataSet:
        """Return the data with one more class, whose train pictures are the moved ones. No seed is needed.

        Raises:
            ConfigError: when the source has no such class, or the data have one already.
        """
        import torch

        other = load_source(read_source(self.source, owner="extra-class"))
        if self.classname not in other.classes:
            hint = did_you_mean(self.classname, other.classes)
            raise ConfigError(f"extra-class: {self.source!r} has no class {self.classname!r}: {hint}")
        if self.classname in data.classes:
            raise ConfigError(
                f"extra-class: classname = {self.classname!r} is refused: {data.name!r} has a class of that name; "
                "choose another one, or move that one with +moved(classes=[...])"
            )
        label = other.classes.index(self.classname)
        train = _joined(data.train, other.train, label, self.classname)
        moved = torch.arange(len(train)) >= len(data.train)
        test = _joined(data.test, other.test, label, self.classname)
        return replace(data, name=f"{data.name}+{self.classname}", train=train, test=test, moved=moved)


def _joined(pictures: Pictures, other: Pictures, label: int, name: str) -> Pictures:
    """Return the pictures with those of one class of another split behind them."""
    import torch

    from countermove.pixels.mapped import joined
    from countermove.unlearnable.dataset import Pictures
    from countermove.unlearnable.transfer import EXTRA, resized

    rows = (other.labels == label).nonzero().flatten()
    height, width = pictures.pictures.shape[2:]
    added = resized(other.pictures[rows], (height, width))
    labels = torch.full((len(rows),), len(pictures.classes), dtype=torch.int64)
    return Pictures(
        pictures=joined(pictures.pictures, added),
        labels=torch.cat([pictures.labels, labels]),
        ids=(*pictures.ids, *(EXTRA + other.ids[i] for i in rows.tolist())),
        classes=(*pictures.classes, name),
    )
