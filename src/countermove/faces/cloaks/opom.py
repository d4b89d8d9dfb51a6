"""One mask for all photos of a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from countermove.errors import ConfigError
from countermove.faces.cloak import PHOTOS_AT_ONCE, CloakContext, Ensemble, Sees, read_surrogates
from countermove.faces.crafting import gradient_of
from countermove.faces.extractor import embed
from countermove.pixels.balls import Ball, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_uint8
from countermove.pixels.steps import frozen

Model = Literal["center", "affine"]


@dataclass(frozen=True, kw_only=True)
class Opom:
    """OPOM, one mask for all of a person's photos, Zhong and Deng 2022, arXiv:2205.11981.

    Sign steps on a mask that takes the features of some of the person's photos, all with that mask, away from what
    stands for the person: the mean of their clean features, or the affine hull of them. All of the person's photos,
    also later ones, then wear it.

    extractors: what it is made on, jointly.
    model:      center, or affine: the distance to the nearest affine combination of the clean features.
    eps:        radius (L-infinity), in [0, 1] pixel units.
    step, steps: of the ascent.
    photos:     how many of a person's photos it is made from, the first by id.

    Differs from the paper: its convex hulls are left out, for they need a quadratic program in every step.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[str] = "linf"
    sees: ClassVar[Sees] = "person"
    extractors: tuple[str, ...] = ("plain",)
    model: Model = "center"
    eps: float = 8 / 255
    step: float = 1 / 255
    steps: int = 16
    photos: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "extractors", read_surrogates(self.extractors, "opom"))
        check_radius(self.eps, norm="linf")
        if self.model not in ("center", "affine"):
            raise ConfigError(f"move 'opom': model = {self.model!r} is refused; it is center or affine")
        if min(self.steps, self.photos) < 1 or self.step <= 0:
            raise ConfigError("move 'opom': step, steps and photos are above 0")

    def surrogates(self) -> tuple[str, ...]:
        """Return the extractors it is made on."""
        return self.extractors

    def __call__(self, batch: Batch, *, context: CloakContext) -> Batch:
        """Return the cloaked photos."""
        network = Ensemble(context.placed())
        moved = batch.pictures.clone()
        with frozen(network):
            for person in batch.labels.unique().tolist():
                rows = (batch.labels == person).nonzero().flatten()
                by_id = sorted(rows.tolist(), key=lambda i: batch.ids[i])[: self.photos]
                seen = batch.pictures[by_id]
                mask = self._mask(network, seen, batch.classes[person], context)
                moved[rows] = (batch.pictures[rows] + mask).clamp(0, 1)
                context.meter.samples += self.steps * len(seen) * len(context.embedders)
        return batch.with_pictures(moved)

    def _mask(self, network: Ensemble, seen: Tensor, name: str, context: CloakContext) -> Tensor:
        """Return the mask [3, H, W] of a person."""
        features = embed(network, to_uint8(seen), device=context.device).to(context.device)
        center = features.mean(0)
        basis = features.new_zeros(features.shape[1], 0)
        if self.model == "affine" and len(features) > 1:
            # an orthonormal basis of the differences; directions that rounding alone made are left out
            left, size, _ = torch.linalg.svd((features - center).T, full_matrices=False)
            basis = left[:, size > 1e-4 * size.max()]
        photos = seen.to(context.device)

        def away(mask: Tensor) -> Tensor:
            gained = []
            for part in (photos + mask).clamp(0, 1).split(PHOTOS_AT_ONCE):
                offset = network(part) - center
                gained.append((offset - offset @ basis @ basis.T).square().sum(1))
            return torch.cat(gained)

        ball = Ball(norm="linf", radius=self.eps)
        mask = ball.draw(seen[:1], generator(context.seed, "opom", name)).to(context.device)
        for _ in range(self.steps):
            _, gradient = gradient_of(away, mask)
            mask = ball.project(mask + self.step * gradient.sign())
        return mask[0].cpu()
