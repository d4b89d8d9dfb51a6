"""The control: noise that changes a picture as much as another move does, and looks at no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.game import spelling
from countermove.game.cell import digest
from countermove.game.methods import build, load
from countermove.game.spelling import Named
from countermove.pixels.quick_ssim import WINDOW
from countermove.pixels.randomness import per_sample
from countermove.retrieval.crafting import largest
from countermove.retrieval.methods import MOVES
from countermove.retrieval.query import Limit, QueryContext, similarity, stored

if TYPE_CHECKING:
    from countermove.retrieval.query import Query

LOUDEST, HALVINGS = 1.0, 10
"""Largest standard deviation that is looked for; how often it is halved: to a quarter of a level."""


@dataclass(frozen=True, kw_only=True)
class MatchedNoise:
    """Gaussian noise at a given SSIM, picture by picture, the control of all moves.

    The standard deviation is halved towards the loudest noise that keeps the SSIM of the saved picture.

    ssim: that is kept.
    like: another move, spelled: its SSIM is taken, picture by picture, in the place of that number.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Limit] = None
    ssim: float = 0.8
    like: str = ""

    def __post_init__(self) -> None:
        if not 0.05 <= self.ssim <= 1:
            raise ConfigError(f"move 'noise': ssim = {self.ssim!r} is refused; it is in [0.05, 1], such as 0.8")
        if self.like:
            object.__setattr__(self, "like", self._read()[0])

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return SHA-256 over what the other move is, with its version; of nothing where there is none."""
        if not self.like:
            return digest([])
        text, method = self._read()
        own = getattr(method, "fingerprint", None)
        return digest([text, method.version, own(rehash=rehash) if callable(own) else ""])

    def surrogates(self) -> tuple[str, ...]:
        """Return the backbones of the other move."""
        return self._read()[1].surrogates() if self.like else ()

    def __call__(self, pictures: Tensor, ids: Sequence[str], *, context: QueryContext) -> Tensor:
        """Return the noisy pictures.

        Raises:
            DataError: when a side is under 11 pixels, where there is no SSIM.
        """
        if min(pictures.shape[2:]) < WINDOW:
            raise DataError(f"pictures of {pictures.shape[3]} x {pictures.shape[2]} have no SSIM; 11 x 11 are needed")
        clean, floor = pictures.to(context.device), torch.full((len(pictures),), self.ssim, device=context.device)
        if self.like:
            method = self._read()[1]
            moved = stored(method, method(pictures, ids, context=context), pictures).to(context.device)
            floor = similarity(moved.float() / 255, clean)
        shape = clean.shape[1:]
        noise = per_sample(context.seed, "noise", ids, lambda source: torch.randn(shape, generator=source)).to(clean)
        deviation = largest(
            lambda sigma: similarity(_with(clean, sigma, noise), clean), floor, most=LOUDEST, halvings=HALVINGS
        )
        return _with(clean, deviation, noise).to(pictures)

    def _read(self) -> tuple[str, Query]:
        named, *others = spelling.parse(self.like)
        if others or named.name not in MOVES or named.name == "noise":
            raise ConfigError(f"move 'noise': like = {self.like!r} is refused; it is one other move, such as pire")
        method: Any = build(load(MOVES[named.name]), named.settings, what=f"move 'noise': like {named.name!r}")
        spoken = {f.name: getattr(method, f.name) for f in fields(method) if getattr(method, f.name) != f.default}
        return spelling.spell([Named(named.name, spoken)]), method


def _with(clean: Tensor, deviation: Tensor, noise: Tensor) -> Tensor:
    return (clean + deviation.to(clean.device) * noise).clamp(0, 1)
