"""Fawkes as released in 2021: away from oneself, as far as structural similarity lets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.faces.cloak import PHOTOS_AT_ONCE, CloakContext, Ensemble, Sees, read_surrogates
from countermove.faces.crafting import Adadelta, Dssim, Schedule, from_tanh, gradient_of, to_tanh
from countermove.faces.extractor import squared_distance
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import per_sample
from countermove.pixels.steps import frozen

Mode = Literal["low", "mid", "high"]
MODES: dict[str, Schedule] = {
    "low": Schedule(budget=0.004, steps=40, lr=25.0),
    "mid": Schedule(budget=0.012, steps=75, lr=20.0),
    "high": Schedule(budget=0.017, steps=150, lr=15.0),
}

_START, _NUDGE = 1e-4, 0.01
_MOST_BALANCE = 256.0
_NEAR, _OVER = 0.9, 1.1


@dataclass(frozen=True, kw_only=True)
class Fawkes:
    """Fawkes 1.0, features as far from the photo's own as a DSSIM budget lets them, Shan et al. 2020, arXiv:2002.08327.

    The algorithm of release 1.0: no target; Adadelta in tanh space; loss 1e6 max(DSSIM - budget, 0)^2 minus c times the
    squared distance of normalised features, summed over extractors. Each photo has its own c, which doubles while the
    photo is clearly inside the budget (up to 256), halves while it is clearly over it and returns to 1 in between. No
    pixel changes by more than `most`. The photo that is kept is the furthest within 1.1 budgets; where there is none,
    the nearest to the budget.

    extractors: what it is made on, jointly.
    mode:       low, mid or high: DSSIM .004, .012, .017; 40, 75, 150 steps; learning rate 25, 20, 15.
    budget, steps, lr: instead of the mode's.
    most:       largest change of a pixel.
    patience:   a photo that has not got further for so many steps is finished; 0: all go to the end.

    Differs from release 1.0.2: one extractor unless more are named, where it has its own number 2, and 0 beside it from
    mid on; the contrast of every crop is not stretched to the whole range, and th, lr and max-step,
    which it ignores, are heeded. Its fallback (the last photo, where the best one moved less than .3 and DSSIM is below
    .015) is replaced by the nearest to the budget. Differs from the paper: that is targeted, see fawkes-0.3.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[None] = None
    sees: ClassVar[Sees] = "photo"
    extractors: tuple[str, ...] = ("plain",)
    mode: Mode = "mid"
    budget: float | None = None
    steps: int | None = None
    lr: float | None = None
    most: float = 15 / 255
    patience: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "extractors", read_surrogates(self.extractors, "fawkes"))
        if self.mode not in MODES:
            raise ConfigError(f"move 'fawkes': mode = {self.mode!r} is refused; it is {', '.join(MODES)}")
        self.schedule()
        if not 0 < self.most <= 1 or self.patience < 0:
            raise ConfigError("move 'fawkes': most is above 0 and at most 1, patience not below 0")

    def surrogates(self) -> tuple[str, ...]:
        """Return the extractors it is made on."""
        return self.extractors

    def schedule(self) -> Schedule:
        """Return the mode's, with what was asked for in its place."""
        return MODES[self.mode].but(budget=self.budget, steps=self.steps, lr=self.lr, owner="fawkes")

    def __call__(self, batch: Batch, *, context: CloakContext) -> Batch:
        """Return the cloaked photos."""
        model = Ensemble(context.placed())
        shape = tuple(batch.pictures.shape[1:])
        start = per_sample(
            context.seed, "fawkes", batch.ids, lambda source: (2 * torch.rand(shape, generator=source) - 1) * _START
        )
        moved = torch.empty_like(batch.pictures)
        with frozen(model):
            for rows in torch.arange(len(batch)).split(PHOTOS_AT_ONCE):
                photos = batch.pictures[rows].to(context.device)
                found, passes = self._moved(model, photos, start[rows].to(context.device))
                moved[rows] = found.cpu()
                context.meter.samples += passes * len(context.embedders)
        return batch.with_pictures(moved)

    def _moved(self, model: nn.Module, clean: Tensor, start: Tensor) -> tuple[Tensor, int]:
        plan = self.schedule()
        budget, steps, lr = plan.budget, plan.steps, plan.lr
        with torch.no_grad():
            reference = model(clean)
        z = to_tanh(clean) + start
        search = _Search(clean, z, reference, Dssim(clean), Adadelta.like(z))
        best, passes = clean.clone(), 0
        closest = torch.full((len(clean),), torch.inf, device=clean.device)
        furthest = torch.full_like(closest, -torch.inf)
        waited = torch.zeros(len(clean), dtype=torch.int64, device=clean.device)
        active, c = torch.arange(len(clean), device=clean.device), torch.ones_like(closest)
        for step in range(steps):
            photos, moved, over, gradient = search.look(model, self.most, budget, c)
            passes += len(active)
            within = over <= _OVER * budget
            excess = (over - budget).abs()
            nearer = ~within & furthest[active].isneginf() & (excess < closest[active])
            further = within & (moved > furthest[active])
            better = further | nearer
            best[active[better]] = photos[better]
            closest[active[nearer]] = excess[nearer]
            furthest[active[further]] = moved[further]
            waited[active] = torch.where(further, 0, waited[active] + 1)
            c = _balanced(c, over, budget)
            search.step(gradient, lr, nudged=step == 0)
            if self.patience and (kept := waited[active] < self.patience).sum() < len(active):
                search, active, c = search.rows(kept), active[kept], c[kept]
                if not len(active):
                    break
        return best, passes


@dataclass
class _Search:
    """Photos under way: where they are in tanh space, and what they are compared with."""

    clean: Tensor
    z: Tensor
    reference: Tensor
    dssim: Dssim
    adadelta: Adadelta

    def look(self, model: nn.Module, most: float, budget: float, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return photos, how far their features are, their DSSIM, and the loss's gradient."""
        seen: list[Tensor] = []

        def loss(z: Tensor) -> Tensor:
            photos = self.clean + (from_tanh(z) - self.clean).clamp(-most, most)
            moved, over = squared_distance(model(photos), self.reference), self.dssim(photos)
            seen.extend([photos.detach(), moved.detach(), over.detach()])
            return 1e6 * (over - budget).clamp_min(0).square() - c * moved

        _, gradient = gradient_of(loss, self.z)
        photos, moved, over = seen
        return photos, moved, over, gradient

    def step(self, gradient: Tensor, lr: float, *, nudged: bool) -> None:
        """Go on; the first step is a small one along the signs, since Adadelta's own is next to nothing."""
        self.z = self.z - _NUDGE * gradient.sign() if nudged else self.adadelta.move(self.z, gradient, lr)

    def rows(self, kept: Tensor) -> _Search:
        """Return those that go on."""
        return _Search(
            self.clean[kept], self.z[kept], self.reference[kept], self.dssim.rows(kept), self.adadelta.rows(kept)
        )


def _balanced(c: Tensor, over: Tensor, budget: float) -> Tensor:
    """Return every photo's weight of the features for the next step."""
    doubled = torch.where(c < 1, 1.0, (2 * c).clamp_max(_MOST_BALANCE))
    halved = torch.where(c > 1, 1.0, c / 2)
    return torch.where(over <= _NEAR * budget, doubled, torch.where(over >= _OVER * budget, halved, 1.0))
