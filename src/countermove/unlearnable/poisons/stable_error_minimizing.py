"""Stable error-minimising noise: robust noise whose adversary is replaced by chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from countermove.learning.adversary import Adversary
from countermove.pixels.balls import Norm
from countermove.pixels.batch import Batch
from countermove.unlearnable.poison import Context
from countermove.unlearnable.robust import Robust, UniformNoise, check_settings, robust_noise


@dataclass(frozen=True, kw_only=True)
class StableErrorMinimizing:
    """Stable error-minimizing noise (SEM), Liu et al. 2024, arXiv:2311.13091.

    As robust-error-minimizing, but where that noise must outlive an adversary, this one must outlive uniform random
    noise, which costs no passes. The surrogate is still trained on adversarial pictures, as in the released code.

    eps:        L-infinity radius of the noise (paper: 8/255).
    step:       length of one sign step; 0 means 2 eps / steps (paper: 1.6/255).
    steps:      sign steps, from a random start in the ball (paper: 10).
    draws:      crops and flips, each with its own random noise, that a step is averaged over (paper: 5).
    adversary_eps: radius of the random noise and of the adversary that the surrogate is trained against (paper: 4/255).
    adversary_step: length of that adversary's steps; 0 means 2 adversary_eps / adversary_steps (paper: 0.8/255).
    adversary_steps: its steps, from a random start (paper: 10).
    rounds:     steps of the surrogate, each after the noise of its batch was found (paper: 5,000).
    batch_size: pictures in a surrogate's batch (paper: 128).
    surrogate:  the network, spelled like a model of the grid (paper: resnet-18).
    lr:         of the surrogate, a tenth after each two fifths of the rounds (paper: 0.1).

    A picture costs steps x draws passes each time its noise is found: 50 with the paper's numbers, 6 with these
    defaults, which are meant for a few thousand pictures and no GPU. There, many rounds with few steps each made
    stronger noise than the same number of passes in fewer rounds, whose surrogate learned too little
    (seen on 1,000 pictures of cifar10-mini, one seed).

    Differs from the released code: the disturbed views are kept in [0, 1]; batches are drawn anew for each step, not
    epoch by epoch; the noise of earlier rounds is not rounded to 8 bits, as only the last one is published.
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
        check_settings("stable-error-minimizing", self)

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones."""
        game = Robust(
            eps=self.eps,
            step=self.step or 2 * self.eps / self.steps,
            steps=self.steps,
            draws=self.draws,
            disturbance=UniformNoise(eps=self.adversary_eps),
            adversary=Adversary(
                eps=self.adversary_eps,
                step=self.adversary_step or 2 * self.adversary_eps / self.adversary_steps,
                steps=self.adversary_steps,
            ),
            rounds=self.rounds,
            batch_size=self.batch_size,
            lr=self.lr,
        )
        noise = robust_noise(batch, context.fresh_network(self.surrogate, batch), game, context)
        return batch.with_pictures((batch.pictures + noise).clamp(0, 1))
