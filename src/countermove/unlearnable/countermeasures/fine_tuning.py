"""Going on with a few clean pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.finetuning.adaptation import check_adaptation
from countermove.learning.adversary import Adversary
from countermove.learning.scoring import Examples
from countermove.pixels.balls import check_radius
from countermove.pixels.rounding import to_uint8
from countermove.unlearnable.countermeasure import FineTuning, Plan, ReplyContext
from countermove.unlearnable.data.sources import digest_of, read_source
from countermove.unlearnable.own_pictures import own_pictures


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """Fine-tuning with own clean pictures, of all or little, Radiya-Dixit and Wang 2020, arXiv:2004.14129.

    The trainer first trains on what was received and then goes on with a few clean pictures of their own. Its price
    beyond none is the fine-tuning's alone: how many numbers it changes, how many bytes hold them, how many clean
    pictures it takes.

    clean:      own pictures; 0: it goes on with the received ones, which only makes sense against an adversary.
    adaptation: full, critical-layers, mask, lora or bitfit, spelled with its settings; see the arena tasks.
    epochs:     of the fine-tuning, by AdamW, with batches, crop and flip of the training.
    eps:        L-infinity radius of an adversary (PGD, 5 steps); 0: none.
    data:       where the own pictures come from, spelled like data. Classes are matched by their names.
    skip:       so many of its train pictures are passed over. They must not be the received ones: the first 4,000 of
                cifar10-lossless are those of cifar10-mini.

    Other parts of a reply come before it, wherever it stands: gray+fine-tuning trains on gray pictures, and the own
    ones are not squeezed.
    """

    version: ClassVar[int] = 1
    clean: int = 500
    adaptation: str = "full"
    epochs: int = 20
    eps: float = 0.0
    data: str = "cifar10-lossless"
    skip: int = 4000

    def __post_init__(self) -> None:
        object.__setattr__(self, "adaptation", check_adaptation(self.adaptation))
        object.__setattr__(self, "data", read_source(self.data, owner="fine-tuning").spelling)
        check_radius(self.eps, norm="linf")
        if self.skip < 0 or self.clean < 0 or self.clean == 1 or self.epochs < 1:
            raise ConfigError("fine-tuning: skip is not below 0, epochs at least 1, clean 0 or at least 2")
        if not self.clean and not self.eps:
            raise ConfigError("fine-tuning: clean = 0 goes on with what was received; give eps an adversary's radius")

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return SHA-256 over the own data's content."""
        return digest_of(read_source(self.data, owner="fine-tuning"), rehash=rehash) if self.clean else ""

    def __call__(self, plan: Plan, *, context: ReplyContext) -> Plan:
        """Return the plan with the fine-tuning."""
        if plan.fine_tuning is not None:
            raise ConfigError("countermove 'fine-tuning' stands twice in a reply")
        own = plan.received
        if self.clean:
            found = own_pictures(plan, self.data, skip=self.skip, take=self.clean, owner="fine-tuning")
            own = Examples(pictures=to_uint8(found.pictures), labels=found.labels)
        asked = FineTuning(
            examples=own,
            adaptation=self.adaptation,
            epochs=self.epochs,
            adversary=Adversary(norm="linf", eps=self.eps, step=self.eps / 4, steps=5) if self.eps else None,
            clean=len(own) if self.clean else 0,
        )
        return replace(plan, fine_tuning=asked)
