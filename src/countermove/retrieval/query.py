"""What changes a query before it is sent, and what it may use.

A move of this arena is a frozen, keyword-only dataclass, called with pictures of one shape and their names::

    __call__(pictures: Tensor, ids: Sequence[str], *, context: QueryContext) -> Tensor

Float pictures [N, 3, H, W] in [0, 1] come and go; what comes in has 8 bits. Class variables say what it is:

    version: raised when its output changes.
    norm:    "linf", where `eps` (in [0, 1] pixel units) limits the change of every value; None where the move states
             another budget.

and `surrogates()` names the backbones it is made on; `TARGET` among them is the engine's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.learning.scoring import place
from countermove.pixels.balls import Ball
from countermove.pixels.rounding import quantize_move, to_float, to_uint8
from countermove.pixels.ssim import ssim
from countermove.retrieval.backbone import TARGET, describe, read_backbone

Limit = Literal["linf"] | None
"""Which change of a value a move limits, if any."""
AT_ONCE = 16
"""Pictures of one shape that are changed together."""
PUBLIC_SEEN = 256
"""Public pictures that a mean is taken over."""


@dataclass
class Meter:
    """Forward-backward passes of a picture that were spent, a smaller view of it counted by its share of pixels."""

    samples: float = 0.0


@dataclass(frozen=True, kw_only=True)
class QueryContext:
    """What a mover may use.

    networks: from pictures [N, 3, H, W] in [0, 1] to unit vectors, for each backbone that the move named, in its order.
    public:   8-bit pictures [3, H, W] that are no query and that nobody searches.
    made:     what a move makes once for all of its calls, by a key of its own; the calls of one cell share it.
    seed:     of all noise; a picture's own follows its id.
    """

    networks: tuple[nn.Module, ...] = ()
    public: Sequence[Tensor] = ()
    made: dict[Any, Tensor] = field(default_factory=dict)
    seed: int = 0
    device: str = "cpu"
    meter: Meter = field(default_factory=Meter)

    def together(self) -> Together:
        """Return all networks as one, on the device.

        Raises:
            DataError: when there is none.
        """
        if not self.networks:
            raise DataError("there is no network to make the query on; name a backbone, such as backbones=[plain]")
        return Together([place(network, self.device) for network in self.networks])

    def centre(self) -> Tensor:
        """Return the mean of the public pictures' descriptors, [D] on the device; zero where there are none."""
        key = ("centre", *map(id, self.networks))
        if key not in self.made:
            some = self.public[:PUBLIC_SEEN]
            found = describe(self.together(), some, device=self.device) if len(some) else torch.zeros(1, 1)
            self.made[key] = found.mean(0)
        return self.made[key].to(self.device)


class Query(Protocol):
    """A move of this arena."""

    version: ClassVar[int]
    norm: ClassVar[Limit]

    def surrogates(self) -> tuple[str, ...]:
        """Return the backbones it is made on, canonically spelled."""
        ...

    def __call__(self, pictures: Tensor, ids: Sequence[str], *, context: QueryContext) -> Tensor:
        """Return the changed pictures."""
        ...


class Together(nn.Module):
    """Several networks as one, their descriptors side by side: [N, D1 + D2 + ...], each a unit vector."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        """Keep them."""
        super().__init__()
        self.parts = nn.ModuleList(networks)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return all descriptors."""
        return torch.cat([part(pictures) for part in self.parts], dim=1)


def read_surrogates(backbones: Sequence[str], owner: str) -> tuple[str, ...]:
    """Return canonical spellings.

    Raises:
        ConfigError: when there is none, or one cannot be read.
    """
    if not backbones:
        raise ConfigError(f"move {owner!r} needs a backbone to be made on, such as backbones=[plain]")
    return tuple(name if name == TARGET else read_backbone(name, f"move {owner!r}")[0] for name in backbones)


def change(
    method: Query, pictures: Sequence[Tensor], ids: Sequence[str], *, context: QueryContext, at_once: int = AT_ONCE
) -> list[Tensor]:
    """Return what a move makes of 8-bit pictures [3, H, W], with 8 bits and inside its radius.

    Pictures of one shape are changed together, so many at once.

    Raises:
        DataError: when ids do not go with the pictures.
    """
    if len(ids) != len(pictures) or len(set(ids)) != len(ids):
        raise DataError(f"{len(pictures)} queries come with {len(set(ids))} different ids; every query has its own")
    done: dict[int, Tensor] = {}
    for rows in _alike(pictures, at_once):
        clean = to_float(torch.stack([pictures[row] for row in rows]))
        moved = stored(method, method(clean, [ids[row] for row in rows], context=context), clean)
        done.update(zip(rows, moved, strict=True))
    return [done[row] for row in range(len(pictures))]


def _alike(pictures: Sequence[Tensor], at_once: int) -> Iterator[list[int]]:
    """Yield rows of pictures of one shape, at most so many at once and every row once."""
    waiting: dict[tuple[int, ...], list[int]] = {}
    for row, picture in enumerate(pictures):
        rows = waiting.setdefault(tuple(picture.shape), [])
        rows.append(row)
        if len(rows) == at_once:
            yield waiting.pop(tuple(picture.shape))
    yield from waiting.values()


def stored(method: Query, moved: Tensor, clean: Tensor) -> Tensor:
    """Return a move's pictures as they are saved, uint8, still inside its radius where it has one."""
    if method.norm is None:
        return to_uint8(moved)
    return to_uint8(quantize_move(moved, clean, Ball(norm=method.norm, radius=method.eps)))  # pyright: ignore


def similarity(moved: Tensor, clean: Tensor) -> Tensor:
    """Return the SSIM, [N], of float pictures as they are saved, with 8 bits, to the clean ones."""
    return ssim(to_float(to_uint8(moved)), clean)
