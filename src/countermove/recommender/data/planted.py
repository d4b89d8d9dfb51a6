"""A made-up shop whose users' tastes are known, for tests and demonstrations without any download."""

from __future__ import annotations

from collections.abc import Iterable
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from countermove.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from countermove.recommender.shop import Shop

SHAPES = ("shirt", "bag", "shoe")
LEAST_TOUCHES = 3
CHANGES = (0, 1, 2, 6, 7)
"""What differs between two pictures of an item: size, place across and down, where the texture begins, paper."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Drawn products with planted tastes: what a user touches can be told from the pictures.

    A style is a hue and a texture. Every item is a shirt, a bag or a shoe in one style, with its own size, place,
    shade, pitch of the texture and pixel noise; shapes say nothing about styles. A user likes one style, or one twice
    as much as another. Within a style, the item of rank r is touched in proportion to 1 / r. The last items of the
    catalogue are new: nobody touched them. Categories are the styles.

    users:   how many users.
    items:   how many items, new ones included; item i has style i modulo styles.
    cold:    how many of the items are new; as many are set apart, chosen among all that nobody touched.
    side:    the pictures are side x side pixels.
    views:   pictures of every item, the further ones with another size, place, paper and grain.
    styles:  how many styles.
    touches: different items that each user touched; the last by time is tested, the one before it validates.
    noise:   share of a user's interest that goes to all styles alike.
    seed:    another seed draws other items and users.
    """

    version: ClassVar[int] = 1
    keyed_when_set: ClassVar[tuple[str, ...]] = ("views",)
    users: int = 200
    items: int = 120
    cold: int = 20
    side: int = 32
    views: int = 1
    styles: int = 4
    touches: int = 12
    noise: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        from countermove.recommender.data.reading import check_side

        check_side(self.side)
        for name, least in (("users", 1), ("cold", 1), ("views", 1), ("styles", 2), ("touches", LEAST_TOUCHES)):
            if getattr(self, name) < least:
                raise ConfigError(f"planted: {name} = {getattr(self, name)} is refused: it must be at least {least}")
        if not 0 <= self.noise <= 1:
            raise ConfigError(f"planted: noise = {self.noise} is refused: a share lies in 0..1")
        warm = max(0, self.items - self.cold) // self.styles
        if warm < self.touches:
            raise ConfigError(
                f"planted: touches = {self.touches} is refused: {self.items} items, {self.cold} of them cold, leave a "
                f"style only {warm} that can be touched. Raise items"
            )

    def __call__(self, *, root: Path | None = None) -> Shop:
        """Draw items and users; nothing is read."""
        import torch

        from countermove.recommender.shop import Log, open_shop

        touched, times = self._touched()
        users, items = (_names(kind, count) for kind, count in (("user", self.users), ("item", self.items)))
        return open_shop(
            "planted",
            Log(
                users=[name for name in users for _ in range(self.touches)],
                items=[items[i] for i in touched.flatten().tolist()],
                times=times.flatten().tolist(),
            ),
            items,
            self._pictures(range(self.items), [0]),
            cold=self.cold,
            cold_from="untouched",
            split="last",
            split_seed=self.seed,
            categories=[f"style-{k}" for k in range(self.styles)],
            category=torch.arange(self.items) % self.styles,
            further=(
                self._pictures(range(self.items if self.views > 1 else 0), range(1, self.views)),
                torch.arange(self.items).repeat_interleave(self.views - 1),
            ),
        )

    def tastes(self) -> Tensor:
        """Return the share of each user's interest that each style has: float64 [users, styles], rows sum to one."""
        import torch

        order = self._uniform("tastes", shape=(self.users, self.styles)).argsort(dim=1)
        second = (self._uniform("two", shape=(self.users, 1)) < 0.5).double() / 3
        likes = torch.zeros(self.users, self.styles, dtype=torch.float64)
        likes.scatter_(1, order[:, :2], torch.cat([1 - second, second], dim=1))
        return self.noise / self.styles + (1 - self.noise) * likes

    def _touched(self) -> tuple[Tensor, Tensor]:
        """Return each user's items, all different, and when they were touched: [users, touches] each."""
        import torch

        style = torch.arange(self.items) % self.styles
        pull = torch.zeros(self.items, dtype=torch.float64)
        luck = self._uniform("popularity", shape=(self.items,))
        for k in range(self.styles):
            warm = (style[: self.items - self.cold] == k).nonzero().flatten()
            ranked = 1 / torch.arange(1, len(warm) + 1, dtype=torch.float64)
            pull[warm[luck[warm].argsort()]] = ranked / ranked.sum()
        interest = self.tastes()[:, style] * pull
        # The first k of competing exponential clocks are k draws without putting back.
        clocks = -torch.log1p(-self._uniform("clocks", shape=tuple(interest.shape))) / interest
        touched = clocks.topk(self.touches, dim=1, largest=False).indices
        return touched, self._uniform("times", shape=tuple(touched.shape))

    def _pictures(self, items: Iterable[int], views: Iterable[int]) -> Tensor:
        """Draw views of items, uint8 [N, 3, side, side]; all of an item before the next."""
        import torch

        drawn = [self._draw(item, view) for item in items for view in views]
        pictures = np.stack(drawn) if drawn else np.zeros((0, self.side, self.side, 3), dtype=np.uint8)
        return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()

    def _draw(self, item: int, view: int) -> np.ndarray:
        """Draw an item: uint8 [side, side, 3]. It depends on its number, its style's hue, the view, seed and side."""
        kind, *luck = self._uniform("item", item, shape=(9,)).tolist()
        again = () if view == 0 else ("view", view)
        if view:
            other = self._uniform("item", item, *again, shape=(9,)).tolist()[1:]
            luck = [other[k] if k in CHANGES else mine for k, mine in enumerate(luck)]
        wobble = [2 * value - 1 for value in luck]
        style = item % self.styles
        y, x = np.meshgrid(*[np.linspace(-1, 1, self.side)] * 2, indexing="ij")
        size = 0.9 + 0.15 * wobble[0]
        inside = _silhouette(SHAPES[int(kind * len(SHAPES))], x / size - 0.12 * wobble[1], y / size - 0.12 * wobble[2])
        hue = (style + 0.2 * wobble[3]) / self.styles
        dark, bright = (hsv_to_rgb(hue % 1, 0.75, 0.7 + 0.12 * wobble[4] + step) for step in (-0.3, 0.15))
        weave = _texture(style % 4, x, y, pitch=9 + 2 * wobble[5], phase=np.pi * wobble[6])[..., None]
        paper = 0.93 + 0.05 * wobble[7]
        picture = np.where(inside[..., None], weave * bright + (1 - weave) * np.array(dark), paper)
        grain = self._uniform("grain", item, *again, shape=picture.shape).numpy() - 0.5
        return np.round((picture + 0.06 * grain).clip(0, 1) * 255).astype(np.uint8)

    def _uniform(self, *purpose: str | int, shape: tuple[int, ...]) -> Tensor:
        import torch

        from countermove.pixels.randomness import generator

        return torch.rand(shape, generator=generator(self.seed, "planted", *purpose), dtype=torch.float64)


def _names(kind: str, count: int) -> list[str]:
    """Return ids whose order as texts is their order as numbers."""
    width = len(str(count - 1))
    return [f"{kind}-{i:0{width}d}" for i in range(count)]


def _silhouette(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return what is inside a product's outline; x to the right, y downwards, in -1..1."""
    if shape == "shirt":
        body = (np.abs(x) < 0.45) & (np.abs(y) < 0.75)
        sleeves = (np.abs(x) < 0.85) & (np.abs(y + 0.75 - 0.5 * np.abs(x)) < 0.22)
        return (body | (sleeves & (y > -0.75))) & (np.hypot(x, y + 0.8) > 0.22)
    if shape == "bag":
        body = (np.abs(x) < 0.55 + 0.15 * y) & (np.abs(y - 0.25) < 0.45)
        return body | ((np.abs(np.hypot(x, y + 0.2) - 0.36) < 0.08) & (y <= -0.2))
    sole = (np.abs(x) < 0.85) & (np.abs(y - 0.4) < 0.1)
    top = -0.45 + 0.62 * ((x + 0.25) / 1.05).clip(0, 1) ** 0.6
    return sole | ((np.abs(x) < 0.8) & (y > top) & (y <= 0.3))


def _texture(kind: int, x: np.ndarray, y: np.ndarray, *, pitch: float, phase: float) -> np.ndarray:
    """Return a pattern in 0..1: stripes across, checks, dots or diagonal stripes."""
    across, down = np.sin(pitch * y + phase), np.sin(pitch * x + phase)
    patterns = (across, np.sign(across * down), 3 * across * down - 1, np.sin(0.7 * pitch * (x + y) + phase))
    return (0.5 + 0.5 * patterns[kind]).clip(0, 1)
