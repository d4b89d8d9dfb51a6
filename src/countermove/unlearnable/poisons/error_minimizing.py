"""Error-minimising noise: pictures that look already learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from countermove.errors import ConfigError
from countermove.pixels.balls import Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.unlearnable.bilevel import Bilevel, class_wise, sample_wise
from countermove.unlearnable.poison import Context, by_class, check_network


@dataclass(frozen=True, kw_only=True)
class ErrorMinimizing:
    """Error-minimizing noise (EM), Huang et al. 2021, arXiv:2101.04898.

    A surrogate is trained for a few batches on the noisy pictures, then the noise takes steps that lower its loss on
    them; again and again until the surrogate's error is below `stop_error`. A learner finds nothing left to learn.

    eps:        L-infinity radius of the noise (paper: 8/255 for small pictures, 16/255 for ImageNet).
    form:       "sample": one noise a picture. "class": one noise a class, found on `share` of the pictures.
    step:       length of one sign step (paper: eps / 10 = 0.8/255), 0 means eps / 10.
    steps:      steps for each sweep over the pictures; 0 means the paper's: 20 sample-wise, 1 class-wise.
    batches:    surrogate batches before each sweep (paper: M = 10 on CIFAR-10).
    batch_size: pictures in a surrogate batch.
    rounds:     sweeps at most. The stop error may never be reached: this is the bound, and the manifest says so.
    stop_error: stop when the surrogate errs less often than this; 0 means the paper's: 0.01 and 0.1.
    share:      of the pictures used to find class-wise noise (paper: 0.2).
    augment:    the surrogate sees random crops and flips, as a learner will.
    augment_sweep: the sweeps see them too, so that the noise survives them, at the price of lower frequencies.
    surrogate:  the network, spelled like a model of the grid (paper: resnet-18).
    lr:         of the surrogate (paper: 0.025 in the text, 0.1 in the code).

    Differs from the paper: with `augment` the surrogate and the sweeps see the crop and flip that a learner will use.
    Without it the noise of small data sets does not survive the learner's augmentation.
    Differs from the released code: its loader adds the noise in 8 bits and clamps it at zero first, so the negative
    half is lost; here both halves are kept. Its surrogate sees pictures outside [0, 1]; ours does not.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "linf"
    streams: ClassVar[bool] = False

    eps: float = 8 / 255
    form: Literal["sample", "class"] = "sample"
    step: float = 0.0
    steps: int = 0
    batches: int = 10
    batch_size: int = 128
    rounds: int = 15
    stop_error: float = 0.0
    share: float = 0.2
    augment: bool = True
    augment_sweep: bool = True
    surrogate: str = "small-cnn"
    lr: float = 0.1

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        check_network(self.surrogate)
        if min(self.steps, self.step, self.stop_error) < 0 or min(self.batches, self.batch_size, self.rounds) < 1:
            raise ConfigError("error-minimizing: steps and errors are not negative; batches and rounds at least 1")
        if self.stop_error >= 1:
            raise ConfigError(
                f"error-minimizing: stop_error = {self.stop_error} is refused: every surrogate errs less often, so no "
                "noise would be made; take a number below 1, or 0 for the paper's"
            )
        if self.lr <= 0:
            raise ConfigError(f"error-minimizing: lr = {self.lr} is refused: a learning rate is above 0")
        if not 0 < self.share <= 1:
            raise ConfigError(f"error-minimizing: share = {self.share} is refused: a share is above 0 and at most 1")

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones."""
        sample = self.form == "sample"
        game = Bilevel(
            eps=self.eps,
            step=self.step or self.eps / 10,
            steps=self.steps or (20 if sample else 1),
            batches=self.batches,
            batch_size=self.batch_size,
            rounds=self.rounds,
            stop_error=self.stop_error or (0.01 if sample else 0.1),
            augment=self.augment,
            augment_sweep=self.augment_sweep,
            lr=self.lr,
        )
        network = context.fresh_network(self.surrogate, batch)
        if sample:
            noise = sample_wise(batch, network, game, context)
        else:
            noise = by_class(class_wise(batch, network, game, self.share, context), batch.labels)
        return batch.with_pictures((batch.pictures + noise).clamp(0, 1))
