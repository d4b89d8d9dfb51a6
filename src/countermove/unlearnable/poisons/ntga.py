"""Neural tangent generalisation attacks: what infinitely wide networks would learn, spoiled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.balls import Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.unlearnable.ntk import DenseKernel, regression_weights
from countermove.unlearnable.poison import Context


@dataclass(frozen=True, kw_only=True)
class Ntga:
    """Neural tangent generalization attacks (NTGA), Yuan and Wu 2021, PMLR 139, on the kernel of arXiv:1806.07572.

    The mean prediction of infinitely wide networks that learn from a block of pictures for a given time is known in
    closed form, as a kernel regression. Sign steps on the block's pictures raise its loss on other pictures.

    eps:        L-infinity radius (paper: 8/255 for CIFAR-10, 0.1 for ImageNet).
    steps:      sign steps (released code: 10).
    step:       length of one (released code: 1.1 eps / steps); 0 means that.
    time:       how long the networks learn: steps of gradient descent with rate one on half the mean squared error over
                pictures and classes (released code: 64; its notes name 4096 as the best for the dense kernel on
                CIFAR-10).
    kernel:     "dense": fully connected networks.
    layers:     their hidden layers; a linear readout follows (released code: 5 without a readout).
    activation: "relu" or "erf" (released code: erf).
    weight_var, bias_var: variances of weights, times the layer's width, and of biases (released code: 1.76 and 0.18).
    diag_reg:   added to the diagonal of the block's kernel, as a share of its mean (released code: 1e-4).
    block:      pictures learned from at once; memory grows with its square, time with its third power (paper: 512).
    validation: pictures of other blocks, as they were, whose loss is raised (paper: 10,000 held out). With few, the
                noise misleads about these only.
    chunk:      of these in memory at once.

    A block is attacked by itself: its noise depends on its own pictures and on its validation pictures only. Blocks are
    drawn at random, equally large, two at least. All of it is computed in float64; samples count the pictures that
    enter a kernel in each step. New pictures are further blocks, judged by the pictures that the poison was made for.

    Differs from the released code: it passes the clean pictures and the whole radius to each of its ten steps, so they
    are one step of eps, repeated; ours go on from each other and are projected. It holds 10,000 pictures out, which
    stay as they are, and drops the last incomplete block; ours changes all pictures. The convolutional kernel is not
    here.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "linf"
    streams: ClassVar[bool] = False

    eps: float = 8 / 255
    steps: int = 10
    step: float = 0.0
    time: float = 4096.0
    kernel: Literal["dense"] = "dense"
    layers: int = 3
    activation: Literal["relu", "erf"] = "relu"
    weight_var: float = 1.76
    bias_var: float = 0.18
    diag_reg: float = 1e-4
    block: int = 512
    validation: int = 2048
    chunk: int = 512

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        if min(self.steps, self.layers, self.block, self.validation, self.chunk) < 1:
            raise ConfigError("ntga: steps, layers, block, validation and chunk are at least 1")
        numbers = {"step": self.step, "bias_var": self.bias_var, "time": self.time, "weight_var": self.weight_var}
        for name, value in {**numbers, "diag_reg": self.diag_reg}.items():
            zero = name in ("step", "bias_var")
            if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
                least = "not negative" if zero else "above 0"
                raise ConfigError(f"ntga: {name} = {value:g} is refused: it must be finite and {least}")

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones."""
        if len(batch) < 2:
            raise DataError(f"ntga needs at least two pictures: one spoils what the other teaches; got {len(batch)}")
        rounds = blocks(len(batch), self.block, self.validation, context.generator("ntga"))
        pictures, done = batch.pictures.clone(), 0
        checkpoint = context.checkpoint("ntga")
        found = checkpoint.load() if checkpoint is not None else None
        if found is not None:
            pictures, done = found[0]["pictures"], found[1]["blocks"]
        for i, (rows, others) in enumerate(rounds[done:], start=done + 1):
            pictures[rows] = self.attack(batch.select(rows), batch.select(others), context.device)
            if checkpoint is not None:
                checkpoint.save_if_due({"pictures": pictures}, {"blocks": i})
        context.meter.samples += self.steps * sum(len(rows) + len(others) for rows, others in rounds)
        return batch.with_pictures(pictures)

    def on_test(self, test: Batch, *, clean: Batch, moved: Batch, context: Context) -> Batch:
        """Return new pictures attacked as further blocks, judged by the clean pictures that the poison was made for."""
        source = context.generator("ntga", "test")
        pictures = test.pictures.clone()
        for rows in torch.randperm(len(test), generator=source).split(self.block):
            others = clean.select(torch.randperm(len(clean), generator=source)[: self.validation])
            pictures[rows] = self.attack(test.select(rows), others, context.device)
        return test.with_pictures(pictures)

    def attack(self, block: Batch, others: Batch, device: str) -> Tensor:
        """Return the block's pictures after all steps that raise the loss on others."""
        step = self.step or 1.1 * self.eps / self.steps
        clean = block.pictures.to(device, torch.float64)
        seen = others.pictures.to(clean).flatten(1)
        classes = len(block.classes)
        targets = F.one_hot(block.labels, classes).to(clean)
        labels = others.labels.to(device)
        x = clean
        for _ in range(self.steps):
            climb = self.gradient(x.flatten(1), targets, seen, labels).view_as(x)
            x = x + step * climb.sign()
            x = clean + (x - clean).clamp(-self.eps, self.eps)
            x = x.clamp(0, 1)
        return x.to(block.pictures)

    def gradient(self, learned: Tensor, targets: Tensor, others: Tensor, labels: Tensor) -> Tensor:
        """Return the gradient [N, D] at the learned pictures of the mean cross-entropy on the others.

        The others are seen chunk by chunk, so that memory is bounded; the result is that of seeing them at once.

        Args:
            learned: pictures as rows, float64 [N, D].
            targets: their classes, one-hot [N, K].
            others: pictures as rows, [M, D].
            labels: their classes, [M].
        """
        kernel = DenseKernel(
            layers=self.layers, activation=self.activation, weight_var=self.weight_var, bias_var=self.bias_var
        )
        x = learned.detach().requires_grad_()
        with torch.enable_grad():
            weights = regression_weights(kernel(x, x), targets, time=self.time, diag_reg=self.diag_reg)
            leaf = weights.detach().requires_grad_()
            total, by_weights = torch.zeros_like(x), torch.zeros_like(leaf)
            for rows, named in zip(others.split(self.chunk), labels.split(self.chunk), strict=True):
                loss = F.cross_entropy(kernel(rows, x) @ leaf, named, reduction="sum") / len(labels)
                direct, through = torch.autograd.grad(loss, (x, leaf))
                total += direct
                by_weights += through
            return total + torch.autograd.grad(weights, x, by_weights)[0]


def blocks(n: int, size: int, validation: int, source: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Part n positions at random in blocks of at most that size, and draw validation positions outside of each.

    The blocks are equally large, to one, and two at least; where fewer positions than asked for lie outside, the
    validation positions are all of them.
    """
    parts = torch.randperm(n, generator=source).tensor_split(max(2, math.ceil(n / size)))
    drawn = []
    for rows in parts:
        outside = torch.ones(n, dtype=torch.bool)
        outside[rows] = False
        places = outside.nonzero().flatten()
        drawn.append((rows, places[torch.randperm(len(places), generator=source)[:validation]]))
    return drawn
