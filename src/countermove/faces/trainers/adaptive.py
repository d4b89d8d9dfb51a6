"""An extractor that has seen cloaks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.faces.trainer import Adaptation, Plan, read_known
from countermove.finetuning.adaptation import check_adaptation


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """Fine-tuning on other people's cloaked and clean photos under one name each, Radiya-Dixit et al. 2022.

    arXiv:2106.14851. The trainer has the tool, cloaks photos of people who are in no gallery, and goes on
    training the extractor on both; the head is then thrown away. No pairs are formed: naming both alike is what pulls
    them together.

    known:  the cloaks that the trainer has, spelled as moves; empty: the one it meets. With others than that, it is
            the secret cloak of the paper's reviews.
    photos: at most so many of each person's photos are cloaked with each.
    epochs, lr: of the fine-tuning; none: the extractor's own (small ones: as they were trained; public ones: 10, 0.01).
    adaptation: full, critical-layers, mask, lora or bitfit, spelled with settings; see the arena tasks.
            All but full are trained by AdamW at their own learning rate.
    examples: photos of the public that it has at most, chosen by id over all people; it cloaks no others. 0: all.

    Where nobody moves and no other cloak is known, it goes on with clean photos alone. The batch normalisations of
    public networks keep their statistics.

    Differs from the paper: SGD under a cosine schedule, all photos in every epoch, where it draws batches uniformly
    over identities for Keras's Adadelta.
    """

    version: ClassVar[int] = 1
    known: tuple[str, ...] = ()
    photos: int = 10
    epochs: int | None = None
    lr: float | None = None
    adaptation: str = "full"
    examples: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", read_known(self.known, "adaptive"))
        object.__setattr__(self, "adaptation", check_adaptation(self.adaptation))
        if min(self.photos, self.epochs or 1) < 1 or (self.lr is not None and self.lr <= 0) or self.epochs == 0:
            raise ConfigError("countermove 'adaptive': photos, epochs and lr are above 0")
        if self.examples < 0 or (self.lr is not None and self.adaptation != "full"):
            raise ConfigError("countermove 'adaptive': examples is not below 0; another adaptation has its own lr")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the fine-tuning."""
        if plan.adaptation is not None:
            raise ConfigError("countermove 'adaptive' stands twice in a reply; name several cloaks in known=[...]")
        asked = Adaptation(
            known=self.known,
            photos=self.photos,
            epochs=self.epochs,
            lr=self.lr,
            adaptation=self.adaptation,
            examples=self.examples,
        )
        return replace(plan, adaptation=asked)
