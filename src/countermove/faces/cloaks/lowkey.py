"""LowKey: away from oneself on many extractors, blurred and not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.faces.cloak import PHOTOS_AT_ONCE, CloakContext, Sees, read_surrogates
from countermove.faces.crafting import gradient_of
from countermove.faces.perceptual import perceptual_distance
from countermove.pixels.balls import Ball
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import per_sample
from countermove.pixels.squeezes import gaussian
from countermove.pixels.steps import frozen

Views = Literal["both", "plain", "blurred"]
KERNEL, SIGMA = 7, 3.0


@dataclass(frozen=True, kw_only=True)
class LowKey:
    """LowKey, features away from the photo's own on an ensemble, Cherepanova et al. 2021, arXiv:2101.07922.

    Sign steps up the mean over extractors, views and feature dimensions of (F(x') - f(x))^2 / |f(x)|, minus c times a
    perceptual distance.
    F blurs the photo (Gaussian, 7 x 7, sigma 3) or not; f(x) is of the photo as it is. A feature is the normalised sum
    of a photo's and its mirror image's.

    extractors: the ensemble (released: ArcFace and CosFace, each with IR-152 and ResNet-152).
    views:      both, plain or blurred.
    faithful:   as the released code has it: of several extractors with one network, the last one's weights stand for
                all of them. The repaired ensemble is the default.
    step, steps, start: length and number of sign steps, and radius of the random start.
    perceptual: "dssim", or a network with weights from elsewhere whose feature maps are compared as LPIPS does, with
                equal weights (released: AlexNet, torchvision:alexnet, with learned ones).
    c:          weight of the perceptual distance.

    Differs from the released code: photos are clipped to [0, 1] after every step, not after the last one. Its eps of
    .05 has no effect; what bounds the change is start + steps * step, .13, and is promised.
    """

    version: ClassVar[int] = 2
    norm: ClassVar[str] = "linf"
    sees: ClassVar[Sees] = "photo"
    extractors: tuple[str, ...] = ("plain", "strong")
    views: Views = "both"
    faithful: bool = False
    step: float = 0.0025
    steps: int = 50
    start: float = 0.005
    perceptual: str = "dssim"
    c: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, "extractors", read_surrogates(self.extractors, "lowkey"))
        if self.views not in ("both", "plain", "blurred"):
            raise ConfigError(f"move 'lowkey': views = {self.views!r} is refused; it is both, plain or blurred")
        if self.steps < 1 or self.step <= 0 or self.start < 0 or self.c < 0:
            raise ConfigError("move 'lowkey': step and steps are above 0, start and c not below")
        if self.perceptual != "dssim" and ":" not in self.perceptual:
            raise ConfigError(
                f"move 'lowkey': perceptual = {self.perceptual!r} is refused; it is dssim or torchvision:alexnet"
            )
        if not self.eps <= 1:
            raise ConfigError(
                f"move 'lowkey': start + steps * step = {self.eps:g} is refused; no change of a pixel is above 1"
            )

    @property
    def eps(self) -> float:
        """Return the radius that no change leaves."""
        return self.start + self.steps * self.step

    def surrogates(self) -> tuple[str, ...]:
        """Return the extractors it is made on."""
        return self.extractors

    def __call__(self, batch: Batch, *, context: CloakContext) -> Batch:
        """Return the cloaked photos."""
        embedders = context.placed()
        if self.faithful:
            last = dict(zip(context.names, embedders, strict=True))
            embedders = tuple(last[name] for name in context.names)
        views = (True, False) if self.views == "both" else (self.views == "blurred",)
        shape = tuple(batch.pictures.shape[1:])
        start = per_sample(
            context.seed, "lowkey", batch.ids, lambda s: (2 * torch.rand(shape, generator=s) - 1) * self.start
        )
        measure = perceptual_distance(self.perceptual, device=context.device)
        moved = torch.empty_like(batch.pictures)
        with frozen(nn.ModuleList(embedders)):
            for rows in torch.arange(len(batch)).split(PHOTOS_AT_ONCE):
                clean, begin = (t[rows].to(context.device) for t in (batch.pictures, start))
                moved[rows] = self._moved(embedders, views, clean, begin, measure).cpu()
        context.meter.samples += self.steps * len(batch) * 2 * len(embedders) * len(views)
        return batch.with_pictures(moved)

    def _moved(self, embedders, views, clean: Tensor, start: Tensor, measure) -> Tensor:
        with torch.no_grad():
            references = [mirrored(embedder, clean) for embedder in embedders]
        far = measure(clean)
        ball = Ball(norm="linf", radius=self.eps)

        def objective(photos: Tensor) -> Tensor:
            seen = [(blurred, gaussian(photos, KERNEL, SIGMA) if blurred else photos) for blurred in views]
            gained = [
                (mirrored(embedder, view) - reference).square().mean(1) / reference.norm(dim=1)
                for embedder, reference in zip(embedders, references, strict=True)
                for _, view in seen
            ]
            return torch.stack(gained).mean(0) - self.c * far(photos)

        photos = (clean + start).clamp(0, 1)
        for _ in range(self.steps):
            _, gradient = gradient_of(objective, photos)
            photos = (clean + ball.project(photos + self.step * gradient.sign() - clean)).clamp(0, 1)
        return photos


def mirrored(embedder: nn.Module, photos: Tensor) -> Tensor:
    """Return the normalised sum of the features of photos and of their mirror images."""
    return F.normalize(embedder(photos) + embedder(photos.flip(3)))
