"""Which pictures belong to the mover: joined to a data set by a plus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from countermove.errors import ConfigError

if TYPE_CHECKING:
    from countermove.unlearnable.dataset import DataSet


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Only a part of the train pictures is moved: cifar10-mini+moved(fraction=0.5).

    fraction:  share of the pictures (of the named classes), chosen by the cell's seed and the pictures' ids.
    classes:   names of the classes that are moved; empty means all.
    """

    version: ClassVar[int] = 1
    fraction: float = 1.0
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"moved: fraction = {self.fraction} is refused: a share is above 0 and at most 1")

    def __call__(self, data: DataSet, *, seed: int) -> DataSet:
        """Return the same data with these pictures as the mover's."""
        return data.choose(fraction=self.fraction, classes=self.classes, seed=seed)
