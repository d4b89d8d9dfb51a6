"""Statistics of log-mel spectrograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.profiles.dataset import Medium, Profiles
from countermove.profiles.extractor import ItemNetwork, check_medium
from countermove.profiles.extractors.mel import LogMels
from countermove.profiles.extractors.parts import Standardised, reference_rows

_CALM = 1e-3  # added to variances of logarithms, so that the deviation of silence has a gradient


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Mean and deviation over time of every band of a log-mel spectrogram. Nothing is trained.

    They are standardised by the public's clips, or by those of training profiles where there is no public.

    bands:       of the spectrogram.
    window, hop: length of a frame, and from one to the next, in ms.
    deltas:      whether the deviation of the change from frame to frame is a feature, too (its mean says nothing).
    """

    version: ClassVar[int] = 1
    media: ClassVar[tuple[Medium, ...]] = ("speech",)
    stored: ClassVar[bool] = True
    learned: ClassVar[bool] = False
    bands: int = 40
    window: float = 25.0
    hop: float = 10.0
    deltas: bool = True

    def __post_init__(self) -> None:
        if self.bands < 1 or self.window <= 0 or self.hop <= 0:
            raise ConfigError("extractor log-mel: bands, window and hop are above 0")

    def blank(self, data: Profiles, *, seed: int) -> ItemNetwork:
        """Return the network whose standardisation is still to be read.

        Raises:
            ConfigError: when these are no clips, or clips too short.
        """
        return self._network(data)

    def fit(self, data: Profiles, *, seed: int, device: str = "cpu") -> tuple[ItemNetwork, int]:
        """Return the network, standardised.

        Raises:
            ConfigError: when these are no clips, or clips too short.
        """
        network = self._network(data)
        network.learn(data.items[reference_rows(data)], "speech", device=device)
        return network.eval(), 0

    def _network(self, data: Profiles) -> Standardised:
        check_medium(self, data, "log-mel")
        mels = spectrogram(data, "log-mel", bands=self.bands, window=self.window, hop=self.hop, least=2)
        return Standardised(_Statistics(mels, deltas=self.deltas), self.bands * (3 if self.deltas else 2))


def spectrogram(
    data: Profiles, name: str, *, bands: int, least: int, window: float = 25.0, hop: float = 10.0
) -> LogMels:
    """Return the spectrogram of a set's clips.

    Raises:
        ConfigError: when they have fewer than the least number of frames.
    """
    mels = LogMels(bands=bands, rate=data.rate, window=window, hop=hop)
    if mels.frames(data.items.shape[1]) < least:
        raise ConfigError(
            f"extractor {name!r} needs clips of at least {least} frames; {data.items.shape[1]} samples at a rate of "
            f"{data.rate} are {mels.frames(data.items.shape[1])}"
        )
    return mels


def deviation(values: Tensor) -> Tensor:
    """Return the deviation over the last dimension, with a gradient where nothing changes."""
    return (values.var(-1, correction=0) + _CALM).sqrt()


class _Statistics(nn.Module):
    """Clips [N, T] to mean and deviation over time."""

    def __init__(self, mels: LogMels, *, deltas: bool) -> None:
        super().__init__()
        self.mels, self.deltas = mels, deltas

    def forward(self, clips: Tensor) -> Tensor:
        mels = self.mels(clips)
        found = [mels.mean(-1), deviation(mels)]
        return torch.cat([*found, deviation(mels.diff())] if self.deltas else found, dim=1)
