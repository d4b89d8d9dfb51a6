"""A small network for pictures, pre-trained on other classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from countermove import learning, nets
from countermove.errors import ConfigError
from countermove.game.cell import digest
from countermove.game.content import fingerprint_files
from countermove.learning.checkpoint import Checkpoint
from countermove.nets.registry import check_network
from countermove.pixels.bundled import CLASSES, check_mini, mini_files
from countermove.tasks.bases import made_once
from countermove.tasks.data.pictures import check_classes, of_classes
from countermove.tasks.networks import pretrain_classifier
from countermove.tasks.pretraining import Watch
from countermove.tasks.task import PICTURE

VERSION, THREADS = 1, 1
"""Goes up when the same settings give another network; threads of its training, whatever a run uses."""


@dataclass(frozen=True, kw_only=True)
class SmallNetwork:
    """A network of ours that tells some classes of the bundled CIFAR-10 pictures apart, to be adapted to the others.

    Trained once and kept in the cache folder; every run and seed uses the same one. The usual one takes under a minute.

    network: of ours, for 32 x 32 pixels.
    classes: what it is pre-trained on; the task `pictures` has the others.
    epochs:  of that training.
    build:   another number is another draw of weights and order.
    full_lr: the learning rate of the full fine-tuning that everything is measured against.
    """

    version: ClassVar[int] = 1
    medium: ClassVar[str] = PICTURE
    network: str = "small-cnn"
    classes: tuple[str, ...] = CLASSES[:5]
    epochs: int = 10
    build: int = 0
    full_lr: float = 2e-3

    def __post_init__(self) -> None:
        check_network(self.network)
        check_classes(self.classes, owner="model 'small-network'")
        if self.epochs < 1 or self.full_lr <= 0:
            raise ConfigError("model 'small-network': epochs and full_lr are above 0")

    def check(self) -> None:
        """Raise where the bundled pictures are damaged."""
        check_mini()

    def content(self, *, device: str = "cpu", rehash: bool = False) -> str:
        """Return the key under which it is kept."""
        facts = {name: getattr(self, name) for name in ("network", "epochs", "build")}
        rooms = {"learning": learning.VERSION, "nets": nets.VERSION}
        pictures = fingerprint_files(mini_files(), rehash=rehash)
        more = {"version": VERSION, "rooms": rooms, "pictures": pictures, "device": device, "threads": THREADS}
        return digest({**facts, "classes": list(self.classes), **more})

    def folder(self, *, device: str = "cpu", watch: Watch = lambda *_: None) -> Path:
        """Return where it lies; trained first, where it is not there."""

        def make(to: Path, work: Checkpoint) -> dict[str, Any]:
            shown = of_classes("train", self.classes)
            return pretrain_classifier(
                self.network,
                shown,
                len(self.classes),
                to,
                epochs=self.epochs,
                seed=self.build,
                device=device,
                work=work,
            )

        return made_once(self.content(device=device), make, threads=THREADS)
