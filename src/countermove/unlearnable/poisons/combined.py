"""Two poisons at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.balls import Ball, Norm
from countermove.pixels.batch import Batch
from countermove.unlearnable.data.sources import digest_of
from countermove.unlearnable.parts import charge, corner, kept_within, read_part
from countermove.unlearnable.poison import Context, Surrogate, on_new_pictures, promised_ball, surrogates_of


@dataclass(frozen=True, kw_only=True)
class Combined:
    """Sum or mean of the noise of two poisons, Liu et al. 2023, arXiv:2301.13838.

    Error-minimizing plus targeted-adversarial noise show which one a model prefers (thesis, figure 3.4), their mean
    whether one reply undoes both (table 3.11); class-wise noise plus random noise is in Huang et al. 2021, appendix F.

    first, second: two poisons, spelled like moves of the grid: combined(first=random, second='regions(regions=4)').
    how:           "sum" adds the two changes, "mean" takes half of each.

    Each part is made as if it were alone, with the same seed; its manifest facts stand under first and second. The
    promised radius, where both parts promise one in the same norm: the sum of the radii, or their mean; for pixel
    counts (l0) always the sum. In different norms nothing is promised in one number, and the change is only measured.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = None
    streams: ClassVar[bool] = False

    first: str
    second: str
    how: Literal["sum", "mean"] = "sum"

    def __post_init__(self) -> None:
        for name in ("first", "second"):
            part = read_part(getattr(self, name), owner=f"combined: {name}")
            object.__setattr__(self, name, part.spelling)
        if self.first == self.second:
            raise ConfigError(
                f"combined: first and second are both {self.first!r}, which gives the same noise twice; change one"
            )

    @property
    def _parts(self) -> dict[str, Any]:
        return {name: read_part(getattr(self, name), owner="combined").method for name in ("first", "second")}

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return SHA-256 over settings, versions and files of both parts."""
        parts = [read_part(spelled, owner="combined") for spelled in (self.first, self.second)]
        return digest_of(*parts, rehash=rehash)

    def surrogates(self) -> tuple[Surrogate, ...]:
        """Return the networks that either part needs, each once."""
        return tuple(dict.fromkeys(asked for part in self._parts.values() for asked in surrogates_of(part)))

    def promise(self) -> Ball | None:
        """Return the ball that both changes together stay in, None where there is no such radius."""
        first, second = (promised_ball(part) for part in self._parts.values())
        if first is None or second is None or first.norm != second.norm:
            return None
        radius = first.radius + second.radius
        if self.how == "mean" and first.norm != "l0":
            radius /= 2
        return Ball(norm=first.norm, radius=min(radius, 1.0) if first.norm == "linf" else radius)

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W], already rounded inside the promised ball."""
        changes = []
        for name, part in self._parts.items():
            own = corner(context, name)
            moved = part(batch, context=own)
            charge(context, name, own)
            context.kept[name] = (own, moved)
            changes.append(moved.pictures - batch.pictures)
        return self._joined(batch, changes)

    def on_test(self, test: Batch, *, clean: Batch, moved: Batch, context: Context) -> Batch | None:
        """Put both parts on new pictures; None where one of them is not defined there."""
        parts = [part for part in self.parts_on_test(test, clean=clean, context=context).values() if part is not None]
        return self._joined(test, [part.pictures - test.pictures for part in parts]) if len(parts) == 2 else None

    def parts_on_test(self, test: Batch, *, clean: Batch, context: Context) -> dict[str, Batch | None]:
        """Put each part on new pictures by itself: under first and second, None where it is not defined there."""
        if not context.kept:  # made by an earlier call
            self(clean, context=context)
        put = {}
        for name, part in self._parts.items():
            own, alone = context.kept[name]
            put[name] = on_new_pictures(part, test, clean=clean, moved=alone, context=own)
        return put

    def _joined(self, batch: Batch, changes: list[Tensor]) -> Batch:
        total = changes[0] + changes[1]
        if self.how == "mean":
            total = total / 2
        return batch.with_pictures(kept_within(batch.pictures + total, batch.pictures, self.promise()))
