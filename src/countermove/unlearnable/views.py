"""How a surrogate sees pictures while noise is made: through what a trainer may do to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Generator, Tensor
from torch import randint as draw_integer

from countermove.learning.augment import Window, padded
from countermove.pixels.jpeg import jpeg, jpeg_differentiable
from countermove.pixels.squeezes import gray_soft

Look = Callable[[Tensor], Tensor]
"""From pictures [n, 3, H, W] to what is seen of them; differentiable."""
Modules = Literal["", "gray", "jpeg", "gray+jpeg"]
Backward = Literal["differentiable", "bpda"]

CROP = 4


@dataclass(frozen=True, kw_only=True)
class Through:
    """Squeezes that pictures pass before they are augmented; see ErrorMinimizing.through."""

    modules: Modules = ""
    qualities: tuple[int, ...] = (10,)
    backward: Backward = "differentiable"

    def choose(self, generator: Generator) -> Look:
        """Return the squeeze of one step; one of several qualities is drawn, one alone draws nothing."""
        many = "jpeg" in self.modules and len(self.qualities) > 1
        return self._at(self.qualities[int(draw_integer(len(self.qualities), (), generator=generator)) if many else 0])

    def every(self) -> list[Look]:
        """Return the squeeze of every quality."""
        return [self._at(quality) for quality in (self.qualities if "jpeg" in self.modules else self.qualities[:1])]

    def _at(self, quality: int) -> Look:
        looks: list[Look] = []
        if "gray" in self.modules:
            looks.append(gray_soft)
        if "jpeg" in self.modules:
            looks.append(
                partial(jpeg_differentiable if self.backward == "differentiable" else straight, quality=quality)
            )
        return partial(_one_by_one, looks)


@dataclass(frozen=True, kw_only=True)
class View:
    """Squeezed, then cropped and flipped at random, or some of this."""

    augment: bool
    generator: Generator
    through: Through = Through()

    def draw(self, pictures: Tensor) -> Look:
        """Return how pictures like these are seen for one step: the quality, the crops and the flips are drawn now."""
        looks = [self.through.choose(self.generator)]
        if self.augment:
            n, _, height, width = pictures.shape
            window = Window.draw(n, height, width, crop=CROP, flip=True, generator=self.generator)
            looks.append(lambda squeezed: window.look(padded(squeezed, CROP)))
        return partial(_one_by_one, looks)


def straight(pictures: Tensor, quality: int) -> Tensor:
    """Compress with the real codec, and let gradients pass as if nothing was done (BPDA, Athalye et al. 2018)."""
    return pictures + (jpeg(pictures.detach(), quality) - pictures.detach())


def _one_by_one(looks: list[Look], pictures: Tensor) -> Tensor:
    for look in looks:
        pictures = look(pictures)
    return pictures
