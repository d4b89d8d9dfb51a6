"""One-pixel shortcut: every class gets one position and one colour that its pictures rarely have there.

Legend: N pictures of 3 x H x W, K classes, P = H * W positions, 8 corners of the colour cube.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.balls import Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.unlearnable.poison import Context

Score = Literal["code", "paper"]

COLOURS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
"""The corners of the colour cube, black first and white last, [8, 3]."""

_ENTRIES_AT_ONCE = 1 << 17  # 1 MB, which stays in a cache
_LEAST_VARIANCE = 1e-12  # so that a pixel that never varies counts by how far it lies from the colour


class Pixel(NamedTuple):
    """One pixel of a class: where, and the index of its colour."""

    row: int
    column: int
    colour: int


@dataclass(frozen=True, kw_only=True)
class OnePixelShortcut:
    """One-pixel shortcut (OPS), Wu et al. 2023, arXiv:2205.12141.

    For every class it looks for a position and one of eight colours (each channel 0 or 1) from which the class's
    pictures lie far, and all about equally far; then it paints that pixel in all of them.

    eps:   number of pixels that change in a picture, the L0 radius (paper: 1).
    score: what is largest. With d = |colour - pixel|, one value a channel: "code" takes mean / standard deviation of d
           over pictures and channels alike, as the released code does, which made the published numbers; "paper" takes
           mean / variance, over pictures, of the sum of d over channels.

    It draws nothing and gives the same pixels for every seed. A position and colour that one class has, no other gets;
    classes choose in the order of their indices. A class of which there is no picture gets none.

    Differs from the released code: all scores come from the mean and covariance of each position's channels, as |c - x|
    is x or 1 - x; 8 P passes over the pictures become one. With eps above 1 a class's pixels lie at different
    positions, where the code may paint one twice. A pixel that never varies counts by its distance, not as NaN.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "l0"
    streams: ClassVar[bool] = False

    eps: int = 1
    score: Score = "code"

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="l0")
        if self.score not in ("code", "paper"):
            raise ConfigError(f"score = {self.score!r} is refused: it is 'code' or 'paper'")

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] that differ in eps pixels from the given ones.

        Raises:
            DataError: more pixels asked for than the pictures have.
        """
        pixels = find_pixels(batch, int(self.eps), self.score)
        context.meter.facts["pixels"] = {
            batch.classes[label]: [[p.row, p.column, COLOURS[p.colour].tolist()] for p in chosen]
            for label, chosen in pixels.items()
        }
        return paint(batch, pixels)

    def on_test(self, test: Batch, *, clean: Batch, moved: Batch, context: Context) -> Batch:
        """Return test pictures with the pixels that the train pictures of their classes got.

        Raises:
            DataError: test pictures of another size.
        """
        if test.pictures.shape[-2:] != clean.pictures.shape[-2:]:
            sizes = [" x ".join(str(n) for n in pictures.shape[-2:]) for pictures in (test.pictures, clean.pictures)]
            raise DataError(
                f"one-pixel-shortcut: test pictures of {sizes[0]} have no positions of train pictures of {sizes[1]}; "
                "give them one size"
            )
        return paint(test, find_pixels(clean, int(self.eps), self.score))


def find_pixels(batch: Batch, count: int, score: Score) -> dict[int, list[Pixel]]:
    """Choose the pixels of every class that has pictures, by label."""
    height, width = batch.pictures.shape[-2:]
    labels = batch.labels.unique().tolist()
    if count > height * width or count * len(labels) > len(COLOURS) * height * width:
        raise DataError(
            f"one-pixel-shortcut: {count} pixels for each of {len(labels)} classes are more than pictures of "
            f"{height} x {width} have positions and colours for; choose a smaller eps"
        )
    taken = torch.zeros(len(COLOURS), height * width, dtype=torch.bool)
    return {
        label: _choose(scores(batch.pictures[batch.labels == label], score), taken, count, width) for label in labels
    }


def _choose(worth: Tensor, taken: Tensor, count: int, width: int) -> list[Pixel]:
    """Take the best free pixels at different positions, the first of equals; marks them in taken, [8, P]."""
    worth = worth.masked_fill(taken, -torch.inf)
    pixels = []
    for _ in range(count):
        colour, position = divmod(int(worth.argmax()), worth.shape[1])
        taken[colour, position] = True
        worth[:, position] = -torch.inf
        pixels.append(Pixel(position // width, position % width, colour))
    return pixels


def paint(batch: Batch, pixels: dict[int, list[Pixel]]) -> Batch:
    """Return the pictures with their classes' pixels."""
    pictures = batch.pictures.clone()
    for label, chosen in pixels.items():
        rows = batch.labels == label
        for pixel in chosen:
            pictures[rows, :, pixel.row, pixel.column] = COLOURS[pixel.colour].to(pictures)
    return batch.with_pictures(pictures)


def scores(pictures: Tensor, score: Score) -> Tensor:
    """Return how well every colour does at every position, [8, P], from one pass over pictures [N, 3, H, W].

    With s = +1 where the colour's channel is 0 and -1 where it is 1, the deviation of a channel is c + s x. Its mean is
    c + s mean(x), its covariance with another channel s s' cov(x, x').
    """
    mean, covariance = moments(pictures)
    colours = COLOURS.to(mean)
    signs = 1 - 2 * colours
    deviation = colours[:, :, None] + signs[:, :, None] * mean  # [8, 3, P]
    if score == "paper":
        variance = torch.einsum("ka,kb,abp->kp", signs, signs, covariance)
        return deviation.sum(1) / variance.clamp_min(_LEAST_VARIANCE)
    within = covariance.diagonal().mean(1)  # [P]: the sign does not matter
    variance = within + deviation.var(1, correction=0)  # and that between the channels
    return deviation.mean(1) / variance.clamp_min(_LEAST_VARIANCE).sqrt()


def moments(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean [3, P] and covariance [3, 3, P] of the channels at every position of pictures [N, 3, H, W]."""
    values = pictures.flatten(2)
    total, squares, products = torch.zeros(3, *values.shape[1:], dtype=torch.float64)
    for few in values.split(max(1, _ENTRIES_AT_ONCE // values[0].numel())):
        centred = few.double() - 0.5  # keeps the differences below exact to 1e-16
        total += centred.sum(0)
        squares += (centred * centred).sum(0)
        products += (centred * centred.roll(1, dims=1)).sum(0)  # of a channel and the one before it
    mean = total / len(values)
    covariance = mean.new_empty(3, 3, mean.shape[1])
    for a, b in ((0, 2), (1, 0), (2, 1)):
        covariance[a, a] = squares[a] / len(values) - mean[a].square()
        covariance[a, b] = covariance[b, a] = products[a] / len(values) - mean[a] * mean[b]
    return mean + 0.5, covariance
