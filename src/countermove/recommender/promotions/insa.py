"""INSA: the insider's promotion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from countermove.errors import ConfigError, did_you_mean
from countermove.pixels.balls import Ball, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.jpeg import jpeg_differentiable
from countermove.pixels.randomness import generator
from countermove.recommender.promotion import PromotionContext, ascend, check_steps
from countermove.recommender.ranker import Aggregate, Ranker
from countermove.recommender.stolen import ranker_from_lists

AGGREGATES, MODES, KNOWLEDGE = ("paper", "sum", "sum-exp"), ("exact", "compat"), ("embeddings", "lists")
BATCH, PASSES = 512, 10
RATE = {"sum": 1e-4, "sum-exp": 1e-3}
GATE_QUALITY = 75


@dataclass(frozen=True, kw_only=True)
class Insa:
    """Insider attack (INSA), Liu and Larson 2021, arXiv:2006.01888.

    Thesis chapter 2, Eq. 2.6. Raises the preference of all users for an item at once, knowing the ranker and what its
    users look for.

    eps:        L-infinity radius (paper: 32/255; also 4, 8, 16).
    aggregate:  over users: the "sum" of scores, or "sum-exp" (which the thesis writes for DVBPR and its code uses for
                VBPR); "paper": what Eq. 2.6 writes for the ranker at hand.
    mode:       "exact" sees the whole user base at every step: the sum collapses to one vector (VBPR) or one weight an
                item (AlexRank), the other to one product in log-sum-exp form. "compat" goes through users in batches
                of 512, ten times, at the paper's rates (1e-3 for sum-exp, else 1e-4), and then counts its own steps.
    steps, lr:  of Adam, in exact mode.
    knowledge:  "embeddings", or "lists": the mover sees only the lists of `stolen` items that the ranker returns to
                every user, fits a VBPR of its own on them, with the known features, and attacks that.
    stolen:     length of these lists.
    gatekeeper: weight of the distance between the item's embedding and its embedding after JPEG, which a known
                gatekeeper measures (thesis, outlook); 0 ignores it.

    Differs from the released code: starts from no change instead of from noise outside the ball (87 % of which the
    first clip puts on the border); AlexRank takes a step for all users, not one a user; parameters are frozen.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Literal["linf"]] = "linf"
    knows: ClassVar[str] = "ranker"
    eps: float = 32 / 255
    aggregate: Literal["paper", "sum", "sum-exp"] = "paper"
    mode: Literal["exact", "compat"] = "exact"
    steps: int = 60
    lr: float = 0.01
    knowledge: Literal["embeddings", "lists"] = "embeddings"
    stolen: int = 20
    gatekeeper: float = 0.0

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        check_steps("insa", steps=self.steps, lr=self.lr)
        for name, known in (("aggregate", AGGREGATES), ("mode", MODES), ("knowledge", KNOWLEDGE)):
            if getattr(self, name) not in known:
                hint = did_you_mean(str(getattr(self, name)), known)
                raise ConfigError(f"move 'insa': {name} = {getattr(self, name)!r} is refused; {hint}")
        if self.stolen < 1 or self.gatekeeper < 0:
            raise ConfigError("move 'insa': stolen must be at least 1, and gatekeeper not negative")

    def __call__(self, batch: Batch, *, context: PromotionContext) -> Batch:
        """Return the promoted pictures."""
        ranker = context.known_ranker()
        if self.knowledge == "lists":
            ranker = ranker_from_lists(ranker, context, length=self.stolen)
        ranker = ranker.placed(context.device)
        aggregate = ranker.aggregate if self.aggregate == "paper" else self.aggregate
        appeal, steps, lr, counted = self._appeal(ranker, aggregate, context)

        def objective(pictures: Tensor, step: int) -> Tensor:
            embedded = ranker.embed(pictures)
            wanted = appeal(embedded, step)
            if self.gatekeeper:
                after = ranker.embed(jpeg_differentiable(pictures, GATE_QUALITY))
                noticed = torch.linalg.vector_norm(embedded - after, dim=1)
                wanted = wanted - self.gatekeeper * (counted if aggregate == "sum" else 1) * noticed
            return wanted

        moved = ascend(
            batch.pictures,
            objective,
            network=ranker.network,
            ball=Ball(norm="linf", radius=self.eps),
            lr=lr,
            steps=steps,
            meter=context.meter,
            device=context.device,
        )
        return batch.with_pictures(moved)

    def _appeal(
        self, ranker: Ranker, aggregate: Aggregate, context: PromotionContext
    ) -> tuple[Callable[[Tensor, int], Tensor], int, float, int]:
        """Return what is raised, in how many steps, at which rate, and over how many users a step."""
        if self.mode == "exact":
            return lambda embedded, step: ranker.appeal(embedded, aggregate), self.steps, self.lr, ranker.users
        source = generator(context.seed, "insa-users")
        portions = [p for _ in range(PASSES) for p in torch.randperm(ranker.users, generator=source).split(BATCH)]

        def appeal(embedded: Tensor, step: int) -> Tensor:
            scores = ranker.visual(embedded, portions[step])
            return scores.sum(0) if aggregate == "sum" else torch.logsumexp(scores, dim=0)

        return appeal, len(portions), RATE[aggregate], min(BATCH, ranker.users)
