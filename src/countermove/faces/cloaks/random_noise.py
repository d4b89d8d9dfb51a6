"""The control: a change as large as a cloak's that looks at no extractor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from countermove.faces.cloak import CloakContext, Sees
from countermove.pixels.balls import check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import per_sample


@dataclass(frozen=True, kw_only=True)
class RandomNoise:
    """Random signs of full size in every pixel and channel, the control of all cloaks.

    eps: radius (L-infinity), in [0, 1] pixel units.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[str] = "linf"
    sees: ClassVar[Sees] = "photo"
    eps: float = 16 / 255

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")

    def surrogates(self) -> tuple[str, ...]:
        """Return none."""
        return ()

    def __call__(self, batch: Batch, *, context: CloakContext) -> Batch:
        """Return the noisy photos."""
        shape = tuple(batch.pictures.shape[1:])

        def signs(source: torch.Generator) -> torch.Tensor:
            return torch.randint(0, 2, shape, generator=source) * 2.0 - 1

        noise = self.eps * per_sample(context.seed, "noise cloak", batch.ids, signs)
        return batch.with_pictures((batch.pictures + noise).clamp(0, 1))
