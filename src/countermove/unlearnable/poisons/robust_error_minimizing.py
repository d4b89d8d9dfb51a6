"""Robust error-minimising noise: pictures that look learned even to who trains adversarially."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.learning.adversary import Adversary
from countermove.pixels.balls import Norm
from countermove.pixels.batch import Batch
from countermove.unlearnable.poison import Context
from countermove.unlearnable.robust import Robust, check_settings, robust_noise


@dataclass(frozen=True, kw_only=True)
class RobustErrorMinimizing:
    """Robust error-minimizing noise (REM), Fu et al. 2022, arXiv:2203.14533.

    The noise lowers the loss that an adversary then raises again, in expectation over crops and flips. The surrogate is
    trained on adversarial pictures meanwhile. At the end the noise of every picture is found anew, against the
    surrogate as it then is.

    eps:        L-infinity radius of the noise (paper: 8/255).
    step:       length of one sign step; 0 means 2 eps / steps (paper: 1.6/255).
    steps:      sign steps, from a random start in the ball (paper: 10).
    draws:      crops and flips that a step is averaged over; all are one batch for the network (paper: 5).
    adversary_eps: radius of the adversary, L-infinity (paper: 4/255). It should be smaller than eps.
    adversary_step: length of its steps; 0 means 2 adversary_eps / adversary_steps (paper: 0.8/255).
    adversary_steps: its steps, from a random start (paper: 10).
    rounds:     steps of the surrogate, each after the noise of its batch was found (paper: 5,000).
    batch_size: pictures in a surrogate's batch (paper: 128).
    surrogate:  the network, spelled like a model of the grid (paper: resnet-18).
    lr:         of the surrogate, a tenth after each two fifths of the rounds (paper: 0.1).

    A picture costs steps x draws x (1 + adversary_steps) passes each time its noise is found: 550 with the paper's
    numbers, 18 with these defaults, which are meant for a few thousand pictures and no GPU. There, many rounds with few
    steps each made stronger noise than the same number of passes in fewer rounds, whose surrogate learned too little
    (seen on 1,000 pictures of cifar10-mini, one seed).

    The gradient passes the adversary as if it were not there; through crop and flip it is exact.

    Differs from the released code: batches are drawn anew for each step, not epoch by epoch; the noise of earlier
    rounds is not rounded to 8 bits, as only the last one is published.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "linf"
    streams: ClassVar[bool] = False

    eps: float = 8 / 255
    step: float = 0.0
    steps: int = 3
    draws: int = 2
    adversary_eps: float = 4 / 255
    adversary_step: float = 0.0
    adversary_steps: int = 2
    rounds: int = 300
    batch_size: int = 128
    surrogate: str = "small-cnn"
    lr: float = 0.1

    def __post_init__(self) -> None:
        check_settings("robust-error-minimizing", self)

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones."""
        adversary = Adversary(
            eps=self.adversary_eps,
            step=self.adversary_step or 2 * self.adversary_eps / self.adversary_steps,
            steps=self.adversary_steps,
        )
        game = Robust(
            eps=self.eps,
            step=self.step or 2 * self.eps / self.steps,
            steps=self.steps,
            draws=self.draws,
            disturbance=adversary,
            adversary=adversary,
            rounds=self.rounds,
            batch_size=self.batch_size,
            lr=self.lr,
        )
        noise = robust_noise(batch, context.fresh_network(self.surrogate, batch), game, context)
        return batch.with_pictures((batch.pictures + noise).clamp(0, 1))
