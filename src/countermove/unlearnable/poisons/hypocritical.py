"""Hypocritical noise: pictures that a trained network finds even easier than they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from countermove.errors import ConfigError
from countermove.learning.adversary import Adversary
from countermove.learning.recipe import Recipe
from countermove.nets.registry import check_network
from countermove.pixels.balls import Ball, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.steps import sign_gradient
from countermove.unlearnable.crafting import in_portions
from countermove.unlearnable.poison import Context, Surrogate


@dataclass(frozen=True, kw_only=True)
class Hypocritical:
    """Hypocritical perturbations (HYPO), Tao et al. 2021, arXiv:2102.04716.

    A surrogate is trained on the clean pictures; then the noise lowers its loss on their own labels. A learner leans on
    the noise, which is easier than the picture.

    eps:        radius (paper: 0.5 for l2; the squeezing thesis: 8/255 for linf).
    norm:       "linf" or "l2" (paper: l2). Set eps with it.
    step:       length of one step (paper: eps / 5; the squeezing thesis: eps / 10); 0 means eps / 10.
    steps:      steps a picture, from no noise (paper: 100).
    surrogate, surrogate_epochs: the trained network (paper: vgg-16, 150 epochs); shared with every poison that names
                the same.
    surrogate_eps: 0: a network trained on the pictures as they are (paper). Else one trained adversarially with this
                radius, in the same norm, by 10 steps of a quarter of it, as in the authors' later work, which takes 10
                epochs and 2/255.
    batch_size: pictures a step.

    The defaults are for a CPU. Differs from the paper: no vgg-16 is at hand; vgg-11 and vgg-19 are.
    """

    version: ClassVar[int] = 1
    streams: ClassVar[bool] = False

    eps: float = 8 / 255
    norm: Literal["linf", "l2"] = "linf"
    step: float = 0.0
    steps: int = 20
    surrogate: str = "small-cnn"
    surrogate_epochs: int = 20
    surrogate_eps: float = 0.0
    batch_size: int = 256

    def __post_init__(self) -> None:
        check_radius(self.eps, norm=self.norm)
        check_network(self.surrogate)
        if self.step < 0 or min(self.steps, self.batch_size, self.surrogate_epochs) < 1:
            raise ConfigError(
                "hypocritical: step is not negative; steps, batch_size and surrogate_epochs are at least 1"
            )
        try:
            check_radius(self.surrogate_eps, norm=self.norm)
        except ConfigError as error:
            raise ConfigError(f"hypocritical: surrogate_eps: {error}") from None

    def surrogates(self) -> tuple[Surrogate, ...]:
        """Return the network that must be trained first."""
        radius = self.surrogate_eps
        adversary = Adversary(norm=self.norm, eps=radius, step=radius / 4, steps=10) if radius else None
        return (Surrogate(model=self.surrogate, recipe=Recipe(epochs=self.surrogate_epochs), adversary=adversary),)

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones."""
        network = context.trained(*self.surrogates())

        def craft(part: Batch, _number: int) -> Tensor:
            context.meter.samples += self.steps * len(part)
            return sign_gradient(
                network,
                part.pictures,
                part.labels,
                ball=Ball(norm=self.norm, radius=self.eps),
                step=self.step or self.eps / 10,
                steps=self.steps,
                minimize=True,
                chunk=self.batch_size,
            )

        noise = in_portions(batch, self.batch_size, context, craft)
        return batch.with_pictures((batch.pictures + noise).clamp(0, 1))
