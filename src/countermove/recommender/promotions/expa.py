"""EXPA: the expert's promotion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from countermove.pixels.balls import Ball, check_radius
from countermove.pixels.batch import Batch
from countermove.recommender.promotion import PromotionContext, ascend, check_steps, embedded_hook
from countermove.recommender.shop import find_hook


@dataclass(frozen=True, kw_only=True)
class Expa:
    """Expert attack (EXPA), Liu and Larson 2021, arXiv:2006.01888.

    Thesis chapter 2, Eq. 2.7. Brings an item's features close to those of a hook item that sells well, knowing what
    extracts them. Rankers that share an extractor share one crafting.

    eps:   L-infinity radius (paper: 32/255; also 4, 8, 16).
    hook:  "popular", the item with most interactions, or an item's id.
    steps: of Adam (paper: 5000).
    lr:    of Adam (paper: 0.01; the released code has 0.001 for DVBPR).

    Differs from the released code: starts from no change (the code does so for DVBPR only), and the hook's features
    are computed once.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Literal["linf"]] = "linf"
    knows: ClassVar[str] = "features"
    eps: float = 32 / 255
    hook: str = "popular"
    steps: int = 60
    lr: float = 0.01

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        check_steps("expa", steps=self.steps, lr=self.lr)

    def __call__(self, batch: Batch, *, context: PromotionContext) -> Batch:
        """Return the promoted pictures."""
        network, embed = context.known_embedding()
        target = embedded_hook(context, find_hook(context.shop, self.hook))

        def objective(pictures: Tensor, step: int) -> Tensor:
            return -torch.linalg.vector_norm(embed(pictures) - target, dim=1)

        moved = ascend(
            batch.pictures,
            objective,
            network=network,
            ball=Ball(norm="linf", radius=self.eps),
            lr=self.lr,
            steps=self.steps,
            meter=context.meter,
            device=context.device,
        )
        return batch.with_pictures(moved)
