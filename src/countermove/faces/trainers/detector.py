"""Telling cloaked photos from clean ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.faces.trainer import Detection, Plan, read_known
from countermove.nets.registry import check_network
from countermove.pixels.jpeg import check_quality


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A network that is trained to see cloaks, Radiya-Dixit et al. 2022, arXiv:2106.14851.

    Trained on other people's photos, each clean and cloaked, and judged on the movers': nobody is in both. Both classes
    have gone through the same files. It is a diagnosis: what was detected is reported (detector_auc, detector_recall
    and detector_false_alarms at a half), and everybody is named as without it.

    known:   the cloaks that the trainer has, spelled as moves; empty: the one it meets. With others than that, it is
             a cloak that the detector has never seen.
    photos:  at most so many of each person's photos are used, each clean and with one of the cloaks in turn.
    network: one of ours.
    quality: both classes are compressed (JPEG) before; none: both are the 8-bit photos.
    epochs, lr: of SGD.

    Differs from the paper: the network is ours and begins from random weights.
    """

    version: ClassVar[int] = 1
    known: tuple[str, ...] = ()
    photos: int = 10
    network: str = "small-pooled"
    quality: int | None = None
    epochs: int = 8
    lr: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", read_known(self.known, "detector"))
        check_network(self.network)
        if self.quality is not None:
            check_quality(self.quality)
        if min(self.photos, self.epochs) < 1 or self.lr <= 0:
            raise ConfigError("countermove 'detector': photos, epochs and lr are above 0")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the detector."""
        if plan.detection is not None:
            raise ConfigError("countermove 'detector' stands twice in a reply; name several cloaks in known=[...]")
        asked = Detection(
            known=self.known,
            photos=self.photos,
            network=self.network,
            quality=self.quality,
            epochs=self.epochs,
            lr=self.lr,
        )
        return replace(plan, detection=asked)
