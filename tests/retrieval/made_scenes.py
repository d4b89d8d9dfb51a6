"""A small collection made in code, and a small backbone trained on it."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_uint8
from countermove.retrieval.backbone import Describer, read_backbone
from countermove.retrieval.collection import Collection, Wanted

SIDE = 24
TINY = "epochs=40, lr=0.3, network='small-cnn(width=0.25)'"


def view(scene: int, number: int, side: int = SIDE) -> Tensor:
    """Return one view of a scene, uint8 [3, side, side]: a smooth pattern, shifted, brighter or darker, with noise."""
    pattern = F.interpolate(
        torch.rand(1, 3, 6, 6, generator=generator(scene, "scene")), (side + 6, side + 6), mode="bicubic"
    )
    source = generator(scene, "view", number)
    top, left = torch.randint(0, 7, (2,), generator=source).tolist()
    bright = 0.85 + 0.3 * float(torch.rand((), generator=source))
    noise = 0.06 * torch.randn(1, 3, side, side, generator=source)
    return to_uint8((pattern[:, :, top : top + side, left : left + side] * bright + noise).clamp(0, 1))[0]


@cache
def scenes() -> Collection:
    """Return 8 searched scenes with 4 indexed views and a query each, and 8 public ones with 10 views."""
    pictures, ids = [], []
    for scene in range(16):
        for number in range(5 if scene < 8 else 10):
            pictures.append(view(scene, number))
            ids.append(f"scene-{scene}-{number}")
    indexed = torch.tensor([5 * scene + number for scene in range(8) for number in range(4)])
    queries = torch.tensor([5 * scene + 4 for scene in range(8)])
    wanted = tuple(Wanted(positive=indexed[4 * scene : 4 * scene + 4]) for scene in range(8))
    return Collection(
        name="made",
        pictures=pictures,
        ids=tuple(ids),
        indexed=indexed,
        queries=queries,
        boxes=(None,) * 8,
        wanted={"": wanted},
        public=torch.arange(40, 120),
        public_labels=torch.arange(8).repeat_interleave(10),
        public_classes=tuple(f"public {k}" for k in range(8)),
    )


@cache
def trained(build: int = 0) -> Describer:
    """Return a small backbone trained on the public scenes, another one for every build."""
    return read_backbone(f"small(build={build}, {TINY})", "test")[1].fit(
        scenes(), seed=0, device="cpu", checkpoint=None
    )[0]


def taken(rows: Tensor) -> list[Tensor]:
    """Return some of the collection's pictures."""
    return [scenes().pictures[row] for row in rows.tolist()]
