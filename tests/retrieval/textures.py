"""Made-up pictures with something to find in them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.pixels.randomness import generator


def texture(height: int = 96, width: int = 128, *, seed: int = 0, strength: float = 1.0) -> Tensor:
    """Return a colour picture, uint8 [3, height, width], with blobs of many sizes."""
    source = generator(seed, "texture")
    total = torch.full((1, 3, height, width), 128.0)
    for step in (2, 4, 8, 16):
        grid = torch.randn(1, 3, height // step + 2, width // step + 2, generator=source)
        gray = torch.randn(1, 1, height // step + 2, width // step + 2, generator=source)
        total += F.interpolate(12 * grid + 25 * gray, size=(height, width), mode="bicubic") * strength
    return total[0].round().clamp(0, 255).to(torch.uint8)
