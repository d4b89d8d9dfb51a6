"""Statistics of log-mel spectrograms, and of the voice's pitch."""

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
_QUIET = 1e-8  # likewise, added to the power of a frame


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Mean and deviation over time of every band of a log-mel spectrogram, and at which pitch a voice repeats itself.

    Nothing is trained. Pitch is read off the autocorrelation of every frame, averaged with its loudness as the weight.
    Features are standardised by the public's clips, or by those of training profiles where there is no public.
    Measured on the set emodb (28 test profiles of women and men who are not in training, mean over 5 folds): a logistic
    regression on the mean of a profile's features is right for 89% without lags and for 96% with them.

    bands:       of the spectrogram.
    window, hop: length of a frame, and from one to the next, in ms.
    deltas:      whether the deviation of the change from frame to frame is a feature, too (its mean says nothing).
    lags:        periods of a voice between 400 and 80 Hz that are looked for (at low rates fewer); 0: none.
    """

    version: ClassVar[int] = 1
    media: ClassVar[tuple[Medium, ...]] = ("speech",)
    stored: ClassVar[bool] = True
    learned: ClassVar[bool] = False
    bands: int = 40
    window: float = 25.0
    hop: float = 10.0
    deltas: bool = True
    lags: int = 20

    def __post_init__(self) -> None:
        if self.bands < 1 or self.window <= 0 or self.hop <= 0 or self.lags < 0:
            raise ConfigError("extractor log-mel: bands, window and hop are above 0, lags not below")

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
        lags = mels.lags(self.lags)
        return Standardised(
            _Statistics(mels, deltas=self.deltas, lags=lags), self.bands * (3 if self.deltas else 2) + len(lags)
        )


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
    """Clips [N, T] to mean and deviation over time, and to the mean recurrence."""

    periods: Tensor

    def __init__(self, mels: LogMels, *, deltas: bool, lags: Tensor) -> None:
        super().__init__()
        self.mels, self.deltas = mels, deltas
        self.register_buffer("periods", lags, persistent=False)

    def forward(self, clips: Tensor) -> Tensor:
        power = self.mels.power(clips)
        mels = self.mels.logarithms(power)
        found = [mels.mean(-1), deviation(mels)]
        if self.deltas:
            found.append(deviation(mels.diff()))
        if len(self.periods):
            loudness = (power.mean(2, keepdim=True) + _QUIET).sqrt()
            heard = self.mels.recurrence(power, self.periods) * loudness
            found.append(heard.sum(1) / loudness.sum(1))
        return torch.cat(found, dim=1)
