"""Autoregressive noise: every class a recursion that makes each value of the noise out of its neighbours.

Legend: N pictures of 3 x H x W, K classes, F filters, B values that start a recursion. All of it is float64: two ways
to the same noise then agree to far less than a level of 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Generator, Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.balls import Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator, per_sample
from countermove.unlearnable.poison import Context

MARGIN = 4  # rows and columns that are cut off where a recursion starts
SIDE = 32  # filters are tried on noise of this side
TRIALS = 3  # that many
NORM_BOUND = 50.0  # and none may be longer
POOL = 512  # filters drawn at once
SHUFFLES = 50  # of a pool, before a new one is drawn
_ENTRIES_AT_ONCE = 1 << 23  # 64 MB


@dataclass(frozen=True, kw_only=True)
class Autoregressive:
    """Autoregressive noise (AR), Sandoval-Segura et al. 2022, arXiv:2206.03693.

    Every class has one filter of 3 x 3 a channel. From Gaussian numbers at the upper and left border, each value is the
    filter's weighted sum of the eight neighbours above and to the left of it; the start is cut off and the rest scaled
    to the radius. A convolution with the filter finds the class, whatever the start.

    eps:      L2 radius in [0, 1] pixel units, over all channels (paper: 1.0 for 32 x 32). For other sides scale it with
              the side.
    response: how strongly the filters of earlier classes must answer to a new class's noise of 3 x 32 x 32 and length
              1: the sum over positions of what is positive (paper: 10, and 3 for 100 classes).
    stable:   take only filters whose noise does not grow, however large the picture. The paper's do not diverge at
              32 x 32, which some of them would on larger ones. Ten stable filters with a response of 10 are too rare
              to be found; 3 is found at once.
    draws:    channel filters drawn at most before giving up (paper: 1,000,000 sets of three).

    Filters are drawn as in the paper: Gaussian, the last entry 0, sum 1; three noises of 3 x 32 x 32 must be no longer
    than 50, and the response large enough. They follow the seed and the class's index, the start the sample's id.

    Differs from the released code: the recursion is linear in what it starts from, so that a class with many pictures
    takes one matrix product a channel and no loop; the rest is unrolled for all pictures at once. Filters of single
    channels that are too long alone are left out before they are joined to sets. Filters that diverge are never used
    (a published set for 100 classes held one); noise that diverges on larger pictures is refused. Rounded within the
    radius, not truncated.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "l2"
    streams: ClassVar[bool] = True

    eps: float = 1.0
    response: float = 10.0
    stable: bool = False
    draws: int = 50_000

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="l2")
        if not (math.isfinite(self.response) and self.response >= 0):
            raise ConfigError(f"response = {self.response:g} is refused: it is a finite number from 0, such as 10 or 3")
        if self.draws < 1:
            raise ConfigError(f"draws = {self.draws} is refused: at least one filter must be drawn")

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within L2 distance eps of the given ones.

        Raises:
            DataError: no filters found that are different enough for so many classes, or noise that diverges on
                pictures of this size.
        """
        filters = self.filters(len(batch.classes), context.seed)
        height, width = batch.pictures.shape[-2:]
        entries = start_entries(height, width)
        noise = torch.empty_like(batch.pictures)

        def starts(rows: Tensor) -> Tensor:
            return _starts(context.seed, [batch.ids[i] for i in rows.tolist()], entries)

        many = torch.bincount(batch.labels, minlength=len(batch.classes)) >= entries  # where a matrix pays
        for label in many.nonzero().flatten().tolist():
            rows = (batch.labels == label).nonzero().flatten()
            noise[rows] = self._scaled(multiply(transfer(filters[label], height, width), starts(rows), (height, width)))
        at_once = max(1, _ENTRIES_AT_ONCE // (3 * (height + MARGIN) * (width + MARGIN)))
        few = (~many[batch.labels]).nonzero().flatten()
        for rows in few.split(at_once) if len(few) else ():
            noise[rows] = self._scaled(unroll(filters[batch.labels[rows]], starts(rows), height, width))
        return batch.with_pictures((batch.pictures + noise).clamp(0, 1))

    def filters(self, classes: int, seed: int) -> Tensor:
        """Return the filters of all classes, [K, 3, 3, 3] by class, channel, row and column."""
        return draw_filters(seed, classes, self.response, self.stable, self.draws)

    def _scaled(self, noise: Tensor) -> Tensor:
        """Scale noise [N, 3, H, W] to the radius."""
        height, width = noise.shape[-2:]
        length = noise.flatten(1).norm(dim=1)
        allowed = 10 * NORM_BOUND * max(1.0, math.sqrt(height * width) / SIDE)
        if not (length <= allowed).all():  # NaN is not
            raise DataError(
                f"autoregressive: the filters of this seed, tried at {SIDE} x {SIDE}, diverge on pictures of "
                f"{height} x {width}; set stable=true with response=3, or take smaller pictures"
            )
        return (noise * (self.eps / length)[:, None, None, None]).float()


def start_entries(height: int, width: int) -> int:
    """Return how many numbers a recursion starts from: two rows and two columns of the picture with its margin."""
    return 2 * (width + MARGIN) + 2 * (height + MARGIN - 2)


def unroll(filters: Tensor, starts: Tensor, height: int, width: int) -> Tensor:
    """Run the recursion from left to right and from top to bottom, for many pictures at once.

    Args:
        filters: [N, C, 3, 3], or with N = 1 for all pictures; the last entry is the value itself and not used.
        starts: [N, C, B]: the first two rows, then the first two columns of the other rows, row by row.
        height: of the noise, without its margin.
        width: likewise.

    Returns:
        Noise [N, C, H, W], its first rows and columns cut off.
    """
    rows, columns = height + MARGIN, width + MARGIN
    weight = filters.permute(2, 3, 0, 1)
    field = starts.new_empty(rows, columns, *starts.shape[:2])  # pictures last: each step is one stretch of memory
    first, other = starts.movedim(-1, 0).split([2 * columns, 2 * (rows - 2)])
    field[:2] = first.unflatten(0, (2, columns))
    field[2:, :2] = other.unflatten(0, (rows - 2, 2))
    for i in range(2, rows):
        row = field[i, 2:]
        torch.mul(field[i - 2, :-2], weight[0, 0], out=row)
        for above, left in ((0, 1), (0, 2), (1, 0), (1, 1), (1, 2)):
            row.addcmul_(field[i - 2 + above, left : columns - 2 + left], weight[above, left])
        for j in range(2, columns):
            field[i, j].addcmul_(field[i, j - 2], weight[2, 0]).addcmul_(field[i, j - 1], weight[2, 1])
    return field[MARGIN:, MARGIN:].permute(2, 3, 0, 1)


def transfer(filters: Tensor, height: int, width: int) -> Tensor:
    """Return what every starting number contributes to every value: filters [C, 3, 3] to matrices [C, B, H * W]."""
    entries = start_entries(height, width)
    units = torch.eye(entries, dtype=filters.dtype)[:, None].expand(entries, len(filters), entries)
    return unroll(filters[None], units, height, width).flatten(2).movedim(0, 1).contiguous()


def multiply(matrices: Tensor, starts: Tensor, side: tuple[int, int]) -> Tensor:
    """Return the noise of starts [N, C, B] by one matrix product a channel, [N, C, H, W]."""
    return torch.bmm(starts.movedim(1, 0), matrices).movedim(0, 1).unflatten(-1, side)


@lru_cache(maxsize=8)
def draw_filters(seed: int, classes: int, required: float, stable: bool, draws: int) -> Tensor:
    """Draw the filters [K, 3, 3, 3] of all classes; those of the first classes do not depend on how many follow.

    Raises:
        DataError: none were found in so many draws.
    """
    source = generator(seed, "autoregressive-filters")
    found = torch.empty(0, 3, 3, 3, dtype=torch.float64)
    for drawn in range(0, draws, POOL):
        pool, noise = usable(propose(min(POOL, draws - drawn), source), source, stable=stable)
        for _ in range(SHUFFLES):
            sets = torch.randperm(len(pool), generator=source)[: len(pool) // 3 * 3].view(-1, 3)
            fit = _fitting(noise[sets], found, required)
            if len(fit) == 0:
                continue
            chosen = sets[fit[0]]
            found = torch.cat([found, pool[chosen][None]])
            if len(found) == classes:
                return found
            left = torch.ones(len(pool), dtype=torch.bool).index_fill_(0, chosen, False)
            pool, noise = pool[left], noise[left]
    raise DataError(
        f"autoregressive: {draws} drawn filters gave only {len(found)} of the {classes} classes one that the others' "
        f"filters answer to with {required:g}; set a lower response, such as 3, or more draws"
    )


def propose(count: int, source: Generator) -> Tensor:
    """Draw filters of one channel, [F, 3, 3]: Gaussian, the last entry 0, scaled to sum 1; some diverge."""
    filters = torch.randn(count, 9, generator=source, dtype=torch.float64)
    filters[:, -1] = 0
    return (filters / filters.sum(1, keepdim=True)).view(-1, 3, 3)


def usable(filters: Tensor, source: Generator, *, stable: bool) -> tuple[Tensor, Tensor]:
    """Leave out filters that are not finite or diverge.

    Args:
        filters: of one channel, [F, 3, 3].
        source: of the starts that they are tried on.
        stable: leave out, too, what would diverge on larger pictures.

    Returns:
        The other filters, and the noise that each was tried with, [F, trials, side, side].
    """
    starts = torch.randn(len(filters), TRIALS, start_entries(SIDE, SIDE), generator=source, dtype=torch.float64)
    alike = filters[:, None].expand(-1, TRIALS, 3, 3)
    noise = unroll(alike, starts, SIDE, SIDE)
    fit = (noise.flatten(2).norm(dim=2) <= NORM_BOUND).all(1)  # NaN is not
    fit &= filters.isfinite().flatten(1).all(1)
    if stable:
        fit &= does_not_grow(filters)
    return filters[fit], noise[fit]


def does_not_grow(filters: Tensor) -> Tensor:
    """Return which filters [F, 3, 3] give bounded noise on a picture of any size.

    Two conditions (DeCarlo and Strintzis): the recursion along a row dies out by itself, and no wave along a row grows
    from one row to the next. A wave of frequency t is multiplied by a root of a quadratic; 1 is allowed, as a filter of
    sum 1 keeps an even surface as it is.
    """
    before, last = filters[:, 2, 0], filters[:, 2, 1]
    dies_out = (before.abs() < 1) & (last.abs() < 1 - before)
    angles = torch.linspace(0, math.pi, 65, dtype=torch.float64)
    waves = torch.exp(-1j * torch.outer(torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64), angles))
    constant, linear, own = (filters.to(waves.dtype) @ waves).unbind(1)  # one [F, angles] a row of the filter
    own = 1 - own
    root = (linear.square() + 4 * own * constant).sqrt()
    growth = torch.maximum(((linear + root) / (2 * own)).abs(), ((linear - root) / (2 * own)).abs())
    return dies_out & (growth.amax(1) <= 1 + 1e-6)


def answers(filters: Tensor, noise: Tensor) -> Tensor:
    """Return how strongly filters [K, 3, 3, 3] answer to noise [N, 3, H, W]: sums of what is positive, [N, K].

    A filter that subtracts the value itself answers to its own noise with 0.
    """
    matching = filters.clone()
    matching[:, :, 2, 2] = -1
    return torch.nn.functional.conv2d(noise, matching).relu().flatten(2).sum(2)


def _fitting(noise: Tensor, found: Tensor, required: float) -> Tensor:
    """Return which sets of three channels fit, by the noise [sets, 3, trials, H, W] that they were tried with."""
    length = noise.movedim(2, 1).flatten(2).norm(dim=2)
    fit = (length <= NORM_BOUND).all(1)
    if len(found):
        last = noise[:, :, -1] / length[:, -1, None, None, None]
        fit &= (answers(found, last) >= required).all(1)
    return fit.nonzero().flatten()


def _starts(seed: int, ids: Sequence[str], entries: int) -> Tensor:
    def draw(source: Generator) -> Tensor:
        return torch.randn(3, entries, generator=source, dtype=torch.float64)

    return per_sample(seed, "autoregressive", ids, draw)
