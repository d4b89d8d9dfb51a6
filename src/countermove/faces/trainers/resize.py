"""Half the size and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError
from countermove.faces.trainer import On, Plan, check_on


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Photos are made smaller and large again, bicubic with antialiasing, before they are embedded.

    factor: of the smaller side.
    on:     "gallery" (what was collected), or "all" (also the photos to be named).
    """

    version: ClassVar[int] = 1
    factor: float = 0.5
    on: On = "all"

    def __post_init__(self) -> None:
        check_on("resize", self.on)
        if not 0 < self.factor < 1:
            raise ConfigError(f"countermove 'resize': factor = {self.factor} is refused; it is between 0 and 1")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more squeeze."""
        return plan.squeezed(partial(_smaller, factor=self.factor), self.on)


def _smaller(photos: Tensor, *, factor: float) -> Tensor:
    height, width = photos.shape[2:]
    size = (max(1, round(factor * height)), max(1, round(factor * width)))
    for target in (size, (height, width)):
        photos = F.interpolate(photos, size=target, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    return photos
