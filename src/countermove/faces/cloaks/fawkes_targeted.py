"""Fawkes as released in 2020: towards somebody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.faces.cloak import PHOTOS_AT_ONCE, CloakContext, Ensemble, Sees, read_surrogates
from countermove.faces.crafting import Adadelta, Dssim, Schedule, from_tanh, gradient_of, to_tanh
from countermove.faces.extractor import embed
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_uint8
from countermove.pixels.steps import frozen

Mode = Literal["min", "low", "mid", "high", "ultra"]
MODES: dict[str, Schedule] = {
    "min": Schedule(budget=0.002, steps=20, lr=40.0),
    "low": Schedule(budget=0.003, steps=50, lr=35.0),
    "mid": Schedule(budget=0.005, steps=200, lr=20.0),
    "high": Schedule(budget=0.008, steps=500, lr=10.0),
    "ultra": Schedule(budget=0.01, steps=1000, lr=8.0),
}

_SLOWER, _THIRDS = 0.8, 3


@dataclass(frozen=True, kw_only=True)
class FawkesTargeted:
    """Fawkes 0.3, features towards another person's within a DSSIM budget, Shan et al. 2020, arXiv:2002.08327.

    The algorithm of release 0.3: each mover takes one of the 20 people whose mean features are furthest from their own,
    at random; every photo's features are drawn to f(x) + 2 (that person's mean - the mover's mean). Adadelta in tanh
    space; loss 1e6 max(DSSIM - budget, 0)^2 + |goal - f(x')| / |goal|; the rate falls by a fifth after each third. The
    photo with the nearest features is kept, whatever its DSSIM.

    extractors: what it is made on, jointly (release: one).
    mode:       min, low, mid, high or ultra: DSSIM .002, .003, .005, .008, .01; 20, 50, 200, 500, 1000 steps.
    budget, steps, lr: instead of the mode's.
    furthest:   among how many people the target is drawn.

    Differs from release 0.3: targets are people of the public, where it downloads a bank of embeddings; the contrast of
    crops is not stretched.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[None] = None
    sees: ClassVar[Sees] = "others"
    extractors: tuple[str, ...] = ("plain",)
    mode: Mode = "mid"
    budget: float | None = None
    steps: int | None = None
    lr: float | None = None
    furthest: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "extractors", read_surrogates(self.extractors, "fawkes-0.3"))
        if self.mode not in MODES:
            raise ConfigError(f"move 'fawkes-0.3': mode = {self.mode!r} is refused; it is {', '.join(MODES)}")
        self.schedule()
        if self.furthest < 1:
            raise ConfigError(f"move 'fawkes-0.3': furthest = {self.furthest} is refused; it is at least 1")

    def surrogates(self) -> tuple[str, ...]:
        """Return the extractors it is made on."""
        return self.extractors

    def schedule(self) -> Schedule:
        """Return the mode's, with what was asked for in its place."""
        return MODES[self.mode].but(budget=self.budget, steps=self.steps, lr=self.lr, owner="fawkes-0.3")

    def __call__(self, batch: Batch, *, context: CloakContext) -> Batch:
        """Return the cloaked photos.

        Raises:
            DataError: when there is nobody else to look like.
        """
        model = Ensemble(context.placed())
        features = embed(model, to_uint8(batch.pictures), device=context.device)
        goals = features + self._shifts(batch, features, model, context)
        steps = self.schedule().steps
        moved = torch.empty_like(batch.pictures)
        with frozen(model):
            for rows in torch.arange(len(batch)).split(PHOTOS_AT_ONCE):
                photos, goal = (t[rows].to(context.device) for t in (batch.pictures, goals))
                moved[rows] = self._moved(model, photos, goal).cpu()
        context.meter.samples += steps * len(batch) * len(context.embedders)
        return batch.with_pictures(moved)

    def _shifts(self, batch: Batch, features: Tensor, model: nn.Module, context: CloakContext) -> Tensor:
        """Return how far every photo's features shall go, [N, D]: twice the way from the owner's mean to another's."""
        if not len(context.others):
            raise DataError("fawkes-0.3 makes people look like others, and there is nobody else's photo here")
        others = embed(model, context.others, device=context.device)
        people = context.other_people.unique()
        bank = torch.stack([others[context.other_people == p].mean(0) for p in people])
        names = [context.other_names[p] for p in people.tolist()]
        shifts = torch.empty_like(features)
        for person in batch.labels.unique().tolist():
            rows = batch.labels == person
            own = features[rows].mean(0)
            somebody_else = torch.tensor([i for i, name in enumerate(names) if name != batch.classes[person]])
            if not len(somebody_else):
                raise DataError(f"fawkes-0.3 makes {batch.classes[person]} look like others, and there is nobody else")
            distance = (bank[somebody_else] - own).norm(dim=1)
            far = somebody_else[distance.argsort(descending=True)[: self.furthest]]
            source = generator(context.seed, "fawkes target", batch.classes[person])
            target = bank[far[int(torch.randint(len(far), (), generator=source))]]
            shifts[rows] = 2 * (target - own)
        return shifts

    def _moved(self, model: nn.Module, clean: Tensor, goal: Tensor) -> Tensor:
        plan = self.schedule()
        budget, steps, lr = plan.budget, plan.steps, plan.lr
        z, dssim, length = to_tanh(clean), Dssim(clean), goal.norm(dim=1)
        adadelta, best = Adadelta.like(z), clean.clone()
        nearest = torch.full((len(clean),), torch.inf, device=clean.device)
        third = max(1, steps // _THIRDS)
        for step in range(steps):
            seen: list[Tensor] = []

            def loss(z: Tensor, seen: list[Tensor] = seen) -> Tensor:
                photos = from_tanh(z)
                distance = (goal - model(photos)).norm(dim=1) / length
                seen.extend([photos.detach(), distance.detach()])
                return 1e6 * (dssim(photos) - budget).clamp_min(0).square() + distance

            _, gradient = gradient_of(loss, z)
            photos, distance = seen
            better = distance < nearest
            best[better], nearest[better] = photos[better], distance[better]
            z = adadelta.move(z, gradient, lr * _SLOWER ** (step // third))
        return best
