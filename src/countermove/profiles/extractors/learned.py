"""Networks that learn with the profiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.nets.parts import seeded
from countermove.nets.registry import build_network, check_network
from countermove.pixels.randomness import generator
from countermove.profiles.dataset import Medium, Profiles
from countermove.profiles.extractor import ItemNetwork, check_medium
from countermove.profiles.extractors.log_mel import spectrogram
from countermove.profiles.extractors.mel import LogMels

_FRAMES = 13  # what three convolutions, two of them with stride 2, need


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A fresh small network, trained within the profiler on the profiles' own labels: nothing is known beforehand.

    So are the features of attention-based multiple instance learning, Ilse et al. 2018, arXiv:1802.04712. Pictures go
    through a network of ours; clips through a log-mel spectrogram, three convolutions over time and their average.

    network: of ours, for pictures, as on the command line; its last layer gives the features.
    dim:     features.
    bands:   of the spectrogram, for speech.

    Differs from the paper, whose two convolutions without normalisation see 28 x 28 digits and give 500 features.
    """

    version: ClassVar[int] = 1
    media: ClassVar[tuple[Medium, ...]] = ("picture", "speech")
    stored: ClassVar[bool] = False
    learned: ClassVar[bool] = True
    network: str = "small-cnn"
    dim: int = 64
    bands: int = 40

    def __post_init__(self) -> None:
        check_network(self.network)
        if self.dim < 2 or self.bands < 1:
            raise ConfigError("extractor learned: dim is at least 2, bands at least 1")

    def blank(self, data: Profiles, *, seed: int) -> ItemNetwork:
        """Return the untrained network.

        Raises:
            ConfigError: when these are neither pictures nor clips, or too small ones.
        """
        check_medium(self, data, "learned")
        source = generator(seed, "extractor")
        if data.medium == "picture":
            return _Body(build_network(self.network, self.dim, data.items.shape[-1], source), self.dim)
        mels = spectrogram(data, "learned", bands=self.bands, least=_FRAMES)
        with seeded(source):
            return _Body(_OfSpeech(mels, self.dim), self.dim)

    def fit(self, data: Profiles, *, seed: int, device: str = "cpu") -> tuple[ItemNetwork, int]:
        """Return the untrained network: the profiler trains it.

        Raises:
            ConfigError: when these are neither pictures nor clips, or too small ones.
        """
        return self.blank(data, seed=seed).eval(), 0


class _Body(ItemNetwork):
    def __init__(self, body: nn.Module, dim: int) -> None:
        super().__init__()
        self.body, self._dim = body, dim

    @property
    def dim(self) -> int:
        return self._dim

    def forward(self, items: Tensor) -> Tensor:
        return self.body(items)


class _OfSpeech(nn.Module):
    """Clips [N, T] to [N, dim]."""

    def __init__(self, mels: LogMels, dim: int, width: int = 64) -> None:
        super().__init__()
        self.mels = mels
        self.frames = nn.Sequential(
            nn.BatchNorm1d(mels.bands),
            nn.Conv1d(mels.bands, width, 5, stride=2),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, stride=2),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, dim, 2),
        )

    def forward(self, clips: Tensor) -> Tensor:
        return self.frames(self.mels(clips)).mean(2)
