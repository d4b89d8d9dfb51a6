"""More noise on top."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from countermove.errors import ConfigError
from countermove.faces.trainer import On, Plan, check_on
from countermove.pixels.randomness import generator


@dataclass(frozen=True, kw_only=True)
class GaussianNoise:
    """Gaussian noise before photos are embedded, Hönig et al. 2024, arXiv:2406.12027.

    The same noise on every photo, so that what a photo becomes does not depend on which others there are. (The paper
    breaks style mimicry protections with a deviation of 0.05; it is no paper on faces.)

    std: deviation, in [0, 1] pixel units.
    on:  "gallery" (what was collected), or "all" (also the photos to be named).
    """

    version: ClassVar[int] = 1
    std: float = 0.05
    on: On = "all"

    def __post_init__(self) -> None:
        check_on("noise", self.on)
        if not 0 < self.std < 1:
            raise ConfigError(f"countermove 'noise': std = {self.std} is refused; it is between 0 and 1")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more squeeze."""
        return plan.squeezed(partial(_noisy, std=self.std), self.on)


def _noisy(photos: Tensor, *, std: float) -> Tensor:
    noise = torch.randn(photos.shape[1:], generator=generator(0, "purifying noise"))
    return (photos + std * noise.to(photos)).clamp(0, 1)
