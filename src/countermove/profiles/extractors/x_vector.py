"""A small time-delay network trained on the public's clips."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import place
from countermove.nets.parts import seeded
from countermove.pixels.randomness import generator
from countermove.profiles.dataset import Medium, Profiles, as_float
from countermove.profiles.extractor import AT_ONCE, ItemNetwork, check_medium
from countermove.profiles.extractors.log_mel import deviation, spectrogram
from countermove.profiles.extractors.mel import LogMels
from countermove.profiles.extractors.parts import Standard, Standardised, labelled_public

KERNELS, DILATIONS = (5, 3, 3, 1, 1), (1, 2, 3, 1, 1)
_FRAMES = 1 + sum((kernel - 1) * dilation for kernel, dilation in zip(KERNELS, DILATIONS, strict=True))


@dataclass(frozen=True, kw_only=True)
class XVector:
    """A small x-vector network, Snyder et al. 2018, ICASSP.

    Five layers over time (kernels 5, 3, 3, 1, 1; dilations 1, 2, 3, 1, 1), mean and deviation over all frames, a linear
    layer, whose output is the features, and a classifier of what public clips show, which is thrown away.

    What it is trained to name decides what it hears. Measured on the set emodb with a logistic regression on the mean
    of a profile's features (women against men, 3 folds): 79% right when trained on sentences, 95% when trained on two
    speakers, a woman and a man. The paper's are speakers.

    bands:      of the log-mel spectrogram, standardised by the public's.
    width:      of the first four layers (paper: 512); the fifth has three times as many (paper: 1,500).
    dim:        features (paper: 512).
    epochs, lr: of Adam, batches of 32, half a cosine; every batch is cut to a random half or more of its frames.
    build:      another number is another draw of weights and order.

    Differs from the paper: widths; no mean subtraction a clip (loudness may tell something here); one layer, not two,
    between statistics and classifier; the features are standardised by the public's instead of LDA and PLDA.
    """

    version: ClassVar[int] = 1
    media: ClassVar[tuple[Medium, ...]] = ("speech",)
    stored: ClassVar[bool] = True
    learned: ClassVar[bool] = False
    bands: int = 40
    width: int = 64
    dim: int = 64
    epochs: int = 40
    lr: float = 2e-3
    build: int = 0

    def __post_init__(self) -> None:
        if min(self.bands, self.width, self.dim, self.epochs) < 1 or self.lr <= 0:
            raise ConfigError("extractor x-vector: bands, width, dim, epochs and lr are above 0")

    def blank(self, data: Profiles, *, seed: int) -> ItemNetwork:
        """Return the network whose weights are still to be read.

        Raises:
            ConfigError: when these are no clips, or clips too short.
        """
        return Standardised(self._network(data, seed), self.dim)

    def fit(self, data: Profiles, *, seed: int, device: str = "cpu") -> tuple[ItemNetwork, int]:
        """Train it on the public's clips.

        Raises:
            ConfigError: when these are no clips, or clips too short.
            DataError: when the public shows fewer than two classes.
        """
        body = self._network(data, seed)
        rows, labels, classes = labelled_public(data, "x-vector")
        place(body, device)
        with torch.no_grad():
            mels = torch.cat([body.mels(as_float(p, "speech").to(device)) for p in data.items[rows].split(AT_ONCE)])
        body.bands.learn(mels.transpose(1, 2).flatten(0, 1))
        with seeded(generator(seed, "x-vector head", self.build)):
            head = nn.Sequential(nn.BatchNorm1d(self.dim), nn.ReLU(), nn.Linear(self.dim, classes)).to(device)
        source = generator(seed, "extractor order", self.build)
        samples = self._train(body, head, mels, labels.to(device), source)
        network = Standardised(body, self.dim)
        network.learn(data.items[rows], "speech", device=device, least=0.1)
        return network.eval(), samples

    def _network(self, data: Profiles, seed: int) -> _TimeDelay:
        check_medium(self, data, "x-vector")
        mels = spectrogram(data, "x-vector", bands=self.bands, least=2 * _FRAMES)
        with seeded(generator(seed, "extractor", self.build)):
            return _TimeDelay(mels, self.width, self.dim)

    def _train(self, body: _TimeDelay, head: nn.Module, mels: Tensor, labels: Tensor, source: torch.Generator) -> int:
        recipe = Recipe(epochs=self.epochs, batch_size=32, lr=self.lr)
        both = nn.ModuleList([body, head]).train()
        optimizer = torch.optim.Adam(both.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        total, samples = recipe.epochs * math.ceil(len(mels) / recipe.batch_size), 0
        for epoch in range(recipe.epochs):
            order = torch.randperm(len(mels), generator=source).to(mels.device)
            for at, rows in enumerate(order.split(recipe.batch_size)):
                frames = int(torch.randint(mels.shape[2] // 2, mels.shape[2] + 1, (), generator=source))
                start = int(torch.randint(mels.shape[2] - frames + 1, (), generator=source))
                if len(rows) < 2:  # batch normalisation needs two
                    continue
                for group in optimizer.param_groups:
                    group["lr"] = recipe.lr_at(epoch * math.ceil(len(mels) / recipe.batch_size) + at, total)
                loss = F.cross_entropy(head(body.read(mels[rows, :, start : start + frames])), labels[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                samples += len(rows)
        return samples


class _TimeDelay(nn.Module):
    """Clips [N, T] to embeddings [N, dim]."""

    def __init__(self, mels: LogMels, width: int, dim: int) -> None:
        super().__init__()
        self.mels, self.bands = mels, Standard(mels.bands)
        layers, inputs = OrderedDict[str, nn.Module](), mels.bands
        for at, (kernel, dilation) in enumerate(zip(KERNELS, DILATIONS, strict=True)):
            outputs = 3 * width if at == len(KERNELS) - 1 else width
            layers[f"conv{at}"] = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)
            layers[f"relu{at}"] = nn.ReLU()
            layers[f"norm{at}"] = nn.BatchNorm1d(outputs)
            inputs = outputs
        self.frames, self.embedding = nn.Sequential(layers), nn.Linear(2 * inputs, dim)

    def forward(self, clips: Tensor) -> Tensor:
        return self.read(self.mels(clips))

    def read(self, mels: Tensor) -> Tensor:
        """Return embeddings of spectrograms [N, B, F]."""
        frames = self.frames(self.bands(mels.transpose(1, 2)).transpose(1, 2))
        return self.embedding(torch.cat([frames.mean(-1), deviation(frames)], dim=1))
