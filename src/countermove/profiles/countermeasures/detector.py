"""Did a pivot take place, and when?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.profiles.plan import Detection, Plan, read_known


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A network that tells additions from own items, and what it says of a profile's past, oldest to newest.

    Trained on the trainer's own profiles, pivoted with known tools. It sees an item's features and how they differ from
    the mean of its profile. A profile's pivot is where the likelihood of "own before, added from here" is largest; that
    likelihood beyond "all own" is the evidence that there is one. Reported: how well evidence tells pivoted profiles
    from others (`detection_auc`), how far the time is off in items (`onset_error`), and how well single additions are
    told (`addition_auc`).

    known:    the pivots that the trainer has, spelled as moves; empty: the one it meets.
    epochs, lr, hidden: of the network's training, and its width.
    drop:     whether profiles whose evidence exceeds that of the given share of the trainer's own clean profiles are
              read up to the pivot only. A reply; else only a report.
    quantile: that share.
    """

    version: ClassVar[int] = 1
    known: tuple[str, ...] = ()
    epochs: int = 100
    lr: float = 0.003
    hidden: int = 64
    drop: bool = True
    quantile: float = 0.95

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", read_known(self.known, "detector"))
        if min(self.epochs, self.hidden) < 1 or self.lr <= 0 or not 0 < self.quantile <= 1:
            raise ConfigError("countermove 'detector': epochs, hidden and lr are above 0, quantile lies in 0..1")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the detector."""
        if plan.detection is not None:
            raise ConfigError("countermove 'detector' stands twice in a reply; name several pivots in known=[...]")
        asked = Detection(
            known=self.known,
            epochs=self.epochs,
            lr=self.lr,
            hidden=self.hidden,
            quantile=self.quantile,
            drop=self.drop,
        )
        return replace(plan, detection=asked)
