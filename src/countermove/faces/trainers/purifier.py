"""A small network that takes cloaks away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.faces.trainer import On, Plan, Purification, check_on, read_known


@dataclass(frozen=True, kw_only=True)
class Purifier:
    """A network that gives clean photos back, after PuFace 2024, arXiv:2406.02253.

    A small convolutional network learns what to add to a cloaked photo so that pixels and features become the clean
    photo's, and to leave clean photos alone. It works on all photos that are collected; the extractor stays as it is.

    known:  the cloaks that the trainer has, spelled as moves; empty: the one it meets.
    photos: at most so many of each person's photos are cloaked with each.
    width:  channels of its layers.
    weight: of the features' distance beside the pixels'.
    epochs, lr: of Adam.
    on:     "gallery" (what was collected), or "all" (also the photos to be named).

    Differs from the paper: its network is larger and is trained against adversaries of its own making.
    """

    version: ClassVar[int] = 1
    known: tuple[str, ...] = ()
    photos: int = 10
    width: int = 32
    weight: float = 0.01
    epochs: int = 10
    lr: float = 2e-3
    on: On = "all"

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", read_known(self.known, "purifier"))
        check_on("purifier", self.on)
        if min(self.photos, self.width, self.epochs) < 1 or self.lr <= 0 or self.weight < 0:
            raise ConfigError("countermove 'purifier': photos, width, epochs and lr are above 0, weight not below")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the network."""
        if plan.purification is not None:
            raise ConfigError("countermove 'purifier' stands twice in a reply; name several cloaks in known=[...]")
        asked = Purification(
            known=self.known,
            photos=self.photos,
            width=self.width,
            weight=self.weight,
            epochs=self.epochs,
            lr=self.lr,
            probes=self.on == "all",
        )
        return replace(plan, purification=asked)
