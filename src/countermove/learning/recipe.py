"""How a model is trained: the arena's ``[training]`` table. Needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from countermove.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Stochastic gradient descent with momentum under a cosine schedule.

    epochs, batch_size, lr, momentum, weight_decay: as usual; the last, smaller batch of an epoch is used too.
    warmup:   share of all steps over which the learning rate rises linearly from zero.
    crop:     padding in black pixels of the random crop; 0 switches it off.
    flip:     random horizontal flip.
    The papers: 60 epochs, batch 128, lr 0.1 (code) or 0.025 (text), momentum 0.9, weight decay 5e-4, crop 4, flip.
    Label smoothing is off.
    """

    epochs: int = 20
    batch_size: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.2
    crop: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, (int, float)) and (not math.isfinite(value) or value < 0):
                raise ConfigError(f"training: {f.name} = {value} is refused: it must be finite and not negative")
        if self.epochs < 1 or self.batch_size < 2 or self.lr <= 0:
            raise ConfigError("training needs at least one epoch, batches of at least two pictures and an lr above 0")
        if self.warmup >= 1 or self.momentum >= 1:
            raise ConfigError("training: warmup and momentum are below 1")

    def lr_at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step (0-based) out of so many."""
        rising = self.warmup * steps
        if step < rising:
            return self.lr * (step + 1) / (rising + 1)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))

    def identity(self) -> dict[str, Any]:
        """Return all settings as plain data."""
        return {f.name: getattr(self, f.name) for f in fields(self)}
