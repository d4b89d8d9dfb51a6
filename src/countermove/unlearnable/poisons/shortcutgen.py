"""ShortcutGen: a generator learns noise that a random network already reads as the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from countermove.learning.augment import Window, padded
from countermove.learning.scoring import place
from countermove.nets.registry import check_network
from countermove.pixels.balls import Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.steps import frozen
from countermove.unlearnable.generators import (
    NoiseGenerator,
    adam_state,
    build_generator,
    check_training,
    kept_generator,
    moved_by,
    restore_adam,
)
from countermove.unlearnable.poison import Context

CROP = 4
CALIBRATION = 256


@dataclass(frozen=True, kw_only=True)
class ShortcutGen:
    """Generated shortcuts (SG, ShortcutGen), Van Vlijmen et al. 2022, arXiv:2211.01086.

    A classifier with random weights stays as it is. A generator learns noise for every picture so that this classifier
    names the noisy picture rightly; the noise is then a shortcut to the label that other networks find too.

    eps:        L-infinity radius; the generator ends in eps * tanh (paper: 8/255).
    epochs:     passes over the pictures (released code: 25, of 50,000 pictures). A generator has to recognise a class
                before it can name it: with the few steps of a small data set the effect is weak.
    batch_size: pictures a step (released code: 64).
    lr:         of Adam, whose first decay is 0.5 (released code: 2e-4).
    augment:    random crop and flip "before" the generator, "after" the noise was added, or "off" (released code:
                before; after is its "post augment").
    width:      channels of the generator at the full size.
    surrogate:  the random classifier, in evaluation mode (released code: resnet-18).
    calibrate:  its batch normalisation first takes the statistics of the clean pictures (released code: false). Without
                them the activations of a random network may shrink from layer to layer until no noise changes its
                answer, as those of small-cnn do.

    The noise comes from the picture alone, so new pictures without labels can be moved too (`on_test`).

    Differs from the released code, which does not run as it is: a smaller generator with group normalisation; noisy
    pictures are clipped before the classifier sees them.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "linf"
    streams: ClassVar[bool] = False

    eps: float = 8 / 255
    epochs: int = 10
    batch_size: int = 64
    lr: float = 2e-4
    augment: Literal["before", "after", "off"] = "before"
    width: int = 16
    surrogate: str = "small-cnn"
    calibrate: bool = True

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        check_network(self.surrogate)
        whole = {"epochs": self.epochs, "batch_size": self.batch_size, "width": self.width}
        check_training("shortcutgen", whole=whole, above_zero={"lr": self.lr})

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones; keep the generator in the context."""
        discriminator = context.fresh_network(self.surrogate, batch)
        if self.calibrate:
            calibrate(discriminator, batch.pictures, context.device)
        network = self._trained(batch, discriminator, context)
        context.kept[repr(self)] = network
        return moved_by(network, batch, context.device)

    def on_test(self, test: Batch, *, clean: Batch, moved: Batch, context: Context) -> Batch:
        """Return new pictures with the noise that the trained generator gives them; labels are not looked at."""
        return moved_by(kept_generator(self, context), test, context.device)

    def _trained(self, batch: Batch, discriminator: nn.Module, context: Context) -> NoiseGenerator:
        weights = context.generator("shortcutgen", "weights")
        side = batch.pictures.shape[-1]
        network = build_generator("resnet", width=self.width, side=side, eps=self.eps, generator=weights)
        place(network, context.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr, betas=(0.5, 0.999))
        source = context.generator("shortcutgen")
        losses: list[float] = []
        checkpoint = context.checkpoint("shortcutgen")
        found = checkpoint.load() if checkpoint is not None else None
        if found is not None:
            restore_adam("generator", network, optimizer, found[0])
            source.set_state(found[0]["random"])
            losses = found[1]["losses"]
        with frozen(discriminator):
            while len(losses) < self.epochs:
                total = 0.0
                for rows in torch.randperm(len(batch), generator=source).split(self.batch_size):
                    pictures, labels = batch.pictures[rows].to(context.device), batch.labels[rows].to(context.device)
                    loss = F.cross_entropy(discriminator(self._noisy(pictures, network, source)), labels)
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                    total += float(loss.detach()) * len(rows)
                losses.append(total / len(batch))
                if checkpoint is not None:
                    tensors = {**adam_state("generator", network, optimizer), "random": source.get_state()}
                    checkpoint.save_if_due(tensors, {"losses": losses})
        context.meter.samples += self.epochs * len(batch)
        context.meter.facts["loss"] = losses
        return network.requires_grad_(False)

    def _noisy(self, pictures: Tensor, network: NoiseGenerator, source: Generator) -> Tensor:
        """Return what the classifier sees of pictures [n, 3, H, W]."""
        if self.augment == "before":
            pictures = _cropped(pictures, source)
        noisy = (pictures + network(pictures)).clamp(0, 1)
        return _cropped(noisy, source) if self.augment == "after" else noisy


@torch.no_grad()
def calibrate(network: nn.Module, pictures: Tensor, device: str) -> None:
    """Give every batch normalisation of a network the statistics that it meets on pictures, in place."""
    layers = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    modes, momenta = [(module, module.training) for module in network.modules()], [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over all portions
    network.eval()
    for layer in layers:
        layer.train()
    for portion in pictures.split(CALIBRATION):
        network(portion.to(device))
    for module, mode in modes:
        module.training = mode
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _cropped(pictures: Tensor, source: Generator) -> Tensor:
    """Return pictures cropped and flipped at random, as a learner will see them; differentiable."""
    n, _, height, width = pictures.shape
    return Window.draw(n, height, width, crop=CROP, flip=True, generator=source).look(padded(pictures, CROP))
