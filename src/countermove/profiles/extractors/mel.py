"""Log-mel spectrograms. Legend: N clips of T samples, B bands, F frames."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError

_FLOOR = 1e-8  # of full power: -80 dB, far below speech and above the rounding to 16 bits


class LogMels(nn.Module):
    """Clips [N, T] in [-1, 1] to the logarithm of their power in mel bands, [N, B, F]; differentiable.

    Frames under a Hann window; power in units of the clip's own (white noise has its variance in every bin); triangular
    filters of height one, equally wide in mel (2595 log10(1 + f / 700)) up to half the rate. Silence gives log 1e-8.

    bands:  of the filter bank.
    rate:   samples a second.
    window: length of a frame in ms.
    hop:    from one frame to the next in ms.
    """

    hann: Tensor
    filters: Tensor

    def __init__(self, *, bands: int, rate: int, window: float = 25.0, hop: float = 10.0) -> None:
        """Compute window and filters.

        Raises:
            ConfigError: when a frame is shorter than eight samples, or a band so narrow that nothing falls into it.
        """
        super().__init__()
        self.bands = bands
        self.length, self.hop = round(rate * window / 1000), max(1, round(rate * hop / 1000))
        if self.length < 8:
            raise ConfigError(f"{window:g} ms are {self.length} samples at a rate of {rate}; take a longer window")
        # Half as long again: so much later a frame can be compared with itself in `recurrence`.
        self.size = 2 ** math.ceil(math.log2(1.5 * self.length))
        self.rate = rate
        self.register_buffer("hann", torch.hann_window(self.length), persistent=False)
        self.register_buffer("filters", filter_bank(bands, self.size, rate), persistent=False)

    def frames(self, samples: int) -> int:
        """Return how many frames so many samples have."""
        return 1 + (samples - self.length) // self.hop if samples >= self.length else 0

    def forward(self, clips: Tensor) -> Tensor:
        """Return the spectrogram."""
        return self.logarithms(self.power(clips))

    def power(self, clips: Tensor) -> Tensor:
        """Return the power of every frame in every bin, [N, F, size / 2 + 1]."""
        spectrum = torch.fft.rfft(clips.unfold(1, self.length, self.hop) * self.hann, n=self.size)
        return (spectrum.real.square() + spectrum.imag.square()) / self.hann.square().sum()

    def logarithms(self, power: Tensor) -> Tensor:
        """Return the spectrogram of what `power` gave."""
        return (power @ self.filters.T + _FLOOR).log().transpose(1, 2)

    def lags(self, count: int) -> Tensor:
        """Return periods in samples, evenly spread in pitch from 400 down to 80 Hz, int64; fewer at low rates.

        Raises:
            ConfigError: when half a frame is shorter than the longest.
        """
        periods = self.rate / torch.logspace(math.log10(400), math.log10(80), count, dtype=torch.float64)
        if count and float(periods[-1]) > self.length / 2 + 1:
            raise ConfigError("frames are shorter than two periods of 80 Hz; take window = 25 or more, or lags = 0")
        return periods.round().long().unique()

    def recurrence(self, power: Tensor, lags: Tensor) -> Tensor:
        """Return how alike frames are to themselves so much later, in [-1, 1] nearly, [N, F, L]; 0 in silence."""
        alike = torch.fft.irfft(power, n=self.size)
        own = torch.fft.irfft(torch.fft.rfft(self.hann, n=self.size).abs().square())
        return alike[..., lags] / (alike[..., :1] + _FLOOR) * (own[0] / own[lags])


def filter_bank(bands: int, size: int, rate: int) -> Tensor:
    """Return triangles over the bins of a Fourier transform of so many samples, [B, size / 2 + 1].

    Raises:
        ConfigError: when a band holds no bin.
    """
    edges = 700 * (10 ** (torch.linspace(0, _mel(rate / 2), bands + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.arange(size // 2 + 1, dtype=torch.float64) * rate / size
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = torch.minimum(rising, falling).clamp(min=0)
    if bands < 1 or bool((triangles.sum(1) == 0).any()):
        raise ConfigError(f"bands = {bands} is refused: a band between bins {rate / size:g} Hz apart would be empty")
    return triangles.float()


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)
